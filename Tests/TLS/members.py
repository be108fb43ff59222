"""Members with TLS on both ports."""

import contextlib
from collections.abc import Iterator

from harness import paths
from pki import Authority, Pair
from secure import SecureServer


class Member(SecureServer):
    """One of several; `flags` come last and so win."""

    def __init__(self, authority: Authority, pair: Pair, client: Pair, name: str,
                 binary: str = paths.MARTLET, flags: list[str] | None = None):
        super().__init__(authority, client, flags, name=name)
        self.binary = binary
        self.pair = pair
        self.peer_url = f"https://127.0.0.1:{self.peer_port}"
        self.initial = ""

    def arguments(self) -> list[str]:
        pair, ca = self.pair, self.authority.ca
        return [
            self.binary, "--name", self.name, "--data-dir", str(self.data_dir),
            "--initial-advertise-peer-urls", self.peer_url, "--listen-peer-urls", self.peer_url,
            "--advertise-client-urls", self.endpoint, "--listen-client-urls", self.endpoint,
            "--initial-cluster-token", "etcd-cluster-1", "--initial-cluster", self.initial,
            "--initial-cluster-state", "new", "--client-cert-auth", "--trusted-ca-file", ca,
            "--cert-file", pair.crt, "--key-file", pair.key, "--peer-client-cert-auth",
            "--peer-trusted-ca-file", ca, "--peer-cert-file", pair.crt, "--peer-key-file",
            pair.key, *self.flags,
        ]


@contextlib.contextmanager
def cluster(members: list[Member], waits: bool = True) -> Iterator[list[Member]]:
    """They form a cluster and, if `waits`, are all healthy."""
    for member in members:
        member.initial = ",".join(f"{each.name}={each.peer_url}" for each in members)
    try:
        for member in members:
            member.spawn()
        for member in members if waits else []:
            member.wait_ready()
        yield members
    finally:
        for member in members:
            member.close()

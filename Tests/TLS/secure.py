"""A server whose client port has TLS, and etcdctl with certificates."""

import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable

from harness import paths
from harness.server import Server, clean_environment
from pki import Authority, Pair

WAIT_SECONDS = 10


class SecureServer(Server):
    """Speaks https on `endpoint`; `client` is what its own probes show."""

    def __init__(self, authority: Authority, client: Pair | None = None,
                 flags: list[str] | None = None, **options: object):
        super().__init__(paths.MARTLET, flags, **options)
        self.authority = authority
        self.client = client

    @property
    def endpoint(self) -> str:
        return f"https://{self.address}"

    def context(self, client: Pair | None = None) -> ssl.SSLContext:
        """What a client trusts and shows."""
        found = ssl.create_default_context(cafile=self.authority.ca)
        if client or self.client:
            pair = client or self.client
            found.load_cert_chain(pair.crt, pair.key)
        return found

    def answers(self, client: Pair | None = None) -> bool:
        """Whether a client that shows that certificate is served."""
        try:
            with self.context(client).wrap_socket(
                    socket.create_connection(("127.0.0.1", self.client_port), 5),
                    server_hostname="localhost") as connection:
                connection.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
                return b"etcdserver" in connection.recv(4096)
        except (ssl.SSLError, ConnectionError):
            return False

    def http(self, path: str, timeout: float = 5) -> tuple[int, str]:
        with urllib.request.urlopen(self.endpoint + path, timeout=timeout,
                                    context=self.context()) as answer:
            return answer.status, answer.read().decode()


def server_flags(authority: Authority, pair: Pair, demands: bool = True) -> list[str]:
    """What secures the client port."""
    flags = ["--cert-file", pair.crt, "--key-file", pair.key]
    if demands:
        flags += ["--client-cert-auth", "--trusted-ca-file", authority.ca]
    return flags


def etcdctl(server: Server, *arguments: str, ca: str = "", client: Pair | None = None,
            endpoint: str = "", binary: str = paths.ETCDCTL) -> subprocess.CompletedProcess:
    """Runs etcdctl against `endpoint`, which is the server's own when not given."""
    line = [binary, "--endpoints", endpoint or server.endpoint, "--command-timeout=2s",
            "--dial-timeout=2s"]
    if ca:
        line += ["--cacert", ca]
    if client:
        line += ["--cert", client.crt, "--key", client.key]
    return subprocess.run([*line, *arguments], capture_output=True, text=True,
                          timeout=WAIT_SECONDS, env=clean_environment() | {"ETCDCTL_API": "3"})


def eventually(what: Callable[[], bool], seconds: float = WAIT_SECONDS) -> bool:
    """Whether `what` comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.1)
    return what()


def works(result: subprocess.CompletedProcess) -> bool:
    return result.returncode == 0

"""Three members that hold Patroni's state: in clear text, with users, or over TLS."""

import ssl
import urllib.request
from pathlib import Path

import grpc
import guide
from cluster import Cluster, Member, wait_until
from harness.protos import messages
from pki import Authority, Pair
from secure import server_flags

HEADINGS = {"clear": "Clear text", "users": "User and password", "tls": "TLS"}


class StoreMember(Member):
    """A member that can be asked who leads whatever guards its client port."""

    def __init__(self, kind: str, number: int, authority: Authority | None):
        self.context = None
        super().__init__(kind, number)
        if authority:
            pair = authority.issue(self.name, "DNS:localhost,IP:127.0.0.1")
            self.flags = server_flags(authority, pair)
            self.context = ssl.create_default_context(cafile=authority.ca)
            self.context.load_cert_chain(pair.crt, pair.key)

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.context else 'http'}://{self.address}"

    def http(self, path: str, timeout: float = 5) -> tuple[int, str]:
        if not self.context:
            return super().http(path, timeout)
        with urllib.request.urlopen(self.endpoint + path, timeout=timeout,
                                    context=self.context) as answer:
            return answer.status, answer.read().decode()

    def leads(self) -> bool:
        try:
            return "\netcd_server_is_leader 1\n" in self.http("/metrics", timeout=2)[1]
        except OSError:
            return False


class Store(Cluster):
    """`kind` is martlet or etcd, `variant` a key of HEADINGS, `folder` where certificates go."""

    def __init__(self, kind: str, variant: str, folder: Path):
        super().__init__([])
        self.kind = kind
        self.variant = variant
        self.folder = folder
        self.client: Pair | None = None
        self.user: tuple[str, str] | None = None
        self.authority = Authority(folder / "pki", "ec") if variant == "tls" else None
        if self.authority:
            self.client = self.authority.issue("patroni")
        self.members = [StoreMember(kind, n, self.authority) for n in (1, 2, 3)]
        initial = ",".join(member.initial for member in self.members)
        for member in self.members:
            member.initial = initial

    def start(self) -> "Store":
        self.start_all()
        if self.variant == "users":
            guide.run(guide.block(HEADINGS["users"], "sh"), self.folder, **self.environment())
            section = guide.section(HEADINGS["users"])["etcd3"]
            self.user = section["username"], section["password"]
        return self

    def environment(self) -> dict[str, str]:
        """What etcdctl needs to reach it as Patroni does."""
        found = {"ETCDCTL_API": "3",
                 "ETCDCTL_ENDPOINTS": ",".join(each.endpoint for each in self.members)}
        if self.authority:
            found |= {"ETCDCTL_CACERT": self.authority.ca, "ETCDCTL_CERT": self.client.crt,
                      "ETCDCTL_KEY": self.client.key}
        if self.user:
            found["ETCDCTL_USER"] = ":".join(self.user)
        return found

    def start_all(self) -> None:
        """Starts members that do not run, with what they have."""
        for member in self.members:
            if not member.is_running:
                member.spawn()
        for member in self.members:
            member.wait_ready()

    def leader(self, among: list[Member] | None = None) -> Member:
        found: list[Member] = []

        def is_found() -> bool:
            found[:] = [each for each in (among or self.running()) if each.leads()]
            return bool(found)

        wait_until(is_found, "a leader of the store")
        return found[0]

    def channel(self) -> grpc.Channel:
        """To the first member, with what its port demands."""
        address = self.members[0].address
        if not self.authority:
            return grpc.insecure_channel(address)
        files = (self.authority.ca, self.client.key, self.client.crt)
        return grpc.secure_channel(
            address, grpc.ssl_channel_credentials(*(Path(file).read_bytes() for file in files)))

    def token(self, channel: grpc.Channel) -> list[tuple[str, str]]:
        """What calls have to carry, where there are users."""
        if not self.user:
            return []
        name, password = self.user
        answer = messages().rpc_grpc.AuthStub(channel).Authenticate(
            messages().rpc.AuthenticateRequest(name=name, password=password))
        return [("token", answer.token)]

    def settings(self, folder: Path) -> dict:
        """Patroni's section for this store: the guide's, with our addresses and files."""
        found = guide.section(HEADINGS[self.variant])
        assert set(found) == {"etcd3"}
        found["etcd3"]["hosts"] = [each.address for each in self.members]
        if self.authority:
            files = {"cacert": self.authority.ca, "cert": self.client.crt, "key": self.client.key}
            for name, source in files.items():
                assert name in found["etcd3"], f"the guide lacks {name}"
                copy = folder / f"{name}.pem"
                copy.write_bytes(Path(source).read_bytes())
                found["etcd3"][name] = str(copy)
        return found

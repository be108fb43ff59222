"""Clusters of members of either kind, on loopback or each in a network of its own."""

import json
import signal
import time
import urllib.request
from collections.abc import Callable

import grpc
from harness import paths
from harness.protos import Client, messages
from harness.server import Server

BINARIES = {"martlet": paths.MARTLET, "etcd": paths.ETCD}
SETTLE_SECONDS_MAX = 20.0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = SETTLE_SECONDS_MAX) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


class Member(Server):
    """One member: its process, ports and data, over restarts and changes of kind."""

    def __init__(self, kind: str, number: int, network: object | None = None,
                 flags: list[str] | None = None):
        super().__init__(BINARIES[kind], flags, name=f"m{number}", own_peer_url=True)
        self.kind = kind
        self.number = number
        self.network = network
        self.host = network.host(number) if network else "127.0.0.1"
        if network:
            self.client_port, self.peer_port = 2379, 2380
        self.peer_url = f"http://{self.host}:{self.peer_port}"
        self.initial = f"{self.name}={self.peer_url}"
        self.state = "new"
        self._client: Client | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.client_port}"

    def arguments(self) -> list[str]:
        prefix = self.network.prefix(self.number) if self.network else []
        return [
            *prefix, self.binary, "--name", self.name, "--data-dir", str(self.data_dir),
            "--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint,
            "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
            "--initial-cluster", self.initial, "--initial-cluster-state", self.state,
            "--log-level", "info", *self.flags,
        ]

    @property
    def client(self) -> Client:
        """Stubs on a channel that is kept."""
        if self._client is None:
            self._client = Client(self.address)
        return self._client

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def status(self, timeout: float = 2):
        return self.client.maintenance.Status(messages().rpc.StatusRequest(), timeout=timeout)

    def leads(self) -> bool:
        """Whether it says of itself that it leads."""
        try:
            status = self.status(timeout=1)
        except grpc.RpcError:
            return False
        return status.leader == status.header.member_id != 0

    @property
    def id(self) -> int:
        return self.status().header.member_id

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def peers_know(self) -> list[dict]:
        """The members as `/members` of the peer port has them."""
        with urllib.request.urlopen(self.peer_url + "/members", timeout=5) as answer:
            return json.loads(answer.read())

    def close(self) -> None:
        if self._client:
            self._client.close()
        super().close()

    def put(self, key: str, value: str, timeout: float = 10):
        return self.client.kv.Put(
            messages().rpc.PutRequest(key=key.encode(), value=value.encode()), timeout=timeout)

    def get(self, key: str, timeout: float = 10, serializable: bool = False) -> str | None:
        answer = self.client.kv.Range(
            messages().rpc.RangeRequest(key=key.encode(), serializable=serializable),
            timeout=timeout)
        return answer.kvs[0].value.decode() if answer.kvs else None


class Cluster:
    """Members that start together, and those that join later."""

    def __init__(self, kinds: list[str], network: object | None = None,
                 flags: list[str] | None = None):
        self.flags = flags or []
        self.network = network
        self.members = [Member(kind, n + 1, network, list(self.flags))
                        for n, kind in enumerate(kinds)]
        initial = ",".join(member.initial for member in self.members)
        for member in self.members:
            member.initial = initial

    def start(self) -> "Cluster":
        for member in self.members:
            member.spawn()
        for member in self.members:
            member.wait_ready()
        self.leader()
        return self

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.close()

    def __getitem__(self, number: int) -> Member:
        return next(member for member in self.members if member.number == number)

    def of(self, kind: str) -> list[Member]:
        return [member for member in self.members if member.kind == kind]

    def running(self) -> list[Member]:
        return [member for member in self.members if member.is_running]

    def leader(self, among: list[Member] | None = None) -> Member:
        """The one member that leads."""
        found: list[Member] = []

        def is_found() -> bool:
            found[:] = [each for each in (among or self.running()) if each.leads()]
            return bool(found)

        wait_until(is_found, "a leader")
        return max(found, key=lambda member: member.status().raftTerm)

    def move_leader(self, target: Member) -> None:
        if target.leads():
            return
        self.leader().client.maintenance.MoveLeader(
            messages().rpc.MoveLeaderRequest(targetID=target.id), timeout=10)
        wait_until(target.leads, f"{target.name} leads")

    def settle(self) -> int:
        """Waits until all have applied the same; gives a revision that all have, though some may
        have gone on since."""
        def applied() -> set[int]:
            return {member.status().raftAppliedIndex for member in self.running()}

        def is_settled() -> bool:
            try:
                return len(applied()) == 1
            except grpc.RpcError:
                return False

        wait_until(is_settled, "all have applied the same")
        return min(member.status().header.revision for member in self.running())

    def check_hashes(self) -> int:
        """HashKV is equal on all running members, at a revision that all have."""
        revision = self.settle()
        found = {}
        for member in self.running():
            try:
                answer = member.client.maintenance.HashKV(
                    messages().rpc.HashKVRequest(revision=revision), timeout=30)
                found[f"{member.name} ({member.kind})"] = (answer.hash, answer.compact_revision)
            except grpc.RpcError as error:
                status = member.status()
                found[f"{member.name} ({member.kind})"] = (
                    error.details(), status.header.revision, status.raftAppliedIndex)
        assert len(set(found.values())) == 1, f"hashes differ at {revision}: {found}"
        return revision

    def add(self, kind: str, number: int, learner: bool = False,
            flags: list[str] | None = None) -> Member:
        """Adds a member to the membership and starts it."""
        member = Member(kind, number, self.network, [*self.flags, *(flags or [])])
        request = messages().rpc.MemberAddRequest(peerURLs=[member.peer_url], isLearner=learner)
        self.change(lambda each: each.client.cluster.MemberAdd(request, timeout=10))
        self.members.append(member)
        member.initial = ",".join(f"{each.name}={each.peer_url}" for each in self.members)
        member.state = "existing"
        member.spawn()
        return member

    def remove(self, member: Member) -> None:
        """Removes a member from the membership; its process is left to end by itself."""
        id = member_id(self, member)
        others = [each for each in self.running() if each is not member]
        request = messages().rpc.MemberRemoveRequest(ID=id)
        self.change(lambda each: each.client.cluster.MemberRemove(request, timeout=10), others)
        self.members.remove(member)

    def change(self, call: Callable[[Member], object], among: list[Member] | None = None) -> None:
        """Makes a change of the membership; the cluster may need a while to be healthy for it, and
        a learner to catch up."""
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while True:
            try:
                call((among or self.running())[0])
                return
            except grpc.RpcError as error:
                retriable = any(text in error.details() for text in (
                    "unhealthy", "not enough", "in sync with leader"))
                if not retriable or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def member_id(cluster: Cluster, member: Member) -> int:
    """The ID under which the membership has a member."""
    for each in cluster.running():
        if each is member:
            continue
        for known in each.peers_know():
            if member.peer_url in known["peerURLs"]:
                return known["id"]
    raise AssertionError(f"{member.name} is no member")



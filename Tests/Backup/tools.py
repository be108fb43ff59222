"""The programs that make, read and restore snapshots, and what a server holds."""

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from harness import paths
from harness.protos import Client, messages
from harness.server import Server, clean_environment

TOOL_SECONDS_MAX = 60


@dataclass(frozen=True)
class Tool:
    """One program, with the words that stand before its command."""

    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name

    def run(self, *arguments: object) -> subprocess.CompletedProcess:
        """Runs it to its end, whatever that is."""
        return subprocess.run(
            [*self.command, *map(str, arguments)], capture_output=True, text=True,
            timeout=TOOL_SECONDS_MAX, env=clean_environment() | dict(self.environment))

    def __call__(self, *arguments: object) -> str:
        """Runs it well and gives what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{self} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout


API_3 = (("ETCDCTL_API", "3"),)
ETCDCTL_34 = Tool("etcdctl-3.4", (paths.ETCDCTL_34,), API_3)
ETCDCTL = Tool("etcdctl-3.5", (paths.ETCDCTL,))
ETCDUTL = Tool("etcdutl-3.5", (paths.ETCDUTL,))
MARTLET = Tool("martlet", (paths.MARTLET,))
RESTORERS = [ETCDCTL_34, ETCDCTL, ETCDUTL, MARTLET]
ETCDS = {"3.4": paths.ETCD_34, "3.5": paths.ETCD}


def etcd(version: str, **options: object) -> Server:
    """A server of real etcd, not started yet."""
    flags = ["--logger=zap"] if version == "3.4" else []
    return Server(ETCDS[version], flags, **options)


def save(server: Server, path: Path, tool: Tool = ETCDCTL) -> Path:
    """A snapshot of a running server."""
    printed = tool("snapshot", "save", path, "--endpoints", server.address)
    assert f"Snapshot saved at {path}" in printed
    return path


def restore_flags(server: Server) -> list[str]:
    """What makes a data dir that `server` starts on."""
    return ["--name", server.name, "--data-dir", str(server.data_dir),
            "--initial-cluster", f"{server.name}={server.peer_url}",
            "--initial-advertise-peer-urls", server.peer_url]


@dataclass
class State:
    """What a server holds, as far as it has to survive a move."""

    revision: int
    keys: list[bytes]
    leases: dict[int, tuple[int, set[bytes]]]  # the granted TTL, the keys
    hashes: tuple[int, int]  # HashKV, compact revision
    cluster: int = 0  # its ID
    members: list[tuple[int, str, tuple[str, ...]]] = field(default_factory=list)

    @staticmethod
    def of(server: Server) -> "State":
        m = messages().rpc
        with Client(server.address) as client:
            every = client.kv.Range(m.RangeRequest(key=b"\0", range_end=b"\0"))
            leases = {}
            for lease in client.lease.LeaseLeases(m.LeaseLeasesRequest()).leases:
                found = client.lease.LeaseTimeToLive(
                    m.LeaseTimeToLiveRequest(ID=lease.ID, keys=True))
                assert found.TTL > 0
                leases[lease.ID] = (found.grantedTTL, set(found.keys))
            answer = client.maintenance.HashKV(m.HashKVRequest(revision=every.header.revision))
            members = client.cluster.MemberList(m.MemberListRequest()).members
            return State(
                every.header.revision, [kv.SerializeToString() for kv in every.kvs], leases,
                (answer.hash, answer.compact_revision),
                every.header.cluster_id,
                sorted((member.ID, member.name, tuple(member.peerURLs)) for member in members))

    def without_members(self) -> "State":
        """And without the IDs: what a restored cluster has anew."""
        return State(self.revision, self.keys, self.leases, self.hashes)


def put(client: Client, key: bytes, value: bytes, lease: int = 0) -> int:
    answer = client.kv.Put(messages().rpc.PutRequest(key=key, value=value, lease=lease))
    return answer.header.revision


def delete(client: Client, key: bytes, end: bytes = b"") -> int:
    request = messages().rpc.DeleteRangeRequest(key=key, range_end=end)
    return client.kv.DeleteRange(request).header.revision


def compact(client: Client, revision: int) -> None:
    client.kv.Compact(messages().rpc.CompactionRequest(revision=revision, physical=True))


def fill(server: Server) -> None:
    """Some of everything: versions, deletions, transactions, leases, a compaction."""
    m = messages().rpc
    with Client(server.address) as client:
        lease = client.lease.LeaseGrant(m.LeaseGrantRequest(TTL=9000)).ID
        client.lease.LeaseGrant(m.LeaseGrantRequest(TTL=7000, ID=77))
        for n in range(40):
            put(client, b"many/%d" % n, b"x" * n, lease if n % 5 == 0 else 0)
        put(client, b"empty", b"")
        put(client, b"huge", os.urandom(600_000))
        put(client, bytes(range(1, 255)), bytes(range(256)))
        client.kv.Txn(m.TxnRequest(success=[
            m.RequestOp(request_put=m.PutRequest(key=b"txn/%d" % n)) for n in range(5)]))
        middle = put(client, b"many/1", b"again")
        delete(client, b"many/2")
        compact(client, middle)
        delete(client, b"many/30", b"many/35")
        put(client, b"many/31", b"back")
        put(client, b"huge", b"small now")


def grow(server: Server, count: int = 20) -> None:
    """Further changes."""
    with Client(server.address) as client:
        for n in range(count):
            put(client, b"later/%d" % n, b"y" * n)
        delete(client, b"later/3")


def number(text: str, name: str) -> int:
    """A number of `-w fields`."""
    return int(re.search(rf'"{name}" : (\d+)', text).group(1))

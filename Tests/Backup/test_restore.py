"""Every `snapshot restore` makes a data dir that Martlet starts from, and real etcd starts from
what Martlet saved."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from harness import paths
from harness.protos import Client, messages
from harness.server import Server

from tools import (ETCDCTL, ETCDCTL_34, ETCDUTL, MARTLET, RESTORERS, State, Tool, etcd, fill, grow,
                   number, put, restore_flags, save)

SOURCES = ["martlet", "3.5", "3.4"]


@pytest.mark.parametrize("tool", RESTORERS, ids=str)
@pytest.mark.parametrize("source", SOURCES)
def test_martlet_starts_on_what_each_tool_restores(
        snapshots: dict, source: str, tool: Tool) -> None:
    path, before = snapshots[source]
    with Server(paths.MARTLET) as server:
        tool("snapshot", "restore", path, *restore_flags(server))
        after = State.of(server.start())
        assert after.without_members() == before.without_members()
        assert [member[1:] for member in after.members] == [("m1", (server.peer_url,))]
        grow(server)
        grown = State.of(server)
        server.stop()
        assert State.of(server.start()) == grown


@pytest.mark.parametrize("tool", RESTORERS[:3], ids=str)
def test_etcd_starts_on_martlets_snapshot(snapshots: dict, tool: Tool, tmp_path: Path) -> None:
    """And goes on: it writes, starts again and is saved."""
    path, before = snapshots["martlet"]
    with etcd("3.4" if "3.4" in tool.name else "3.5") as server:
        tool("snapshot", "restore", path, *restore_flags(server))
        after = State.of(server.start())
        if "3.4" in tool.name:  # 3.4 hashes otherwise
            after.hashes = before.hashes
        assert after.without_members() == before.without_members()
        grow(server)
        grown = State.of(server)
        assert grown.revision > before.revision
        server.stop()
        assert State.of(server.start()) == grown
        saved = save(server, tmp_path / "db", ETCDCTL_34 if "3.4" in tool.name else ETCDCTL)
        status = ETCDUTL("snapshot", "status", saved, "-w", "fields")
        assert number(status, "Revision") == grown.revision


def test_all_tools_derive_the_same_members(snapshots: dict) -> None:
    path = snapshots["3.5"][0]
    found = []
    for tool in RESTORERS:
        with Server(paths.MARTLET, ["--initial-cluster-token=t"]) as server:
            tool("snapshot", "restore", path, *restore_flags(server),
                 "--initial-cluster-token", "t")
            found.append(State.of(server.start()).members)
    assert found == found[:1] * len(RESTORERS)


@pytest.mark.parametrize("program", ["martlet", "etcd", "both"])
@pytest.mark.parametrize("tool", RESTORERS, ids=str)
def test_a_cluster_of_three(snapshots: dict, tool: Tool, program: str) -> None:
    """Three members that find each other: of Martlet, of etcd, or two of these and one of those.
    What Martlet's restore makes goes to etcd by export."""
    path, before = snapshots["martlet"]
    kinds = {"martlet": [paths.MARTLET] * 3, "etcd": [paths.ETCD] * 3,
             "both": [paths.MARTLET, paths.ETCD, paths.MARTLET]}[program]
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(binary, name=f"m{n}", own_peer_url=True))
                   for n, binary in enumerate(kinds, 1)]
        cluster = ",".join(f"{server.name}={server.peer_url}" for server in servers)
        for server in servers:
            exports = tool is MARTLET and server.binary == paths.ETCD
            made = server.home / "made" if exports else server.data_dir
            tool("snapshot", "restore", path, "--name", server.name, "--data-dir", made,
                 "--initial-cluster", cluster, "--initial-cluster-token", "t3",
                 "--initial-advertise-peer-urls", server.peer_url)
            if exports:
                MARTLET("export", made, server.data_dir)
            server.flags = ["--initial-cluster", cluster, "--initial-cluster-token", "t3"]
            server.spawn()
        for server in servers:
            server.wait_ready()
        with Client(servers[0].address) as client:
            put(client, b"k", b"v")
        states = [State.of(server) for server in servers]
        assert states[0] == states[1] == states[2], [server.log_tail() for server in servers]
        assert len(states[0].members) == 3
        assert states[0].revision == before.revision + 1


def test_a_bumped_revision(snapshots: dict) -> None:
    """Old revisions are compacted, new ones begin far beyond; etcd sees the same."""
    path, before = snapshots["martlet"]
    m = messages().rpc
    bumped = before.revision + 1_000_000
    with Server(paths.MARTLET) as server, Server(paths.ETCD) as reference:
        MARTLET("snapshot", "restore", path, *restore_flags(server),
                "--bump-revision", 1_000_000, "--mark-compacted")
        with Client(server.start().address) as client:
            answer = client.kv.Range(m.RangeRequest(key=b"\0", range_end=b"\0"))
            assert answer.header.revision == bumped
            assert [kv.SerializeToString() for kv in answer.kvs] == before.keys
            with pytest.raises(grpc.RpcError, match="compacted"):
                client.kv.Range(m.RangeRequest(key=b"empty", revision=before.revision))
            assert put(client, b"new", b"1") == bumped + 1
        now = State.of(server)
        server.stop()
        MARTLET("export", server.data_dir, reference.data_dir)
        assert State.of(reference.start()) == now


@pytest.mark.parametrize("amount", [2**62, 2**63 - 1])
def test_a_bump_that_leaves_no_room(snapshots: dict, tmp_path: Path, amount: int) -> None:
    refused = MARTLET.run("snapshot", "restore", snapshots["martlet"][0], "--data-dir",
                          tmp_path / "new", "--bump-revision", amount, "--mark-compacted")
    assert refused.returncode == 1 and "leads beyond revision" in refused.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["stopped", "killed"])
def test_a_copied_member_directory(
        snapshots: dict, tmp_path: Path, end: Callable[[Server], object]) -> None:
    """`member/` of a server that has ended, put back over what was written later, and elsewhere."""
    path, _ = snapshots["martlet"]
    copy = tmp_path / "copy"
    with Server(paths.MARTLET) as server:
        MARTLET("snapshot", "restore", path, *restore_flags(server))
        grow(server.start())
        before = State.of(server)
        end(server)
        member = server.data_dir / "member"
        shutil.copytree(member, copy)
        grow(server.start(), 30)
        assert State.of(server) != before
        end(server)
        shutil.rmtree(member)
        shutil.copytree(copy, member)
        assert State.of(server.start()) == before
        grow(server)
        with Server(paths.MARTLET) as other:
            shutil.copytree(copy, other.data_dir / "member")
            assert State.of(other.start()) == before
            grow(other)
            assert State.of(other) == State.of(server)


@pytest.fixture(scope="module")
def without_checksum(
        snapshots: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, State]]:
    """`db` out of etcd's data dirs, and a snapshot that has lost its checksum."""
    folder = tmp_path_factory.mktemp("db")
    path, before = snapshots["martlet"]
    cut = folder / "martlet.db"
    cut.write_bytes(path.read_bytes()[:-32])
    found = {"martlet": (cut, before)}
    for version in ["3.5", "3.4"]:
        with etcd(version) as source:
            fill(source.start())
            grow(source)
            state = State.of(source)
            source.stop()
            db = source.data_dir / "member" / "snap" / "db"
            found[version] = (Path(shutil.copy(db, folder / f"{version}.db")), state)
    return found


@pytest.mark.parametrize("tool", RESTORERS, ids=str)
@pytest.mark.parametrize("source", SOURCES)
def test_a_file_without_a_checksum(without_checksum: dict, source: str, tool: Tool) -> None:
    """Taken only when a tool is told so; else all say the same, and Martlet leaves nothing."""
    path, before = without_checksum[source]
    with Server(paths.MARTLET) as server:
        refused = tool.run("snapshot", "restore", path, *restore_flags(server))
        assert refused.returncode == 1
        assert "snapshot missing hash but --skip-hash-check=false" in refused.stderr
        if tool is MARTLET:
            assert not list(server.home.iterdir())
        shutil.rmtree(server.data_dir, ignore_errors=True)  # etcd's tools leave the unproven file
        tool("snapshot", "restore", path, *restore_flags(server), "--skip-hash-check")
        assert State.of(server.start()).without_members() == before.without_members()


def test_the_log_in_a_place_of_its_own(snapshots: dict) -> None:
    path, before = snapshots["3.5"]
    with Server(paths.MARTLET) as server:
        wal = server.home / "wal"
        MARTLET("snapshot", "restore", path, *restore_flags(server), "--wal-dir", wal)
        assert list(wal.glob("*.wal")) and not (server.data_dir / "member" / "wal").exists()
        server.flags = [f"--wal-dir={wal}"]
        assert State.of(server.start()).without_members() == before.without_members()

"""From etcd to Martlet on the same data dir, and back by `martlet export`."""

import random
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from harness import paths
from harness.protos import Client, messages
from harness.server import Server

from preload import compiler
from stepped import SteppedServer, build
from tools import ETCDCTL, ETCDUTL, MARTLET, State, etcd, fill, grow, put

VERSIONS = ["3.5", "3.4"]
ENDS = ["stopped", "killed"]
COPIES_AT_ONCE = 4


def move(source: Server, target: Server) -> None:
    """Gives a data dir from one stopped server to another."""
    shutil.rmtree(target.data_dir, ignore_errors=True)
    shutil.copytree(source.data_dir, target.data_dir)


def end(server: Server, how: str) -> None:
    if how == "killed":
        server.kill()
    else:
        server.stop()


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_in_and_out(version: str, how: str) -> None:
    """IDs, members, revisions, hashes and leases stay; etcd's db is kept; etcd 3.5 goes on from
    the export with equal hashes."""
    with etcd(version) as source, Server(paths.MARTLET) as server, etcd("3.5") as back:
        fill(source.start())
        grow(source)
        before = State.of(source)
        end(source, how)
        move(source, server)
        db = server.data_dir / "member" / "snap" / "db"
        content = db.read_bytes()
        assert State.of(server.start()) == before
        assert db.read_bytes() == content, "etcd's db was touched"
        grow(server)
        end(server, how)
        now = State.of(server.start())
        end(server, how)
        MARTLET("export", server.data_dir, back.data_dir)
        assert State.of(back.start()) == now
        grow(back)


@pytest.mark.parametrize("version", VERSIONS)
def test_after_raft_snapshots(version: str) -> None:
    """A log that begins behind a `.snap` file, on both sides."""
    with (etcd(version) as source, Server(paths.MARTLET, ["--snapshot-count=20"]) as server,
          etcd("3.5") as back):
        source.flags = [*source.flags, "--snapshot-count=20"]
        source.start()
        for _ in range(5):
            grow(source)
        before = State.of(source)
        source.kill()
        assert list((source.data_dir / "member" / "snap").glob("*.snap"))
        move(source, server)
        assert State.of(server.start()) == before
        for _ in range(5):
            grow(server)
        now = State.of(server)
        server.kill()
        MARTLET("export", server.data_dir, back.data_dir)
        assert State.of(back.start()) == now


def test_entries_that_etcd_never_stored() -> None:
    """Killed within the 5 s between two commits of its db: all comes from the log."""
    with etcd("3.5") as source, Server(paths.MARTLET) as server:
        source.flags = ["--backend-batch-interval=5s", "--backend-batch-limit=1000000"]
        fill(source.start())
        before = State.of(source)
        source.kill()
        move(source, server)
        assert State.of(server.start()) == before


def test_alarms_and_users_cross() -> None:
    """What etcd's buckets hold is there again when etcd gets it back."""
    m = messages().rpc
    with etcd("3.5") as source, Server(paths.MARTLET) as server, etcd("3.5") as back:
        with Client(source.start().address) as client:
            put(client, b"k", b"v")
            client.auth.UserAdd(m.AuthUserAddRequest(name="ada", password="secret"))
            client.auth.RoleAdd(m.AuthRoleAddRequest(name="reader"))
            client.auth.UserGrantRole(m.AuthUserGrantRoleRequest(user="ada", role="reader"))
            member = client.cluster.MemberList(m.MemberListRequest()).members[0].ID
            client.maintenance.Alarm(m.AlarmRequest(
                action=m.AlarmRequest.ACTIVATE, memberID=member, alarm=m.NOSPACE))
        source.stop()
        move(source, server)
        server.spawn()  # never healthy, with that alarm
        with Client(server.address) as client:
            grpc.channel_ready_future(client.channel).result(20)
            alarms = client.maintenance.Alarm(m.AlarmRequest()).alarms
            assert [(each.memberID, each.alarm) for each in alarms] == [(member, m.NOSPACE)]
        server.stop()
        MARTLET("export", server.data_dir, back.data_dir)
        back.spawn()
        with Client(back.address) as client:
            grpc.channel_ready_future(client.channel).result(20)
            assert client.auth.UserList(m.AuthUserListRequest()).users == ["ada"]
            assert client.auth.UserGet(m.AuthUserGetRequest(name="ada")).roles == ["reader"]
            alarms = client.maintenance.Alarm(m.AlarmRequest()).alarms
            assert [(each.memberID, each.alarm) for each in alarms] == [(member, m.NOSPACE)]
            with pytest.raises(grpc.RpcError, match="database space exceeded"):
                put(client, b"k", b"w")
            client.maintenance.Alarm(m.AlarmRequest(
                action=m.AlarmRequest.DEACTIVATE, memberID=member, alarm=m.NOSPACE))
            put(client, b"k", b"w")


@pytest.mark.parametrize("interval", ["100ms", "60s"], ids=["stored", "only in the log"])
@pytest.mark.parametrize("version", VERSIONS)
def test_users_keep_their_rights(version: str, interval: str) -> None:
    """In etcd's db or in the log alone; and back again."""
    with etcd(version) as source, Server(paths.MARTLET) as server, etcd("3.5") as back:
        source.flags = [*source.flags, f"--backend-batch-interval={interval}"]
        source.start()
        root = ("--user", "root:secret")
        for words in [
            "user add root:secret", "user grant-role root root", "role add reader",
            "role grant-permission reader --prefix read readable/", "user add ada:lovelace",
            "user grant-role ada reader", "put readable/x 1", "put other 2", "auth enable",
        ]:
            ETCDCTL("--endpoints", source.address, *words.split())
        ETCDCTL("--endpoints", source.address, *root, "put", "readable/x", "3")
        end(source, "stopped" if interval == "100ms" else "killed")
        move(source, server)
        for each in (server, back):
            if each is back:
                server.kill()
                MARTLET("export", server.data_dir, back.data_dir)
            each.start()
            ada = ("--endpoints", each.address, "--user", "ada:lovelace")
            assert ETCDCTL(*ada, "get", "readable/x") == "readable/x\n3\n"
            assert "permission denied" in ETCDCTL.run(*ada, "get", "other").stderr
            assert "permission denied" in ETCDCTL.run(*ada, "put", "readable/x", "4").stderr
            assert "user name is empty" in ETCDCTL.run(
                "--endpoints", each.address, "get", "other").stderr
            roles = ETCDCTL("--endpoints", each.address, *root, "user", "get", "ada")
            assert "Roles: reader" in roles
            ETCDCTL("--endpoints", each.address, *root, "user", "add", f"new-{each.client_port}:x")


def test_names_as_long_as_the_store_takes() -> None:
    """One that is longer is refused when it is made, and not at every commit from then on."""
    m = messages().rpc
    longest = "n" * 511
    with Server(paths.MARTLET) as server, etcd("3.5") as back:
        with Client(server.start().address) as client:
            for name in (longest, longest + "n"):
                for call in (
                        lambda: client.auth.UserAdd(m.AuthUserAddRequest(name=name, password="p")),
                        lambda: client.auth.RoleAdd(m.AuthRoleAddRequest(name=name))):
                    if name == longest:
                        call()
                        continue
                    with pytest.raises(grpc.RpcError, match="at most 511 bytes"):
                        call()
        server.stop()
        for each in (server, back):
            if each is back:
                server.stop()
                MARTLET("export", server.data_dir, back.data_dir)
            with Client(each.start().address) as client:
                assert client.auth.UserList(m.AuthUserListRequest()).users == [longest]
                assert client.auth.RoleList(m.AuthRoleListRequest()).roles == [longest]


def test_another_token_or_name_does_not_matter() -> None:
    """As in etcd, the log says whose it is; flags for the first start are not needed again."""
    with etcd("3.5") as source, Server(paths.MARTLET) as server:
        source.flags = ["--initial-cluster-token=theirs"]
        fill(source.start())
        before = State.of(source)
        source.stop()
        move(source, server)
        server.flags = ["--initial-cluster-state=existing"]
        assert State.of(server.start()) == before


@pytest.mark.skipif(compiler() is None, reason="no C compiler for the library that kills it")
def test_an_import_that_is_killed_begins_anew(tmp_path: Path) -> None:
    """Before each write, sync, rename and removal: until it is done, the directory is etcd's as it
    was, also for etcd; the next start has all."""
    generator = random.Random(5)
    library = build(tmp_path)
    with etcd("3.5") as source, SteppedServer(library) as whole:
        with Client(source.start().address) as client:
            for n in range(220):  # more than one transaction of the import
                put(client, b"key/%d" % n, generator.randbytes(40_000))
        before = State.of(source)
        source.stop()
        original = contents(source)
        copy(source, whole)
        whole.start()
        steps = whole.steps()
        whole.kill()
        last = steps.index("rename member/martlet.format") + 1
        assert last > 15 and len({step.split()[0] for step in steps[:last]}) >= 6, steps

        def check(number: int) -> None:
            where = f"before {steps[number - 1]!r}, step {number}"
            with SteppedServer(library) as server, etcd("3.5") as still:
                copy(source, server)
                server.die(number)
                assert server.steps() == steps[:number]
                found = contents(server)
                assert all(found.get(path) == original[path] for path in original), where
                marker = server.data_dir / "member" / "martlet.format"
                assert marker.exists() == (number > last), where
                if number in (last // 2, last):
                    copy(server, still)
                    assert State.of(still.start()) == before, where
                server.die_before = 0
                assert State.of(server.start()) == before, where
                server.kill()
                snap = server.data_dir / "member" / "snap"
                names = {path.name for path in snap.iterdir()}
                assert names == {"db", "store.lmdb", "store.lmdb-lock"}, where
                assert (snap / "db").read_bytes() == original["member/snap/db"], where

        # The last is behind it, before the directory is synced.
        with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
            list(pool.map(check, range(1, last + 2)))


def copy(source: Server, target: Server) -> None:
    """Like `move`, without the zeros of the log."""
    shutil.rmtree(target.data_dir, ignore_errors=True)
    subprocess.run(["cp", "-r", "--sparse=always", source.data_dir, target.data_dir], check=True)


def contents(server: Server) -> dict[str, bytes]:
    """Of etcd's files: by their paths in the data directory."""
    return {str(path.relative_to(server.data_dir)): path.read_bytes()
            for path in server.data_dir.rglob("*") if path.name == "db"
            or path.suffix in (".wal", ".snap")}


def test_etcd_and_martlet_keep_each_other_out() -> None:
    with etcd("3.5") as source:
        source.start()
        with Server(paths.MARTLET, data_dir=source.data_dir) as server:
            server.spawn()
            assert server.process.wait(20) == 1
            assert "stop etcd first" in server.log_text()
            source.stop()
            server.start()
            source.spawn()
            time.sleep(1)
            assert not source._is_ready(), "etcd runs on Martlet's log"
            server.stop()
            source.wait_ready()
        with Client(source.address) as client:
            put(client, b"k", b"v")


def test_a_snapshot_that_a_follower_had_not_taken_over() -> None:
    """etcd ended between receiving `<index>.snap.db` and renaming it to `db`."""
    with etcd("3.5") as source, Server(paths.MARTLET) as server:
        source.flags = ["--snapshot-count=20"]
        put_all(source.start(), 5)
        source.stop()
        snap = source.data_dir / "member" / "snap"
        shutil.copy(snap / "db", source.home / "old")
        put_all(source.start(), 60)
        before = State.of(source)
        source.stop()
        newest = max(path.name for path in snap.glob("*.snap"))
        index = re.fullmatch(r"[0-9a-f]{16}-([0-9a-f]{16})\.snap", newest).group(1)
        (snap / "db").rename(snap / f"{index}.snap.db")
        shutil.copy(source.home / "old", snap / "db")
        move(source, server)
        assert State.of(server.start()) == before


def put_all(server: Server, count: int) -> None:
    with Client(server.address) as client:
        for n in range(count):
            put(client, b"k%d" % n, b"v")


def test_an_import_shows_how_far_it_is() -> None:
    with etcd("3.5") as source, Server(paths.MARTLET, ["--log-level=info"]) as server:
        with Client(source.start().address) as client:
            for n in range(24):
                put(client, b"big/%d" % n, bytes(1_000_000))
        source.stop()
        move(source, server)
        server.start()
        server.await_log("imported etcd's data directory")
        percents = [int(found) for found in re.findall(
            r"importing etcd's data directory.*\"percent\":\"?(\d+)", server.log_text())]
        # Pages that are free are not read, so it may end before 100.
        assert len(percents) >= 5 and percents == sorted(set(percents)), percents
        assert 10 <= percents[0] <= 20 and 50 <= percents[-1] <= 100, percents


def test_the_kept_db_can_be_deleted() -> None:
    """Once it is imported nothing reads it."""
    with etcd("3.5") as source, Server(paths.MARTLET) as server, etcd("3.5") as back:
        fill(source.start())
        before = State.of(source)
        source.kill()
        move(source, server)
        assert State.of(server.start()) == before
        server.kill()
        (server.data_dir / "member" / "snap" / "db").unlink()
        assert State.of(server.start()) == before
        grow(server)
        now = State.of(server)
        server.stop()
        assert State.of(server.start()) == now
        server.stop()
        MARTLET("export", server.data_dir, back.data_dir)
        assert State.of(back.start()) == now


@pytest.mark.parametrize("how", ENDS)
def test_a_log_in_a_directory_of_its_own(tmp_path: Path, how: str) -> None:
    """In by `--wal-dir` of the server, out by that of `export`."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    with etcd("3.5") as source, Server(paths.MARTLET) as server, etcd("3.5") as back:
        source.flags = [f"--wal-dir={theirs}", "--backend-batch-interval=5s"]
        fill(source.start())
        before = State.of(source)
        end(source, how)
        move(source, server)
        shutil.copytree(theirs, ours)
        server.flags = [f"--wal-dir={ours}"]
        assert State.of(server.start()) == before
        grow(server)
        now = State.of(server)
        end(server, how)
        assert not (server.data_dir / "member" / "wal").exists()
        done = MARTLET.run("export", server.data_dir, back.data_dir)
        assert done.returncode == 1 and not back.data_dir.exists(), done.stderr
        MARTLET("export", server.data_dir, back.data_dir, "--wal-dir", ours)
        assert State.of(back.start()) == now


def test_export_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with Server(paths.MARTLET) as server:
        server.start()
        for source, target, message in [
            (server.data_dir, tmp_path / "new", "in use by another process"),
            (tmp_path, tmp_path / "new", "is no data directory of Martlet"),
        ]:
            done = MARTLET.run("export", source, target)
            assert done.returncode == 1 and message in done.stderr, done.stderr
        assert not (tmp_path / "new").exists()
        assert MARTLET.run("export", server.data_dir).returncode == 128
        server.stop()
        done = MARTLET.run("export", server.data_dir, server.data_dir)
        assert done.returncode == 1 and "not empty" in done.stderr, done.stderr
        MARTLET("export", server.data_dir, tmp_path / "new")
        assert MARTLET.run("export", server.data_dir, tmp_path / "new").returncode == 1


def test_etcdutl_backup() -> None:
    """It wants etcd's db: on Martlet's own directory it fails and does no harm; what `export` made
    it takes, and both servers start on its copy."""
    with (Server(paths.MARTLET, ["--force-new-cluster"]) as server, etcd("3.5") as exported,
          etcd("3.5") as copied):
        fill(server.start())
        before = State.of(server)
        server.stop()
        refused = ETCDUTL.run("backup", "--data-dir", server.data_dir,
                              "--backup-dir", server.home / "backup")
        assert refused.returncode == 1 and "bolt.Open FAILED" in refused.stderr
        assert State.of(server.start()) == before
        server.stop()
        MARTLET("export", server.data_dir, exported.data_dir)
        ETCDUTL("backup", "--data-dir", exported.data_dir, "--backup-dir", copied.data_dir)
        move(copied, server)
        copied.flags = ["--force-new-cluster"]
        for each in (server, copied):
            assert State.of(each.start()).without_members() == before.without_members()
            each.stop()


def test_hashkv_of_etcdctl_is_equal() -> None:
    """The command of the documentation."""
    with Server(paths.MARTLET) as server, etcd("3.5") as back:
        fill(server.start())
        ours = ETCDCTL("--endpoints", server.address, "endpoint", "hashkv").split(", ")[1]
        server.stop()
        MARTLET("export", server.data_dir, back.data_dir)
        theirs = ETCDCTL("--endpoints", back.start().address, "endpoint", "hashkv").split(", ")[1]
        assert ours == theirs

"""Compactions that are not over: scheduled by a server that was killed, or by a restore."""

import time
from pathlib import Path

import grpc
import pytest
from harness import paths
from harness.protos import Client, messages
from harness.server import Server

import bolt
from test_moving import move
from tools import MARTLET, State, delete, etcd, grow, put, restore_flags, save

WAIT_SECONDS_MAX = 20
BUMP = 1_000_000


def main_revision(meta: dict[bytes, bytes], name: bytes) -> int:
    return int.from_bytes(meta.get(name, bytes(8))[:8], "big")


def stored(server: Server, folder: Path) -> dict[bytes, dict[bytes, bytes]]:
    """What the server has on disk, as its snapshot tells."""
    return bolt.rows(save(server, folder / f"{server.client_port}.db"))


def when_finished(server: Server, folder: Path) -> dict[bytes, bytes]:
    """The rows of keys once nothing is left to compact."""
    end = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        found = stored(server, folder)
        meta = found[b"meta"]
        if main_revision(meta, b"scheduledCompactRev") == main_revision(
                meta, b"finishedCompactRev"):
            return found[b"key"]
        assert time.monotonic() < end, meta
        time.sleep(0.05)


def test_one_that_etcd_was_killed_in(tmp_path: Path) -> None:
    """Martlet ends it, and so does etcd: the same rows stay. Back at etcd they still do."""
    with (etcd("3.5") as source, etcd("3.5") as reference, Server(paths.MARTLET) as server,
          etcd("3.5") as back):
        source.flags = ["--experimental-compaction-batch-limit=1"]
        with Client(source.start().address) as client:
            for n in range(200):
                put(client, b"k/%d" % (n % 40), b"%d" % n)
            delete(client, b"k/3", b"k/35")
            revision = put(client, b"k/31", b"back")
            put(client, b"k/31", b"later")
            delete(client, b"k/9")
            # One revision every 10 ms.
            client.kv.Compact(messages().rpc.CompactionRequest(revision=revision))
        source.kill()
        left = bolt.rows(source.data_dir / "member" / "snap" / "db")
        assert main_revision(left[b"meta"], b"scheduledCompactRev") == revision
        assert main_revision(left[b"meta"], b"finishedCompactRev") < revision
        move(source, server)
        move(source, reference)
        expected = State.of(reference.start())
        rows = when_finished(reference, tmp_path)
        assert len(rows) < len(left[b"key"]) - 100
        assert State.of(server.start()) == expected
        assert when_finished(server, tmp_path) == rows
        assert State.of(server) == expected
        grow(server)
        grow(reference)
        now = State.of(server)
        assert now == State.of(reference)
        server.kill()
        MARTLET("export", server.data_dir, back.data_dir)
        assert State.of(back.start()) == now


def watched(client: Client, start: int) -> tuple[bool, int]:
    """What a watcher of everything from `start` on is told first after its creation: whether it is
    cancelled, and what is compacted."""
    m = messages().rpc
    stream = client.watch.Watch(iter([m.WatchRequest(create_request=m.WatchCreateRequest(
        key=b"\0", range_end=b"\0", start_revision=start))]), timeout=WAIT_SECONDS_MAX)
    assert next(stream).created
    answer = next(stream)
    stream.cancel()
    return answer.canceled, answer.compact_revision


def refused(client: Client, revision: int) -> str:
    with pytest.raises(grpc.RpcError) as refusal:
        client.kv.Range(messages().rpc.RangeRequest(key=b"empty", revision=revision))
    return refusal.value.details()


@pytest.mark.parametrize("source", ["martlet", "3.5"])
def test_one_that_a_restore_has_scheduled(
        snapshots: dict, tmp_path: Path, source: str) -> None:
    """On a directory that no server has started on yet, etcd comes to the same as Martlet; those
    who watched are told that their past is gone."""
    path, before = snapshots[source]
    bumped = before.revision + BUMP
    with Server(paths.MARTLET) as server, etcd("3.5") as reference:
        MARTLET("snapshot", "restore", path, *restore_flags(server),
                "--bump-revision", BUMP, "--mark-compacted")
        MARTLET("export", server.data_dir, reference.data_dir)
        meta = bolt.rows(reference.data_dir / "member" / "snap" / "db")[b"meta"]
        assert main_revision(meta, b"scheduledCompactRev") == bumped
        assert main_revision(meta, b"finishedCompactRev") < bumped
        rows = when_finished(reference.start(), tmp_path)
        assert when_finished(server.start(), tmp_path) == rows
        with Client(server.address) as ours, Client(reference.address) as theirs:
            for start in (1, before.revision, before.revision + 1, bumped - 1):
                assert watched(ours, start) == watched(theirs, start) == (True, bumped)
                assert refused(ours, start) == refused(theirs, start)
            for client in (ours, theirs):
                assert put(client, b"new", b"1") == bumped + 1
            for start in (bumped, bumped + 1):
                assert watched(ours, start) == watched(theirs, start) == (False, 0)
        expected = State.of(reference)
        assert expected.hashes[1] == bumped and expected.revision == bumped + 1
        assert State.of(server) == expected
        server.stop()
        assert State.of(server.start()) == expected

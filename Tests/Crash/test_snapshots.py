"""Raft snapshots cut the log short, files are purged and recycled, and every start still works."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import paths
from harness.protos import Client, messages
from harness.server import Server

VALUE_BYTES = 512 << 10
SEGMENT_BYTES = 64 << 20


def put_range(address: str, first: int, count: int, value: bytes) -> None:
    """Puts count keys, in eight threads."""
    put = messages().rpc.PutRequest
    with Client(address) as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(
            lambda n: client.kv.Put(put(key=b"k%06d" % n, value=b"%d:" % n + value)),
            range(first, first + count)))


def count_keys(client: Client) -> int:
    request = messages().rpc.RangeRequest(key=b"k", range_end=b"l", count_only=True)
    return client.kv.Range(request).count


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def is_recycled(wal: Path) -> bool:
    """Whether the segment being written has its full size and zeros at its end: a spare before."""
    with (wal / names(wal, "*.wal")[-1]).open("rb") as segment:
        segment.seek(SEGMENT_BYTES - 4096)
        return segment.read(4096) == bytes(4096)


def test_killed_between_snapshots() -> None:
    """Small snapshots, a kill after each round: each start goes from the newest snapshot."""
    rng = random.Random(5)
    with Server(paths.MARTLET, flags=["--snapshot-count", "50", "--max-snapshots", "2"]) as server:
        written = 0
        for _ in range(8):
            server.start()
            count = rng.randrange(20, 300)
            put_range(server.address, written, count, b"v" * 100)
            written += count
            with Client(server.address) as client:
                assert count_keys(client) == written
                some = rng.randrange(written)
                answer = client.kv.Range(messages().rpc.RangeRequest(key=b"k%06d" % some))
                assert answer.kvs[0].value == b"%d:" % some + b"v" * 100
            server.kill()
        snaps = names(server.data_dir / "member" / "snap", "*.snap")
        assert 1 <= len(snaps) <= 2, snaps
        newest = int(snaps[-1].removesuffix(".snap").split("-")[1], 16)
        assert newest > written - 120, (newest, written)


def test_log_in_a_directory_of_its_own_is_purged_and_recycled(tmp_path: Path) -> None:
    """`--wal-dir`, `--max-wals`: old segments go, one becomes a spare and then a segment again."""
    wal = tmp_path / "log"
    flags = ["--wal-dir", str(wal), "--snapshot-count", "40", "--max-wals", "1",
             "--max-request-bytes", "2097152"]
    with Server(paths.MARTLET, flags=flags) as server:
        server.start()
        assert not (server.data_dir / "member" / "wal").exists()
        put_range(server.address, 0, 700, b"w" * VALUE_BYTES)
        segments = names(wal, "*.wal")
        assert len(segments) <= 4, segments
        assert int(segments[-1].split("-")[0], 16) >= 5, segments
        written = 700
        while not is_recycled(wal):
            # How soon a spare is filled with zeros is the disk's matter.
            assert written < 7000, names(wal, "*")
            put_range(server.address, written, 20, b"w" * VALUE_BYTES)
            written += 20
        server.kill()
        server.start()
        with Client(server.address) as client:
            assert count_keys(client) == written
        assert server.stop() == 0

"""`martlet check` over snapshot files of either server, whole and damaged."""

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from damage import flip_bit, put
from harness import paths
from harness.protos import Client, messages
from harness.server import Server
from test_check import check, lines

FLIPS = int(os.environ.get("FLIPS", "40"))
SEED = int(os.environ.get("SEED", "1"))
VALUES = {f"k{n}".encode(): os.urandom(300) for n in range(250)} | {b"large": os.urandom(20_000)}

pytestmark = pytest.mark.skipif(
    os.path.basename(paths.MARTLET) == "etcd", reason="etcd has no such command")


@pytest.fixture(scope="module", params=["martlet", "etcd"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
          ) -> Iterator[Path]:
    """A snapshot as `etcdctl snapshot save` gets it from a server with leases and a compaction."""
    m = messages().rpc
    path = tmp_path_factory.mktemp("snapshot") / "saved"
    with Server(paths.MARTLET if request.param == "martlet" else paths.ETCD) as server:
        with Client(server.start().address) as client:
            lease = client.lease.LeaseGrant(m.LeaseGrantRequest(TTL=3600)).ID
            client.kv.Put(m.PutRequest(key=b"leased", value=b"v", lease=lease))
            put(client, VALUES)
            client.kv.DeleteRange(m.DeleteRangeRequest(key=b"k1", range_end=b"k2"))
            client.kv.Compact(m.CompactionRequest(revision=50, physical=True))
        subprocess.run([paths.ETCDCTL, "--endpoints", server.address, "snapshot", "save",
                        str(path)], check=True, capture_output=True, env={"ETCDCTL_API": "3"})
    yield path


@pytest.fixture
def snapshot(saved: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "snapshot"
    copy.write_bytes(saved.read_bytes())
    return copy


def test_a_whole_snapshot(snapshot: Path) -> None:
    code, output = check(snapshot)
    assert code == 0, output
    parts = [line.split()[1] for line in lines(output, "ok")]
    assert parts == ["checksum", "pages", "rows", "leases"]


def test_a_file_without_checksum_is_a_copy(snapshot: Path) -> None:
    os.truncate(snapshot, snapshot.stat().st_size - 32)
    code, output = check(snapshot)
    assert code == 0 and "a copy" in lines(output, "note")[0]


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 8191, 0.5, 0.9])
def test_a_file_that_was_cut(snapshot: Path, size: float) -> None:
    whole = snapshot.stat().st_size
    os.truncate(snapshot, int(size * whole) if 0 < size < 1 else size)
    code, output = check(snapshot)
    assert code == 1 and str(snapshot) in lines(output, "wrong")[0]


def test_what_is_no_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(random.Random(1).randbytes(50_000))
    code, output = check(path)
    assert code == 1 and str(path) in lines(output, "wrong")[0]


def test_a_directory_of_etcd() -> None:
    with Server(paths.ETCD) as server:
        with Client(server.start().address) as client:
            put(client, VALUES)
        assert "in use" in check(server.data_dir)[1]
        server.kill()
        code, output = check(server.data_dir)
        assert code == 0 and "etcd's" in lines(output, "note")[0], output
        parts = [line.split()[1] for line in lines(output, "ok")]
        assert parts == ["log", "snapshots", "pages", "rows", "leases"]
        path = server.data_dir / "member" / "snap" / "db"
        path.write_bytes(path.read_bytes().replace(b"meta", b"mess"))
        code, output = check(server.data_dir)
        assert code == 1 and str(path) in lines(output, "wrong")[0]


def test_a_flipped_bit_anywhere(snapshot: Path) -> None:
    """The checksum shows each; with one that matches, the pages do or the bytes are unused."""
    chance = random.Random(SEED)
    whole = snapshot.read_bytes()
    told = 0
    for _ in range(FLIPS):
        offset, bit = chance.randrange(len(whole)), chance.randrange(8)
        flip_bit(snapshot, offset, bit)
        code, output = check(snapshot)
        (fault,) = lines(output, "wrong")[:1]
        assert code == 1 and fault.split()[1] == "checksum", f"{offset} {bit}: {output}"
        content = snapshot.read_bytes()[:-32]
        snapshot.write_bytes(content + hashlib.sha256(content).digest())
        code, output = check(snapshot)
        told += code
        assert code == 0 or str(snapshot) in lines(output, "wrong")[0]
        snapshot.write_bytes(whole)
    assert told > FLIPS / 20, "no flip was ever seen in the pages"

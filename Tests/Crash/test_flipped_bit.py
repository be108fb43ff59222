"""A bit that changed on disk is never served: the start is refused, or CORRUPT is raised."""

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from damage import Specimen, flip_bit, put, try_start
from harness import paths
from harness.protos import Client, messages
from harness.server import Server
from harness.wal import records, segments

COPIES_AT_ONCE = 4
FLIPS = int(os.environ.get("FLIPS", "60"))
SEED = int(os.environ.get("SEED", "1"))
VALUES = {f"k{n}".encode(): f"value {n} ".encode() + os.urandom(200) for n in range(200)}

pytestmark = pytest.mark.skipif(
    os.path.basename(paths.MARTLET) == "etcd", reason="etcd itself does not notice every one")


@pytest.fixture
def specimen(request: pytest.FixtureRequest) -> Iterator[Specimen]:
    """A member stopped in the usual way: everything is in the log and in the backend."""
    with Server(paths.MARTLET) as server:
        with Client(server.start().address) as client:
            put(client, VALUES)
        assert server.stop() == 0
        yield Specimen(server)


@pytest.mark.parametrize("place", ["length", "start", "middle", "end"])
@pytest.mark.parametrize("depth", [0.1, 0.5, 0.9])
def test_in_the_middle_of_the_log(specimen: Specimen, depth: float, place: str) -> None:
    server = specimen.copy()
    path = segments(server.data_dir)[-1]
    every = records(path)
    record = every[int(len(every) * depth)]
    offset = {"length": record.offset, "start": record.offset + 9,
              "middle": (record.offset + record.end) // 2,
              "end": record.offset + 8 + len(record.body) - 1}[place]
    flip_bit(path, offset, bit=2)
    verdict = try_start(server)
    assert verdict.values is None, "started with a changed log"
    assert verdict.names_place("wal"), verdict.refusal[-1000:]


def occurrences(path: Path, value: bytes) -> list[int]:
    """Offsets of `value` in a file: live, and in pages no longer used."""
    data, found, at = path.read_bytes(), [], -1
    while (at := data.find(value, at + 1)) >= 0:
        found.append(at)
    return found


@pytest.mark.parametrize("number", [0, 57, 123, 199])
def test_in_a_stored_value(specimen: Specimen, number: int) -> None:
    server = specimen.copy()
    value = VALUES[f"k{number}".encode()]
    flipped = 0
    for path in (server.data_dir / "member" / "snap").glob("*"):
        for offset in occurrences(path, value):
            flip_bit(path, offset + 100, bit=4)
            flipped += 1
    assert flipped, "the value is nowhere in the backend"
    verdict = try_start(server)
    if verdict.values is not None:
        assert verdict.corrupt_alarm, "served with a changed value and no alarm"
    assert verdict.names_place("snap"), verdict.refusal[-1000:]


@pytest.fixture
def busy_specimen() -> Iterator[tuple[Specimen, dict[bytes, bytes]]]:
    """A store with large values, deleted rows and pages that are free; and what it serves."""
    m = messages().rpc
    with Server(paths.MARTLET) as server:
        values = VALUES | {f"large{n}".encode(): os.urandom(9000) for n in range(20)}
        for _ in range(3):
            with Client(server.start().address) as client:
                put(client, values)
                gone = m.DeleteRangeRequest(key=b"large0", range_end=b"large2")
                client.kv.DeleteRange(gone)
                revision = client.kv.Range(m.RangeRequest(key=b"a")).header.revision
                client.kv.Compact(m.CompactionRequest(revision=revision, physical=True))
            assert server.stop() == 0
        kept = {key: value for key, value in values.items() if not b"large0" <= key < b"large2"}
        yield Specimen(server), kept


def flipped(specimen: Specimen, expected: dict, folder: str, place: float, bit: int) -> str | None:
    """What is wrong with the start after a bit changed at `place` of a file, if anything."""
    server = specimen.copy()
    (path,) = (segments(server.data_dir)[-1:] if folder == "wal"
               else [server.data_dir / "member" / "snap" / "store.lmdb"])
    used = records(path)[-1].end if folder == "wal" else path.stat().st_size
    offset = int(place * used)
    flip_bit(path, offset, bit)
    verdict = try_start(server)
    if verdict.values is None:
        return None if verdict.names_place(folder) else f"{offset}: {verdict.refusal[-400:]}"
    if verdict.values == expected or verdict.corrupt_alarm:
        return None
    return f"{offset}: serves {len(verdict.values)} keys, not the {len(expected)} that were put"


@pytest.mark.parametrize("folder", ["snap", "wal"])
def test_anywhere(busy_specimen: tuple[Specimen, dict], folder: str) -> None:
    """Random bits of the whole file: the start is refused with file and offset, or all is there."""
    specimen, expected = busy_specimen
    chance = random.Random(SEED)
    flips = [(chance.random(), chance.randrange(8)) for _ in range(FLIPS)]
    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        wrong = [each for each in pool.map(
            lambda flip: flipped(specimen, expected, folder, *flip), flips) if each]
    assert not wrong, f"seed {SEED}:\n" + "\n".join(wrong)

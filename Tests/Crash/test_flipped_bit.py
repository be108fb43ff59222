"""A bit that changed on disk is never served: the start is refused, or CORRUPT is raised."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from damage import Specimen, flip_bit, put, try_start
from harness import paths
from harness.protos import Client
from harness.server import Server
from harness.wal import records, segments

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

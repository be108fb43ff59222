"""A tail of the log that was never whole is cut off; what was whole before it stays."""

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from damage import Specimen, overwrite, put, try_start
from harness import paths
from harness.protos import Client
from harness.server import Server
from harness.wal import Record, records, segments

COPIES_AT_ONCE = 4
SECTOR = 512
BEFORE = {f"k{n}".encode(): os.urandom(40) for n in range(30)}
LAST_SMALL = {b"last": b"the last value"}
LAST_LARGE = {b"last": b"L" * 5000}


@pytest.fixture(params=[LAST_SMALL, LAST_LARGE], ids=["small", "large"])
def specimen(request: pytest.FixtureRequest) -> Iterator[tuple[Specimen, Record, dict]]:
    """A killed member, the record of its last put, and that put."""
    with Server(paths.MARTLET) as server:
        with Client(server.start().address) as client:
            put(client, BEFORE)
            put(client, request.param)
        server.kill()
        (value,) = request.param.values()
        last = [each for each in records(segments(server.data_dir)[-1]) if value in each.body][-1]
        yield Specimen(server), last, request.param


def check(specimen: Specimen, last: dict, cut: int, how: str) -> str | None:
    """What is wrong with the start after a cut at `cut`, if anything."""
    server = specimen.copy()
    path = segments(server.data_dir)[-1]
    if how == "truncated":
        os.truncate(path, cut)
    else:
        overwrite(path, cut, bytes(path.stat().st_size - cut))
    verdict = try_start(server)
    if verdict.values is None:
        return f"{how} at {cut}: refused: {verdict.refusal[-400:]}"
    if verdict.values not in (BEFORE, BEFORE | last):
        return f"{how} at {cut}: {len(verdict.values)} keys, not all of the {len(BEFORE)}"
    return None


def cuts(last: Record, how: str, small: bool) -> list[int]:
    """Every byte of a small record; of a large one the places where a disk tears: sectors."""
    if how == "truncated":
        return list(range(last.offset, last.end + 1, 1 if small else 211))
    return list(range(-(-last.offset // SECTOR) * SECTOR, last.end, SECTOR))


@pytest.mark.parametrize("how", ["truncated", "zeroed"])
def test_torn_tail(specimen: tuple[Specimen, Record, dict], how: str) -> None:
    copies, last, pair = specimen
    places = cuts(last, how, pair is LAST_SMALL)
    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        wrong = [each for each in pool.map(lambda cut: check(copies, pair, cut, how), places)
                 if each]
    assert not wrong, "\n".join(wrong)
    print(f"\n{len(places)} cuts, {how}")


@pytest.mark.parametrize("seed", range(6))
def test_garbage_after_the_last_record(
        specimen: tuple[Specimen, Record, dict], seed: int) -> None:
    """It either starts with everything or refuses and names the log; it never loses a write."""
    copies, _, pair = specimen
    server = copies.copy()
    path = segments(server.data_dir)[-1]
    end = records(path)[-1].end
    overwrite(path, end, random.Random(seed).randbytes(8 + seed * 100))
    verdict = try_start(server)
    if verdict.values is None:
        assert "wal" in verdict.refusal.lower()
    else:
        assert verdict.values == BEFORE | pair

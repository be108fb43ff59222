"""Snapshots with many free pages, listed as bbolt lists them. etcd itself leaves the list out."""

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import paths
from harness.server import Server

from tools import ETCDCTL_34, ETCDUTL, MARTLET, State, fill, restore_flags, save

PAGE_BYTES = 4096
FREELIST_FLAG, LONG_FORM = 0x10, 0xFFFF
# Where a meta page has the freelist's page, and the number of pages.
FREELIST_AT, PAGES_AT, SUM_AT = 16 + 32, 16 + 40, 16 + 56


def fnv64a(data: bytes) -> int:
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return found


def with_free_pages(source: Path, target: Path, count: int,
                    change: Callable[[list[int]], None] = lambda _: None) -> int:
    """Writes `source` with so many free pages behind it, and their list behind them: its page."""
    data = bytearray(source.read_bytes()[:-hashlib.sha256().digest_size])
    first = len(data) // PAGE_BYTES
    (old,) = struct.unpack_from("<Q", data, FREELIST_AT)
    ids = [old, *range(first, first + count)]
    change(ids)
    freelist = first + count
    numbers = ids if len(ids) < LONG_FORM else [len(ids), *ids]
    body = struct.pack(f"<{len(numbers)}Q", *numbers)
    pages = -(-(16 + len(body)) // PAGE_BYTES)
    head = struct.pack("<QHHI", freelist, FREELIST_FLAG, min(len(ids), LONG_FORM), pages - 1)
    for meta in (0, PAGE_BYTES):
        struct.pack_into("<Q", data, meta + FREELIST_AT, freelist)
        struct.pack_into("<Q", data, meta + PAGES_AT, freelist + pages)
        struct.pack_into("<Q", data, meta + SUM_AT, fnv64a(data[meta + 16:meta + SUM_AT]))
    data += bytes(count * PAGE_BYTES) + (head + body).ljust(pages * PAGE_BYTES, b"\0")
    target.write_bytes(data + hashlib.sha256(data).digest())
    return freelist


@pytest.fixture(scope="module", name="saved")
def small_snapshot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    with Server(paths.MARTLET) as server:
        fill(server.start())
        return save(server, tmp_path_factory.mktemp("saved") / "db"), State.of(server)


@pytest.mark.parametrize("count", [1, 600, 70_000])
def test_free_pages_are_passed_over(saved: tuple[Path, State], count: int, tmp_path: Path) -> None:
    """In one page, in some, and in the long form of the list."""
    source, before = saved
    path = tmp_path / "db"
    with_free_pages(source, path, count)
    status = MARTLET("snapshot", "status", path, "-w", "json")
    assert status == ETCDUTL("snapshot", "status", path, "-w", "json")
    assert status.split('"hash"')[1].split(",")[0] == MARTLET(
        "snapshot", "status", source, "-w", "json").split('"hash"')[1].split(",")[0]
    for tool in (MARTLET, ETCDUTL, ETCDCTL_34):
        with Server(paths.MARTLET) as server:
            tool("snapshot", "restore", path, *restore_flags(server))
            assert State.of(server.start()).without_members() == before.without_members()


@pytest.mark.parametrize("change", [
    lambda ids: ids.append(ids[-1]), lambda ids: ids.remove(ids[5]),
    lambda ids: ids.append(3), lambda ids: ids.append(2**40),
], ids=["twice", "forgotten", "in use", "outside"])
def test_a_wrong_list_is_refused_with_its_page(
        saved: tuple[Path, State], change: Callable[[list[int]], None], tmp_path: Path) -> None:
    path = tmp_path / "db"
    with_free_pages(saved[0], path, 600, change)
    refused = MARTLET.run("snapshot", "status", path)
    assert refused.returncode == 1 and "page " in refused.stderr, refused
    refused = MARTLET.run("snapshot", "restore", path, "--data-dir", tmp_path / "new")
    assert refused.returncode == 1 and "page " in refused.stderr, refused
    assert not (tmp_path / "new").exists()

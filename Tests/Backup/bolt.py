"""Reads the rows of a bbolt file, by the format alone."""

import struct
from collections.abc import Iterator
from pathlib import Path

HEADER, ELEMENT = 16, 16
BRANCH, LEAF, BUCKET = 0x01, 0x02, 0x01


def rows(path: Path) -> dict[bytes, dict[bytes, bytes]]:
    """Every bucket's."""
    content = path.read_bytes()
    size = struct.unpack_from("<I", content, HEADER + 8)[0]
    metas = [struct.unpack_from("<QQQQQ", content, page * size + HEADER + 16) for page in (0, 1)]
    root = max(metas, key=lambda meta: meta[4])[0]
    found = {}
    for name, value, flags in walk(content, size, root * size):
        assert flags & BUCKET
        page = struct.unpack_from("<Q", value)[0]
        found[name] = {
            key: row for key, row, _ in (walk(content, size, page * size) if page
                                         else walk(value, size, 16))}
    return found


def walk(content: bytes, size: int, start: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, value and flags of each row below the page at `start`."""
    flags, count = struct.unpack_from("<HH", content, start + 8)
    for at in range(start + HEADER, start + HEADER + count * ELEMENT, ELEMENT):
        if flags & BRANCH:
            yield from walk(content, size, struct.unpack_from("<Q", content, at + 8)[0] * size)
            continue
        assert flags & LEAF
        kind, position, key, value = struct.unpack_from("<IIII", content, at)
        middle = at + position + key
        yield content[at + position:middle], content[middle:middle + value], kind

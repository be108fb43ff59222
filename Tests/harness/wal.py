"""Finds the records in etcd's WAL segments: 8-byte little-endian length field, data, padding."""

import struct
from dataclasses import dataclass
from pathlib import Path

PADDED = 1 << 63
LENGTH_MASK = (1 << 56) - 1
RECORD_BYTES_MAX = 1 << 26


@dataclass
class Record:
    """Where a record is in its file: the length field included, the padding included."""

    offset: int
    end: int
    body: bytes


def segments(data_dir: Path) -> list[Path]:
    """The segments in order, the last one being written."""
    return sorted((data_dir / "member" / "wal").glob("*.wal"))


def records(path: Path) -> list[Record]:
    """The whole records of a segment, up to the zeros after the last."""
    found, at = [], 0
    with open(path, "rb") as file:
        while len(field := file.read(8)) == 8 and field != bytes(8):
            (raw,) = struct.unpack("<Q", field)
            length = raw & LENGTH_MASK
            padding = (raw >> 56) & 7 if raw & PADDED else 0
            if length > RECORD_BYTES_MAX:
                break
            body = file.read(length + padding)
            if len(body) < length + padding:
                break
            found.append(Record(at, at + 8 + length + padding, body[:length]))
            at += 8 + length + padding
    return found

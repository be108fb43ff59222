"""Appends records to a stopped member's log, as a later version could have left them."""

import os
from pathlib import Path

from harness.wal import PADDED, records, segments

ENTRY, STATE = 2, 3
POLYNOMIAL = 0x82F63B78
TABLE = []
for index in range(256):
    for _ in range(8):
        index = index >> 1 ^ (POLYNOMIAL if index & 1 else 0)
    TABLE.append(index)


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C of what gave `crc`, followed by `data`."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def fields(message: bytes) -> dict[int, int | bytes]:
    """The last value of each field of a flat message."""
    found, at = {}, 0

    def take() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = take()
        value: int | bytes = take()
        if tag & 7 == 2:
            at, value = at + value, message[at:at + value]
        found[tag >> 3] = value
    return found


def append_entry(data_dir: Path, request: bytes) -> None:
    """A committed entry that holds `request`, after the last one."""
    path = segments(data_dir)[-1]
    every = records(path)
    parsed = [fields(each.body) for each in every]
    entries = [fields(each[3]) for each in parsed if each.get(1) == ENTRY]
    states = [fields(each[3]) for each in parsed if each.get(1) == STATE]
    term, position = states[-1][1], entries[-1][3] + 1
    entry = number(1, 0) + number(2, term) + number(3, position) + block(4, request)
    state = number(1, term) + number(2, states[-1].get(2, 0)) + number(3, position)
    crc, tail = parsed[-1].get(2, 0), b""
    for kind, data in ((ENTRY, entry), (STATE, state)):
        crc = crc32c(data, crc)
        record = number(1, kind) + number(2, crc) + block(3, data)
        padding = -len(record) % 8
        length = len(record) | ((PADDED | padding << 56) if padding else 0)
        tail += length.to_bytes(8, "little") + record + bytes(padding)
    with open(path, "r+b") as file:
        file.seek(every[-1].end)
        file.write(tail)
        os.fsync(file.fileno())

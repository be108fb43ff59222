"""Takes out of an output what differs between two runs of the same server."""

import re

# (pattern, replacement), for every output. Member and cluster IDs, terms and revisions stay: both
# servers are started with the same advertised peer URL, so that these must be equal.
RULES = [(re.compile(pattern), replacement) for pattern, replacement in [
    (r'"ts":("[^"]*"|[0-9.]+)', '"ts":"<time>"'),
    (r"\bclient-[0-9a-f-]{36}\b", "client-<uuid>"),
    (r"\blease [0-9a-f]{12,16} ", "lease <id> "),
    (r"\b0x[0-9a-f]{6,}\b", "<pointer>"),
    (r"\btook(:| =)? ?[0-9.]+[µnm]?s\b", "took <time>"),
    (r'"[tT]ook"( ?: ?)"[^"]*"', r'"took"\1"<time>"'),
    (r"\b\d+\.\d+(µs|ms|s)(?![a-z])", "<time>"),
    (r'("?[dD][bB]Size(InUse)?"? ?:) ?\d+', r"\1 <size>"),
    (r"\b\d+(\.\d+)? [kMG]?B\b", "<size>"),
    (r"remaining\(\d+s\)", "remaining(<time>)"),
]]
# etcd lists a lease's keys in the order of a Go map.
LEASE_KEYS = re.compile(r"attached keys\(\[([^\]]*)\]\)")
# Two of etcdctl's goroutines log a snapshot, in any order.
SNAPSHOT_LINES = re.compile(
    r'(?:^.*"caller":"(?:clientv3/maintenance|snapshot/v3_snapshot)\.go:.*\n)+', re.MULTILINE)
TABLE_LINE = re.compile(r"^[+|]")


def _collapse(line: str) -> str:
    """A table line without the widths of its columns."""
    if not TABLE_LINE.match(line):
        return line
    return re.sub(r"-{2,}", "--", re.sub(r" +", " ", line))


def normalise(text: str, exact: dict[str, str], masks: list[re.Pattern]) -> str:
    """`text` with the `exact` strings replaced (longest first), then the rules, then the masks."""
    for old in sorted(exact, key=len, reverse=True):
        text = text.replace(old, exact[old])
    for pattern, replacement in RULES:
        text = pattern.sub(replacement, text)
    text = LEASE_KEYS.sub(
        lambda found: f"attached keys([{' '.join(sorted(found[1].split(' ')))}])", text)
    text = SNAPSHOT_LINES.sub(
        lambda found: "".join(sorted(found[0].splitlines(keepends=True))), text)
    for mask in masks:
        text = mask.sub("<masked>", text)
    return "\n".join(_collapse(line) for line in text.split("\n"))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("varint")


def decode_raw(data: bytes) -> str:
    """A protobuf message as text without its schema: nested where the bytes allow it."""
    parts, at = [], 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0 or kind not in (0, 2):
            raise ValueError("tag")
        value, at = _varint(data, at)
        if kind == 0:
            parts.append(f"{number}:{value}")
            continue
        if at + value > len(data):
            raise ValueError("length")
        parts.append(f"{number}{_nested(data[at:at + value])}")
        at += value
    return " ".join(parts)


def _nested(data: bytes) -> str:
    try:
        return "{" + decode_raw(data) + "}" if data else '""'
    except ValueError:
        return repr(data)

"""Differences that are known and have a reason: explained.txt."""

import fnmatch
import re
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

FILE = Path(__file__).parent / "explained.txt"


@dataclass
class Explanation:
    """Lines that match `pattern` may differ in the cases whose label matches the glob `cases`."""

    cases: str
    pattern: re.Pattern
    reason: str


def load() -> list[Explanation]:
    """The rows of explained.txt: `cases | pattern | reason`."""
    rows = []
    for line in FILE.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            cases, pattern, reason = (part.strip() for part in re.split(r"\s+\|\s+", line))
            rows.append(Explanation(cases, re.compile(pattern), reason))
    return rows


def differences(label: str, expected: list[str], actual: list[str],
                explanations: list[Explanation]) -> list[str]:
    """Lines of a diff; empty when equal or when every line that differs is explained."""
    lines = list(unified_diff(expected, actual, "etcd", "server under test", lineterm="", n=1))
    changed = [line for line in lines[2:] if line[0] in "+-"]
    usable = [row for row in explanations if fnmatch.fnmatch(label, row.cases)]
    if all(any(row.pattern.search(line[1:]) for row in usable) for line in changed):
        return []
    return lines

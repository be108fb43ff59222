"""Random programs of calls get the same answers from etcd 3.5.1 and from the server under test."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff

import excuses
import pytest
from pairs import Pair
from programs import Call, Maker, ending
from shrink import shrink

FIRST, COUNT = (int(word) for word in os.environ.get("SEEDS", "4 8").split())
SHRINK_SECONDS_MAX = float(os.environ.get("SHRINK_SECONDS", "120"))


@dataclass
class Difference:
    """Where a program shows one: at which call (the number of calls: after all of them)."""

    place: int
    call: Call
    first: list[str]
    second: list[str]

    def lines(self) -> list[str]:
        return [repr(self.call), *unified_diff(
            self.first, self.second, "etcd", "server under test", lineterm="")]

    def kind(self) -> tuple[str, ...]:
        """Equal for differences that are likely to be the same."""
        errors = (lines[0] if len(lines) == 1 else "" for lines in (self.first, self.second))
        return self.call.method, *errors


class Runner:
    """Keeps a pair of servers for the next program where it can be cleared."""

    def __init__(self) -> None:
        self.pair: Pair | None = None

    def ready(self, is_fresh: bool) -> Pair:
        if self.pair and (is_fresh or not self.pair.clear()):
            self.close()
        self.pair = self.pair or Pair()
        return self.pair

    def close(self) -> None:
        if self.pair:
            self.pair.close()
            self.pair = None

    def difference(self, program: list[Call], is_fresh: bool = False) -> Difference | None:
        """The first difference that a program shows."""
        pair = self.ready(is_fresh)
        for place, call in enumerate(program + ending(["", "root"])):
            first, second = pair.run(call)
            if first == second:
                continue
            excuse = excuses.find(call, first, second)
            if excuse is None:
                return Difference(min(place, len(program)), call, first, second)
            if excuse.ends:
                self.close()
                return None
        return None


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_program(runner: Runner, seed: int) -> None:
    program = Maker(seed).program()
    found = runner.difference(program)
    if not found:
        return
    deadline = time.monotonic() + SHRINK_SECONDS_MAX

    def differs(shorter: list[Call]) -> int | None:
        again = runner.difference(shorter)
        return again.place if again and again.kind() == found.kind() else None

    program = program[:found.place + 1]
    smallest = shrink(program, differs, lambda: deadline - time.monotonic())
    again = runner.difference(smallest, is_fresh=True)
    lines = again.lines() if again else ["(not on fresh servers)", *found.lines()]
    calls = "\n".join(f"    {call!r}," for call in smallest)
    pytest.fail(f"at the end of\n{calls}\n" + "\n".join(lines), pytrace=False)

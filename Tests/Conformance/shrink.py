"""Makes a program that shows a difference smaller while it still shows the same."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from programs import Call

Differs = Callable[[list[Call]], int | None]


def shrink(program: list[Call], differs: Differs, seconds_left: Callable[[], float]) -> list[Call]:
    """`differs` gives the place of the call that differs (the length: at the end), or None."""
    program = _fewer(program, differs, seconds_left)
    return _simpler(program, differs, seconds_left)


def _fewer(program: list[Call], differs: Differs, seconds_left: Callable[[], float]) -> list[Call]:
    size = max(1, len(program) // 2)
    while size and seconds_left() > 0:
        at = len(program)
        while at > 0 and seconds_left() > 0:
            start = max(0, at - size)
            shorter = program[:start] + program[at:]
            place = differs(shorter)
            if place is not None:
                program = shorter[:place + 1]
                at = min(start, len(program))
            else:
                at = start
        size //= 2
    return program


def _simpler(
        program: list[Call], differs: Differs, seconds_left: Callable[[], float]) -> list[Call]:
    at = len(program) - 1
    while at >= 0:
        for request in _smaller(program[at].request):
            if seconds_left() <= 0:
                return program
            changed = [*program[:at], replace(program[at], request=request), *program[at + 1:]]
            try:
                place = differs(changed)
            except (KeyError, TypeError, ValueError):
                continue
            if place is not None:
                program = changed
                break
        else:
            at -= 1
    return program


def _smaller(value: object) -> Iterator[object]:
    """`value` with one part taken out, larger parts first."""
    if isinstance(value, dict):
        for name in value:
            yield {other: each for other, each in value.items() if other != name}
        for name, each in value.items():
            for smaller in _smaller(each):
                yield value | {name: smaller}
    elif isinstance(value, list):
        for at in range(len(value)):
            yield value[:at] + value[at + 1:]
        for at, each in enumerate(value):
            for smaller in _smaller(each):
                yield [*value[:at], smaller, *value[at + 1:]]

"""PostgreSQL under Patroni on Martlet and, at the same time and by the same steps, on etcd."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from steps import Drill, Row
from store import HEADINGS


@dataclass
class Result:
    """How far a drill came."""

    rows: list[Row] = field(default_factory=list)
    failure: str = ""


def drill(kind: str, variant: str, short: bool = False) -> Result:
    result = Result()
    try:
        with Drill(kind, variant) as run:
            result.rows = run.rows
            try:
                run.run_short() if short else run.run()
            except Exception as failure:
                result.failure = f"{kind}: {failure!r}\n{run.logs()}"
    except Exception as failure:
        result.failure = result.failure or f"{kind}: {failure!r}"
    return result


def table(title: str, results: dict[str, Result]) -> str:
    """Seconds and demotions of each kind beside one another, in Markdown."""
    head = ["step"]
    for kind in results:
        head += [f"{kind}: s", "demotions"]
    lines = [[*head, "notes"]]
    longest = max(results.values(), key=lambda result: len(result.rows))
    for place, row in enumerate(longest.rows):
        line, notes = [row.step], []
        for kind, result in results.items():
            found = result.rows[place] if place < len(result.rows) else None
            line += [f"{found.seconds:.1f}", str(found.demotions)] if found else ["-", "-"]
            notes += [f"{kind}: {found.note}"] if found and found.note else []
        lines.append([*line, "; ".join(notes)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:-1]),
                     "-" * widths[-1]])
    drawn = ["| " + " | ".join([line[0].ljust(widths[0]),
                                *(cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:])),
                                line[-1].ljust(widths[-1])]) + " |" for line in lines]
    return "\n".join([f"\n{title}\n", *drawn])


@pytest.mark.parametrize("variant", HEADINGS)
def test_postgresql_is_kept_up(variant: str, tables: list[str]) -> None:
    with ThreadPoolExecutor() as pool:
        running = {kind: pool.submit(drill, kind, variant) for kind in ("martlet", "etcd")}
        results = {kind: each.result() for kind, each in running.items()}
    tables.append(table(HEADINGS[variant], results))
    failures = [result.failure for result in results.values() if result.failure]
    assert not failures, "\n".join(failures)

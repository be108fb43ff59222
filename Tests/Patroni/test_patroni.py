"""PostgreSQL under Patroni on Martlet and, at the same time and by the same steps, on etcd."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

pytest.importorskip("psycopg2", reason="scripts/setup --patroni installs it")

from steps import Drill, Row  # noqa: E402
from store import HEADINGS  # noqa: E402


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
    """Seconds and demotions of each kind beside one another."""
    lines = [f"\n{title}", f"{'step':36}" + "".join(
        f"{kind + ' s':>11}{'demotions':>11}" for kind in results) + "  notes"]
    longest = max(results.values(), key=lambda result: len(result.rows))
    for place, row in enumerate(longest.rows):
        line, notes = f"{row.step:36}", []
        for kind, result in results.items():
            if place < len(result.rows):
                found = result.rows[place]
                line += f"{found.seconds:11.1f}{found.demotions:11}"
                notes += [f"{kind}: {found.note}"] if found.note else []
            else:
                line += f"{'-':>11}{'-':>11}"
        lines.append(f"{line}  {'; '.join(notes)}".rstrip())
    return "\n".join(lines)


@pytest.mark.parametrize("variant", HEADINGS)
def test_postgresql_is_kept_up(variant: str, tables: list[str]) -> None:
    with ThreadPoolExecutor() as pool:
        running = {kind: pool.submit(drill, kind, variant) for kind in ("martlet", "etcd")}
        results = {kind: each.result() for kind, each in running.items()}
    tables.append(table(HEADINGS[variant], results))
    failures = [result.failure for result in results.values() if result.failure]
    assert not failures, "\n".join(failures)

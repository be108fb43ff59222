"""Puts and ranges per second of etcd 3.5.1 and Martlet, in turn on this machine.

Each round starts each server once on an empty data dir, with fsync on, and runs every point on it;
the servers take turns, and medians over the rounds are reported. h2load sends one body, so all
requests of a run are for the same key with a value of 300 bytes. The load generator shares the
machine with the server.
"""

import argparse
import functools
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "Tests"
sys.path[:0] = [str(TESTS), str(TESTS / "Cluster")]

from group import Group  # noqa: E402
from harness import paths  # noqa: E402
from load import Point, measure  # noqa: E402
from report import Results, save, table  # noqa: E402

OPEN_FILES = 8192
POINTS = [Point(1, 1, 1_000), Point(10, 10, 20_000), Point(100, 10, 40_000),
          Point(1000, 1, 100_000)]
OPERATIONS = ["Put", "Range"]
SETTLE_SECONDS = 0.5


def progress(text: str) -> None:
    """One line that is written over, on a terminal; a line each elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def run_round(number: int, groups: dict[str, Callable[[], Group]], points: list[Point],
              operations: list[str], results: Results) -> None:
    for name, make in groups.items():
        with make() as server:
            server.start()
            for operation in operations:
                for point in points:
                    progress(f"round {number}: {name} {operation} {point.label}")
                    time.sleep(SETTLE_SECONDS)
                    found = measure(server, operation, point)
                    results.setdefault((operation, point), {}).setdefault(name, []).append(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the requests")
    parser.add_argument("--only", choices=OPERATIONS, help="one operation")
    parser.add_argument("--members", type=int, default=1, help="of each cluster")
    parser.add_argument("--through", choices=["leader", "follower"], default="leader")
    parser.add_argument("--output", type=Path, default=paths.ROOT / ".build" / "bench")
    options = parser.parse_args()

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))
    points = POINTS
    if options.quick:
        points = [Point(each.connections, each.streams, each.requests // 10) for each in POINTS]
    groups = {name: functools.partial(Group, name, binary, options.members, options.through)
              for name, binary in (("etcd", paths.ETCD), ("martlet", paths.MARTLET))}
    operations = [options.only] if options.only else OPERATIONS
    results: Results = {}
    for number in range(1, (1 if options.quick else options.rounds) + 1):
        run_round(number, groups, points, operations, results)
    progress("")
    save(results, list(groups), options.output)
    print(table(results, list(groups)))
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()

"""Puts and ranges per second of etcd 3.5.1 and Martlet, in turn on this machine.

Each round starts each server once on an empty data dir, with fsync on, and runs every point on it;
the servers take turns, and medians over the rounds are reported. h2load sends one body, so all
requests of a run are for the same key with a value of 300 bytes. The load generator shares the
machine with the server.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Tests"))

from harness import paths  # noqa: E402
from harness.server import Server  # noqa: E402
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


def run_round(number: int, servers: dict[str, str], points: list[Point],
              operations: list[str], results: Results) -> None:
    for name, binary in servers.items():
        with Server(binary) as server:
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
    parser.add_argument("--output", type=Path, default=paths.ROOT / ".build" / "bench")
    options = parser.parse_args()

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))
    points = POINTS
    if options.quick:
        points = [Point(each.connections, each.streams, each.requests // 10) for each in POINTS]
    servers = {"etcd": paths.ETCD, "martlet": paths.MARTLET}
    operations = [options.only] if options.only else OPERATIONS
    results: Results = {}
    for number in range(1, (1 if options.quick else options.rounds) + 1):
        run_round(number, servers, points, operations, results)
    progress("")
    save(results, list(servers), options.output)
    print(table(results, list(servers)))
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()

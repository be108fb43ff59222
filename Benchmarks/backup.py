"""What backups, defragmentations and size cost, on etcd 3.5.1 and Martlet, as tables.

Each server gets `--mebibytes` of values. Then puts run without a break, at full load, while
snapshots are saved and the store is defragmented (after half of the values are deleted), with
quiet times between; what writers feel is told for each. Memory is looked at first, when it no
longer grows by itself: both keep as many entries of the log in it, and its history is compacted
every second. Snapshots go to `--folder`, by default in memory, as they would go to another disk.
h2load and etcdctl share the machine with the server. Then the same is asked of size: see scale.py.
Environment: `MEBIBYTES`, `KEYS` and `SCALE_MEBIBYTES` (0 leaves these out), or `QUICK=1` for a
twentieth of all.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Tests"))

from harness import paths  # noqa: E402
from harness.protos import Client, messages  # noqa: E402
from harness.server import Server, clean_environment  # noqa: E402
import scale  # noqa: E402
from load import body  # noqa: E402
from report import machine  # noqa: E402
from scale import note, show  # noqa: E402

VALUE_BYTES = 4096
VALUES_PER_TXN = 100
CLIENTS, STREAMS = 8, 4
QUOTA = 64 << 30
QUIET_SECONDS = 8
# Both hold the entries since the last snapshot in memory, and some before it.
FLAGS = ["--snapshot-count=10000", f"--quota-backend-bytes={QUOTA}"]
MEMORY_SECONDS, MEMORY_WINDOWS_MAX, MEMORY_FACTOR = 8, 10, 1.01
ROUNDS = 2
# Of the values: the store, its copy while it is rewritten, the log. And the log of h2load.
ROOM_FACTOR, SNAPSHOT_ROOM_BYTES = 3, 256 << 20
BINARIES = {"etcd": paths.ETCD, "martlet": paths.MARTLET}
QUICK = 20


@dataclass
class Latencies:
    """Of puts, in milliseconds."""

    p50: float
    p99: float
    worst: float
    per_second: float

    @staticmethod
    def of(times: list[float], seconds: float) -> "Latencies":
        times = sorted(times) or [float("nan")]
        return Latencies(times[len(times) // 2], times[int(len(times) * 0.99)], times[-1],
                         len(times) / seconds)


@dataclass
class Window:
    """A time in which something went on; seconds since 1970."""

    what: str
    start: float
    end: float = 0


@dataclass
class Result:
    """Of one server."""

    windows: list[Window] = field(default_factory=list)
    puts: list[tuple[float, float]] = field(default_factory=list)  # when, how many ms
    numbers: dict[str, float] = field(default_factory=dict)

    def latencies(self, what: str) -> Latencies:
        """Of those that were under way in a time of this kind."""
        windows = [window for window in self.windows if window.what == what]
        times = [ms for at, ms in self.puts
                 if any(at < w.end and at + ms / 1000 > w.start for w in windows)]
        return Latencies.of(times, sum(w.end - w.start for w in windows))


def load(server: Server, mebibytes: int) -> None:
    """Fills the store with values that do not compress."""
    m = messages().rpc
    value = bytes(range(256)) * (VALUE_BYTES // 256)
    with Client(server.address) as client:
        count = mebibytes * 2**20 // VALUE_BYTES
        for start in range(0, count, VALUES_PER_TXN):
            show(f"loading: {100 * start // count} %")
            client.kv.Txn(m.TxnRequest(success=[
                m.RequestOp(request_put=m.PutRequest(key=b"load/%08d" % n, value=value))
                for n in range(start, start + VALUES_PER_TXN)]))


def halve(server: Server, mebibytes: int) -> None:
    """Deletes every other hundred of values, and compacts."""
    m = messages().rpc
    with Client(server.address) as client:
        for start in range(0, mebibytes * 2**20 // VALUE_BYTES, 2 * VALUES_PER_TXN):
            revision = client.kv.DeleteRange(m.DeleteRangeRequest(
                key=b"load/%08d" % start,
                range_end=b"load/%08d" % (start + VALUES_PER_TXN))).header.revision
        client.kv.Compact(
            m.CompactionRequest(revision=revision, physical=True), timeout=600)


def etcdctl(server: Server, *words: str) -> None:
    subprocess.run([paths.ETCDCTL, "--endpoints", server.address, "--command-timeout=600s", *words],
                   check=True, capture_output=True, timeout=900, env=clean_environment())


def save(server: Server, path: Path) -> None:
    etcdctl(server, "snapshot", "save", str(path))


@contextmanager
def writing(server: Server, result: Result):
    """h2load's puts of one key, all the while."""
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        data, log = Path(folder) / "body", Path(folder) / "log"
        data.write_bytes(body("Put"))
        run = subprocess.Popen(
            ["h2load", "--duration=3600", f"--clients={CLIENTS}",
             f"--max-concurrent-streams={STREAMS}", f"--data={data}",
             "--header=content-type: application/grpc", "--header=te: trailers",
             f"--log-file={log}", f"{server.endpoint}/etcdserverpb.KV/Put"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
            if run.poll() is not None:
                raise RuntimeError("h2load has ended by itself")
        finally:
            run.kill()
            run.wait()
        for line in log.read_text().splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[1] == "200":
                result.puts.append((int(fields[0]) / 1e6, int(fields[2]) / 1000))


@contextmanager
def beside(work: Callable[[], object], pause: float):
    """Does `work` again and again meanwhile."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(pause):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def most_memory(server: Server, work: Callable[[], object]) -> dict[str, float]:
    """What the server holds at its most while `work` is done, in MiB, of each kind."""
    found = [scale.memory(server)]
    with beside(lambda: found.append(scale.memory(server)), 0.05):
        work()
    return {kind: max(each[kind] for each in found) for kind in found[0]}


def measure_memory(server: Server, folder: Path) -> dict[str, float]:
    """By how much a snapshot beside writers makes it grow, from where it no longer does alone."""
    m = messages().rpc
    with Client(server.address) as client, writing(server, Result()):
        def compact() -> None:
            revision = client.maintenance.Status(m.StatusRequest()).header.revision
            client.kv.Compact(
                m.CompactionRequest(revision=revision, physical=True), timeout=600)

        with beside(compact, 1):
            note("memory beside writers")
            alone = {scale.PRIVATE: 0.0, scale.RESIDENT: 0.0}
            for _ in range(MEMORY_WINDOWS_MAX):
                before = alone[scale.PRIVATE]
                grown = most_memory(server, lambda: time.sleep(MEMORY_SECONDS))
                alone = {kind: max(alone[kind], grown[kind]) for kind in alone}
                if grown[scale.PRIVATE] <= before * MEMORY_FACTOR:
                    break
            note("memory beside writers and a snapshot")
            saving = most_memory(server, lambda: save(server, folder / "memory.db"))
    (folder / "memory.db").unlink()
    rows = {}
    for kind in alone:
        rows |= {f"{kind} beside writers, MiB": alone[kind],
                 f"{kind} beside writers and a snapshot, MiB": saving[kind],
                 f"{kind} that a snapshot takes, MiB": max(0.0, saving[kind] - alone[kind])}
    return rows


def memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def window(result: Result, what: str):
    note(what)
    each = Window(what, time.time())
    yield
    each.end = time.time()
    result.windows.append(each)


def measure(server: Server, mebibytes: int, folder: Path, quiet: float) -> Result:
    result = Result()
    numbers = result.numbers
    load(server, mebibytes)
    start = time.monotonic()
    save(server, folder / "alone.db")
    numbers["snapshot alone, s"] = time.monotonic() - start
    numbers["snapshot, MiB"] = (folder / "alone.db").stat().st_size / 2**20
    (folder / "alone.db").unlink()
    numbers |= measure_memory(server, folder)
    with writing(server, result):
        time.sleep(1)
        for _ in range(ROUNDS):
            with window(result, "puts alone"):
                time.sleep(quiet)
            start = time.monotonic()
            with window(result, "puts beside a snapshot"):
                save(server, folder / "beside.db")
            numbers["snapshot beside puts, s"] = time.monotonic() - start
    status = messages().rpc.StatusRequest()
    with Client(server.address) as client:
        halve(server, mebibytes)
        numbers["file before, MiB"] = client.maintenance.Status(status).dbSize / 2**20
        with writing(server, result):
            time.sleep(1)
            for times in range(ROUNDS):
                with window(result, "puts alone"):
                    time.sleep(quiet)
                start = time.monotonic()
                with window(result, "puts beside a defragmentation"):
                    etcdctl(server, "defrag")
                if times == 0:
                    numbers["defragmentation beside puts, s"] = time.monotonic() - start
                    numbers["file after, MiB"] = client.maintenance.Status(status).dbSize / 2**20
    server.stop()
    start = time.monotonic()
    server.start()
    numbers["restart to serving, s"] = time.monotonic() - start
    return result


class Report:
    """Printed and written down piece by piece: what is done is not lost with what fails after."""

    def __init__(self, path: Path):
        self.path = path
        path.write_text("")

    def __call__(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text + "\n\n")
        print(text + "\n", flush=True)


WHATS = ["puts alone", "puts beside a snapshot", "puts beside a defragmentation"]


def table(results: dict[str, Result], numbers: list[str], whats: list[str]) -> str:
    lines = ["| | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]
    for what in whats:
        cells = []
        for result in results.values():
            found, alone = result.latencies(what), result.latencies(WHATS[0])
            cells.append(
                f"p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms ({found.p99 / alone.p99:.2f}×), "
                f"worst {found.worst:.0f} ms, {found.per_second:.0f}/s")
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    for row in numbers:
        lines.append(f"| {row} | " + " | ".join(
            f"{result.numbers[row]:.2f}" for result in results.values()) + " |")
    return "\n".join(lines)


def plot(results: dict[str, Result], path: Path) -> None:
    """The worst put of each tenth of a second over the time, with what went on."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        len(results), 1, figsize=(10, 3 * len(results)), squeeze=False, sharey=True)
    for panel, (name, result) in zip(panels[:, 0], results.items()):
        first = result.windows[0].start
        worst: dict[int, float] = {}
        for at, ms in result.puts:
            place = int((at + ms / 1000 - first) * 10)
            worst[place] = max(worst.get(place, 0), ms)
        panel.plot([place / 10 for place in sorted(worst)],
                   [worst[place] for place in sorted(worst)], ".", markersize=3)
        for each in result.windows:
            if each.what != WHATS[0]:
                color = "tab:orange" if "snapshot" in each.what else "tab:green"
                panel.axvspan(each.start - first, each.end - first, alpha=0.25, color=color)
        panel.set_yscale("log")
        panel.set_title(f"{name}: worst put of each 0.1 s, ms; orange: snapshot, "
                        "green: defragmentation", fontsize=9)
        panel.set_xlabel("s")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def beside_writers(options: argparse.Namespace, servers: dict[str, str], report: Report) -> None:
    results = {}
    for name, binary in servers.items():
        note(f"{name}: {options.mebibytes} MiB, saved and rewritten beside writers")
        with (Server(binary, [*FLAGS, *no_automatic(name)]) as server,
              tempfile.TemporaryDirectory(dir=options.folder or memory_folder()) as folder):
            results[name] = measure(
                server.start(), options.mebibytes, Path(folder), options.quiet)
    saved = [row for row in next(iter(results.values())).numbers if "snapshot" in row
             or "memory" in row or "RSS" in row]
    rest = [row for row in next(iter(results.values())).numbers if row not in saved]
    report(f"## A snapshot of {options.mebibytes} MiB under full write load\n\n"
           + table(results, saved, WHATS[:2]))
    report(f"## {options.mebibytes} MiB rewritten under full write load\n\n"
           + table(results, rest, [WHATS[0], WHATS[2]]))
    (options.output / "backup.json").write_text(json.dumps(
        {name: {what: asdict(result.latencies(what)) for what in WHATS} | result.numbers
         for name, result in results.items()}, indent=1))
    plot(results, options.output / "backup.png")


def no_automatic(name: str) -> list[str]:
    """Martlet would give the space back before it is asked to."""
    return ["--auto-defrag-factor=0"] if name == "martlet" else []


def at_scale(options: argparse.Namespace, servers: dict[str, str], report: Report) -> None:
    every = {}
    report("## Scale")
    for each in scale.loads(options.keys, options.scale_mebibytes):
        results = {}
        for name, binary in servers.items():
            note(f"{name}: {each.name}")
            results[name] = scale.measure(binary, each)
        report(scale.table(each, results))
        every[each.name] = results
        (options.output / "scale.json").write_text(json.dumps(every, indent=1))


def rooms(options: argparse.Namespace) -> list[list[scale.Room]]:
    """What each part needs at one time."""
    found = []
    if options.part != "scale":
        size = options.mebibytes << 20
        folder = options.folder or memory_folder() or tempfile.gettempdir()
        found.append([
            scale.Room(f"{options.mebibytes} MiB", Path(tempfile.gettempdir()),
                       size * ROOM_FACTOR + scale.ROOM_BYTES),
            scale.Room("their snapshot", Path(folder), size * 1.1 + SNAPSHOT_ROOM_BYTES)])
    if options.part != "beside":
        found += [[scale.room(each)]
                  for each in scale.loads(options.keys, options.scale_mebibytes)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="make backup-bench", description=__doc__)
    share = QUICK if os.environ.get("QUICK") else 1
    size = {name: int(os.environ.get(name, standard // share)) for name, standard in [
        ("MEBIBYTES", 1024), ("KEYS", 10_000_000), ("SCALE_MEBIBYTES", 8192)]}
    parser.add_argument("--mebibytes", type=int, default=size["MEBIBYTES"])
    parser.add_argument("--keys", type=int, default=size["KEYS"])
    parser.add_argument("--scale-mebibytes", type=int, default=size["SCALE_MEBIBYTES"])
    parser.add_argument("--quiet", type=float, default=QUIET_SECONDS if share == 1 else 3)
    parser.add_argument("--only", choices=list(BINARIES))
    parser.add_argument("--part", choices=["beside", "scale"])
    parser.add_argument("--output", type=Path, default=paths.ROOT / ".build" / "bench")
    parser.add_argument("--folder", type=Path, help="for the snapshots saved beside writers")
    options = parser.parse_args()
    servers = {name: binary for name, binary in BINARIES.items() if options.only in (None, name)}
    options.output.mkdir(parents=True, exist_ok=True)
    for each in rooms(options):
        scale.check_room(each)
    report = Report(options.output / "backup.md")
    report(", ".join(f"{key} {value}" for key, value in machine().items()))
    if options.part != "scale":
        beside_writers(options, servers, report)
    if options.part != "beside":
        at_scale(options, servers, report)


if __name__ == "__main__":
    main()

"""What a snapshot and a defragmentation cost those who write meanwhile, on etcd 3.5.1 and Martlet.

Each server gets `--mebibytes` of values and then, in turn: h2load alone, h2load beside snapshots
that are saved one after the other, h2load beside one defragmentation after half of the values
are deleted. h2load and etcdctl share the machine with the server. Also told: how long a snapshot
takes without load, by how much the server's memory grew at most, how long a restart takes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Tests"))

from harness import paths  # noqa: E402
from harness.protos import Client, messages  # noqa: E402
from harness.server import Server, clean_environment  # noqa: E402
from load import body  # noqa: E402

VALUE_BYTES = 4096
VALUES_PER_TXN = 100
CLIENTS, STREAMS = 8, 4
QUOTA = 8 << 30


@dataclass
class Latencies:
    """Of puts, in milliseconds."""

    p50: float
    p99: float
    worst: float
    per_second: float


@dataclass
class Result:
    """Of one server; times in seconds, sizes in MiB."""

    rows: dict[str, float | Latencies] = field(default_factory=dict)


def load(server: Server, mebibytes: int) -> None:
    """Fills the store with values that do not compress."""
    m = messages().rpc
    value = bytes(range(256)) * (VALUE_BYTES // 256)
    with Client(server.address) as client:
        for start in range(0, mebibytes * 2**20 // VALUE_BYTES, VALUES_PER_TXN):
            client.kv.Txn(m.TxnRequest(success=[
                m.RequestOp(request_put=m.PutRequest(key=b"load/%08d" % n, value=value))
                for n in range(start, start + VALUES_PER_TXN)]))


def halve(server: Server) -> None:
    """Deletes every other hundred of values, and compacts."""
    m = messages().rpc
    with Client(server.address) as client:
        keys = client.kv.Range(m.RangeRequest(
            key=b"load/", range_end=b"load0", keys_only=True)).kvs
        for start in range(0, len(keys), 2 * VALUES_PER_TXN):
            last = keys[min(start + VALUES_PER_TXN, len(keys) - 1)].key
            revision = client.kv.DeleteRange(m.DeleteRangeRequest(
                key=keys[start].key, range_end=last)).header.revision
        client.kv.Compact(m.CompactionRequest(revision=revision, physical=True))
        client.maintenance.Status(m.StatusRequest())


def write(server: Server, requests: int) -> Latencies:
    """h2load's puts of one key."""
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder) / "body", Path(folder) / "log"
        data.write_bytes(body("Put"))
        start = time.monotonic()
        subprocess.run(
            ["h2load", f"--requests={requests}", f"--clients={CLIENTS}",
             f"--max-concurrent-streams={STREAMS}", f"--data={data}",
             "--header=content-type: application/grpc", "--header=te: trailers",
             f"--log-file={log}", f"{server.endpoint}/etcdserverpb.KV/Put"],
            capture_output=True, check=True, timeout=600)
        seconds = time.monotonic() - start
        times = sorted(int(line.split()[2]) / 1000 for line in log.read_text().splitlines())
    return Latencies(statistics.median(times), times[int(len(times) * 0.99)], times[-1],
                     requests / seconds)


def etcdctl(server: Server, *words: str) -> None:
    subprocess.run([paths.ETCDCTL, "--endpoints", server.address, "--command-timeout=600s", *words],
                   check=True, capture_output=True, timeout=600, env=clean_environment())


class Peak(threading.Thread):
    """The most memory that the server has while this runs."""

    def __init__(self, server: Server):
        super().__init__(daemon=True)
        self.server, self.first, self.most = server, server.rss_bytes(), 0
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.01):
            self.most = max(self.most, self.server.rss_bytes())

    def end(self) -> float:
        self.is_over.set()
        self.join()
        return max(0, self.most - self.first) / 2**20


def beside(server: Server, requests: int, work) -> Latencies:
    """Writes while `work` is done again and again, until the writes are."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        return write(server, requests)
    finally:
        over.set()
        thread.join()


def measure(server: Server, mebibytes: int, requests: int, folder: Path) -> Result:
    result = Result()
    rows = result.rows
    load(server, mebibytes)
    time.sleep(1)
    rows["puts alone"] = write(server, requests)
    start = time.monotonic()
    etcdctl(server, "snapshot", "save", str(folder / "alone.db"))
    rows["snapshot alone, s"] = time.monotonic() - start
    rows["snapshot, MiB"] = (folder / "alone.db").stat().st_size / 2**20
    peak = Peak(server)
    peak.start()
    rows["puts beside snapshots"] = beside(
        server, requests, lambda: etcdctl(server, "snapshot", "save", str(folder / "beside.db")))
    rows["memory grew by, MiB"] = peak.end()
    halve(server)
    times = []

    def defragment() -> None:
        if not times:
            start = time.monotonic()
            etcdctl(server, "defrag")
            times.append(time.monotonic() - start)
        time.sleep(0.01)

    rows["puts beside one defragmentation"] = beside(server, requests, defragment)
    rows["defragmentation, s"] = times[0]
    server.stop()
    start = time.monotonic()
    server.start()
    rows["restart to serving, s"] = time.monotonic() - start
    return result


def table(results: dict[str, Result]) -> str:
    names = list(results)
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row in results[names[0]].rows:
        cells = []
        for name in names:
            value = results[name].rows[row]
            cells.append(
                f"p50 {value.p50:.1f} ms, p99 {value.p99:.1f} ms, worst {value.worst:.0f} ms, "
                f"{value.per_second:.0f}/s" if isinstance(value, Latencies) else f"{value:.2f}")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make backup-bench", description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--only", choices=["etcd", "martlet"])
    parser.add_argument("--output", type=Path, default=paths.ROOT / ".build" / "bench")
    parser.add_argument("--folder", type=Path, help="for the snapshots: another disk than the server's")
    options = parser.parse_args()
    binaries = {"etcd": paths.ETCD, "martlet": paths.MARTLET}
    results = {}
    for name, binary in binaries.items():
        if options.only not in (None, name):
            continue
        with (Server(binary, [f"--quota-backend-bytes={QUOTA}"]) as server,
              tempfile.TemporaryDirectory(dir=options.folder) as folder):
            results[name] = measure(
                server.start(), options.mebibytes, options.requests, Path(folder))
    text = table(results)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "backup.md").write_text(text + "\n")
    (options.output / "backup.json").write_text(json.dumps(
        {name: result.rows for name, result in results.items()}, default=vars))
    print(text)


if __name__ == "__main__":
    main()

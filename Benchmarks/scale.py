"""What becomes of a server with many keys, and with many bytes: etcd 3.5.1 and Martlet.

Each gets ten million small keys, then, anew, 8 GiB of values. Told are the time of loading (several
keys in a transaction, several transactions in flight), the file, the memory, the time of a
snapshot (which is thrown away as it comes: there need not be room for it), what puts take beside a
compaction of a tenth of the revisions and the commits that follow it, the time of a restart.
"""

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from harness.protos import Client, messages
from harness.server import Server

OPERATIONS_PER_TXN = 100
TXN_BYTES_MAX = 16 << 10
IN_FLIGHT = 64
KEY_BYTES, SMALL_VALUE_BYTES, LARGE_VALUE_BYTES = 24, 16, 4096
# Both keep the entries since the last snapshot in memory.
FLAGS = ["--snapshot-count=10000", "--quota-backend-bytes=" + str(64 << 30)]
RESTART_SECONDS_MAX = 600
# Puts are looked at for so long from the beginning of a compaction, or until it is over.
COMPACTION_SECONDS_MIN = 5
# Of the values: LMDB's file, what is written over, the log.
ROOM_FACTOR, ROOM_BYTES = 2.3, 2 << 30


@dataclass(frozen=True)
class Load:
    """So many keys, with values of so many bytes."""

    name: str
    keys: int
    value_bytes: int


def loads(keys: int, mebibytes: int) -> list[Load]:
    """Both, or the one of which there is something."""
    both = [Load(f"{keys:,} keys of {KEY_BYTES} bytes, {SMALL_VALUE_BYTES} of value",
                 keys, SMALL_VALUE_BYTES),
            Load(f"{mebibytes:,} MiB in values of {LARGE_VALUE_BYTES} bytes",
                 mebibytes * 2**20 // LARGE_VALUE_BYTES, LARGE_VALUE_BYTES)]
    return [load for load in both if load.keys]


@dataclass(frozen=True)
class Room:
    """What is needed of a disk while something is measured."""

    what: str
    folder: Path
    bytes: float


def room(load: Load) -> Room:
    """For the server's files."""
    row = load.value_bytes + 2 * KEY_BYTES + 40
    return Room(load.name, Path(tempfile.gettempdir()), load.keys * row * ROOM_FACTOR + ROOM_BYTES)


def check_room(together: list[Room]) -> None:
    """Ends the run when these would not fit where they go, at the same time."""
    for device in {each.folder.stat().st_dev for each in together}:
        here = [each for each in together if each.folder.stat().st_dev == device]
        wanted, free = sum(each.bytes for each in here), shutil.disk_usage(here[0].folder).free
        if free < wanted:
            sys.exit(f"{', '.join(each.what for each in here)}: {here[0].folder} has "
                     f"{free / 2**30:.1f} GiB free, {wanted / 2**30:.1f} are needed; TMPDIR names "
                     "another place")


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, left = b"", len(data)
    while left > 127:
        length += bytes([left & 127 | 128])
        left >>= 7
    return bytes([number << 3 | 2]) + length + bytes([left]) + data


def transactions(load: Load, keys: range) -> Iterator[bytes]:
    """TxnRequests that put these keys, written by hand: the client must not be what is measured."""
    per_txn = max(1, min(OPERATIONS_PER_TXN, TXN_BYTES_MAX // (load.value_bytes + 64)))
    value = _field(2, bytes(range(256)) * (load.value_bytes // 256)
                   or bytes(load.value_bytes))
    for start in range(keys.start, keys.stop, per_txn):
        txn = bytearray()
        for n in range(start, min(start + per_txn, keys.stop)):
            put = _field(1, b"scale/%0*d" % (KEY_BYTES - 6, n)) + value
            txn += _field(2, _field(2, put))
        yield bytes(txn)


def pump(server: Server, requests: Iterator[bytes], total: int, name: str) -> int:
    """Sends TxnRequests with `IN_FLIGHT` on their way. Those that time out, since the disk does not
    follow, are sent again; how many these are."""
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/etcdserverpb.KV/Txn", lambda request: request, lambda a: a)
        room = threading.Semaphore(IN_FLIGHT)
        failures: list[grpc.Future] = []
        late: list[bytes] = []

        def send(request: bytes) -> None:
            def ended(future: grpc.Future) -> None:
                if future.code() is not grpc.StatusCode.OK:
                    if "timed out" in future.details():
                        late.append(request)
                    else:
                        failures.append(future)
                room.release()

            room.acquire()
            if failures:
                raise RuntimeError(f"a load failed: {failures[0].code()} {failures[0].details()}")
            call.future(request).add_done_callback(ended)

        def drain() -> None:
            for _ in range(IN_FLIGHT):
                room.acquire()
            room.release(IN_FLIGHT)

        for count, request in enumerate(requests):
            send(request)
            if count % 256 == 0:
                show(f"{name}: {100 * count // max(1, total)} %")
        drain()
        timed_out = 0
        while late:
            again, late[:] = late[:], []
            timed_out += len(again)
            for request in again:
                send(request)
            drain()
        if failures:
            raise RuntimeError(f"a load failed: {failures[0].code()} {failures[0].details()}")
        return timed_out


def show(text: str) -> None:
    """One line that changes, on a terminal; else nothing."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def note(text: str) -> None:
    show("")
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


# Kinds of memory, as rows name them.
PRIVATE, RESIDENT = "private memory (RssAnon)", "RSS (RssAnon + RssFile)"


def memory(server: Server) -> dict[str, float]:
    """What the server holds for itself, and that with the pages of files that it has mapped (the
    system takes those back when it needs them), in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status.splitlines()
             if line.startswith(("RssAnon", "RssFile"))}
    return {PRIVATE: found["RssAnon"], RESIDENT: found["RssAnon"] + found["RssFile"]}


def memory_rows(server: Server, when: str) -> dict[str, float]:
    return {f"{kind} {when}, MiB": found for kind, found in memory(server).items()}


def receive_snapshot(server: Server) -> int:
    """How many bytes it has; they go nowhere."""
    count = shown = 0
    with Client(server.address) as client:
        for answer in client.maintenance.Snapshot(messages().rpc.SnapshotRequest()):
            count += len(answer.blob)
            if count >> 24 > shown:
                shown = count >> 24
                whole = count + answer.remaining_bytes
                show(f"snapshot: {100 * count // whole} %")
    return count


def worst_put(
        server: Server, work: Callable[[], object], seconds_min: float
) -> tuple[float, float, float]:
    """Seconds of `work`; of the puts beside it, one after the other, the worst and the p99 in ms.
    Those count that begin in its time or in the first `seconds_min`."""
    m = messages().rpc
    over = threading.Event()
    times = []

    def write() -> None:
        with Client(server.address) as client:
            while not over.is_set():
                start = time.monotonic()
                try:
                    client.kv.Put(m.PutRequest(key=b"pause", value=b"x"), timeout=600)
                except grpc.RpcError as error:
                    note(f"a put failed: {error.details()}")
                times.append((time.monotonic() - start) * 1000)

    thread = threading.Thread(target=write)
    thread.start()
    start = time.monotonic()
    work()
    took = time.monotonic() - start
    time.sleep(max(0, seconds_min - took))
    over.set()
    thread.join()
    times.sort()
    return took, times[-1], times[int(len(times) * 0.99)]


def measure(binary: str, load: Load) -> dict[str, float]:
    """One server's rows."""
    rows: dict[str, float] = {}
    m = messages().rpc
    with Server(binary, FLAGS) as server:
        server.start()
        start = time.monotonic()
        per_txn = max(1, min(OPERATIONS_PER_TXN, TXN_BYTES_MAX // (load.value_bytes + 64)))
        timed_out = pump(
            server, transactions(load, range(load.keys)), load.keys // per_txn, "loading")
        rows["load, s"] = time.monotonic() - start
        rows["transactions that timed out and were sent again"] = timed_out
        rows["keys loaded a second"] = load.keys / rows["load, s"]
        with Client(server.address) as client:
            status = client.maintenance.Status(m.StatusRequest())
            rows["file, MiB"] = status.dbSize / 2**20
            rows |= memory_rows(server, "after loading")
            start = time.monotonic()
            size = receive_snapshot(server)
            rows["snapshot, s"] = time.monotonic() - start
            rows["snapshot, MiB"] = size / 2**20
            tenth = range(load.keys // 10)
            pump(server, transactions(load, tenth), len(tenth) // per_txn, "writing over a tenth")
            revision = client.maintenance.Status(m.StatusRequest()).header.revision
            _, rows["worst put alone, ms"], rows["p99 of puts alone, ms"] = worst_put(
                server, lambda: None, COMPACTION_SECONDS_MIN)
            show("compaction")
            (rows["compaction, s"], rows["worst put beside a compaction, ms"],
             rows["p99 of puts beside a compaction, ms"]) = worst_put(
                server, lambda: client.kv.Compact(
                    m.CompactionRequest(revision=revision, physical=True), timeout=3600),
                COMPACTION_SECONDS_MIN)
        show("restart")
        server.stop()
        start = time.monotonic()
        server.spawn()
        while not server._is_ready():
            if server.process.poll() is not None or (
                    time.monotonic() - start > RESTART_SECONDS_MAX):
                raise RuntimeError(f"no restart: {server.log_tail()}")
            time.sleep(0.01)
        rows["restart to serving, s"] = time.monotonic() - start
        show("")
        rows |= memory_rows(server, "after the restart")
        rows[f"{PRIVATE} after the restart, bytes a key"] = (
            rows[f"{PRIVATE} after the restart, MiB"] * 2**20 / load.keys)
    return rows


def table(load: Load, results: dict[str, dict[str, float]]) -> str:
    names = list(results)
    lines = [f"| {load.name} | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for row in results[names[0]]:
        lines.append(f"| {row} | " + " | ".join(
            f"{results[name][row]:,.{0 if results[name][row] >= 100 else 1}f}"
            for name in names) + " |")
    return "\n".join(lines)

"""One measurement: h2load against one server, and what the server spent on it."""

import json
import re
import resource
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import paths
from harness.server import clean_environment

if TYPE_CHECKING:
    from group import Group

RUN_SECONDS_MAX = 180
VALUE_BYTES = 300
KEY = b"bench/0123456789"


@dataclass(frozen=True)
class Point:
    """`requests` over `connections` with `streams` in flight on each."""

    connections: int
    streams: int
    requests: int

    @property
    def label(self) -> str:
        return f"{self.connections}×{self.streams}"


@dataclass
class Measurement:
    """Times in milliseconds, CPU of the server and of the load generator in microseconds a
    request, RSS in MiB."""

    throughput: float
    p50: float
    p99: float
    cpu: float
    client: float
    rss: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited protobuf field of less than 16 KiB."""
    length = bytes([len(data)]) if len(data) < 128 else bytes(
        [len(data) & 0x7F | 0x80, len(data) >> 7])
    return bytes([number << 3 | 2]) + length + data


def body(operation: str) -> bytes:
    """The gRPC frame of a PutRequest or a RangeRequest for one key."""
    message = _field(1, KEY)
    if operation == "Put":
        message += _field(2, bytes(32 + n % 90 for n in range(VALUE_BYTES)))
    return b"\0" + len(message).to_bytes(4, "big") + message


def revision(server: "Group") -> int:
    """The store's revision; the key is read on the way, so that it is known to be there."""
    answer = subprocess.run(
        [paths.ETCDCTL, f"--endpoints={server.endpoint}", "get", KEY.decode(), "-w", "json"],
        capture_output=True, check=True, timeout=30, env=clean_environment())
    return json.loads(answer.stdout)["header"]["revision"]


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _percentile(ordered: list[int], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000


def measure(server: "Group", operation: str, point: Point) -> Measurement:
    """Runs h2load once; raises when a request failed or a put did not happen."""
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder) / "body", Path(folder) / "log"
        data.write_bytes(body(operation))
        before, cpu = revision(server), server.cpu_seconds()
        client = _children_cpu_seconds()
        run = subprocess.run(
            ["h2load", f"--requests={point.requests}", f"--clients={point.connections}",
             f"--max-concurrent-streams={point.streams}", f"--data={data}",
             "--header=content-type: application/grpc", "--header=te: trailers",
             f"--log-file={log}", f"{server.endpoint}/etcdserverpb.KV/{operation}"],
            capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
        client = _children_cpu_seconds() - client
        cpu = server.cpu_seconds() - cpu
        moved = revision(server) - before
        lines = [line.split() for line in log.read_text().splitlines()]
    succeeded = sum(1 for line in lines if line[1] == "200")
    finished = re.search(r"finished in ([0-9.]+)(m?)s", run.stdout)
    if succeeded != point.requests or not finished:
        raise RuntimeError(f"{succeeded} of {point.requests} succeeded\n{run.stdout}{run.stderr}")
    if moved != (point.requests if operation == "Put" else 0):
        raise RuntimeError(f"{operation}: the revision moved by {moved}, not {point.requests}")
    seconds = float(finished[1]) / (1000 if finished[2] else 1)
    latencies = sorted(int(line[2]) for line in lines)
    return Measurement(
        throughput=point.requests / seconds, p50=_percentile(latencies, 0.5),
        p99=_percentile(latencies, 0.99), cpu=cpu / point.requests * 1e6,
        client=client / point.requests * 1e6, rss=server.rss_bytes() / 2**20)

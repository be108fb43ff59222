"""One server process on loopback with its own data dir."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

STARTUP_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
LOG_SECONDS_MAX = 10.0

# Advertised, never listened on: the same on every server, so that IDs derived from it are equal.
PEER_URL = "http://127.0.0.1:12380"


class StartupFailure(Exception):
    """The server exited or never became healthy; carries the end of its log."""


class Ports:
    """Ports on loopback that nobody else is given: a block for each process of the tests.

    A port that the system picks can be picked again before the server binds it, or serve an
    outgoing connection while the server is stopped. These lie below those that the system picks
    from. A UDP socket at the block's first number holds the block; servers speak TCP alone.
    """

    FIRST, BLOCKS, BLOCK_PORTS = 20_000, 40, 300

    def __init__(self):
        self.lock = threading.Lock()
        self.holder: socket.socket | None = None
        self.given = 0

    def _first(self) -> int:
        """The block's first number; the block is taken when it is first asked for."""
        block = 0
        while self.holder is None:
            assert block < self.BLOCKS, "every block of ports is taken"
            holder = socket.socket(type=socket.SOCK_DGRAM)
            try:
                holder.bind(("127.0.0.1", self.FIRST + block * self.BLOCK_PORTS))
                self.holder = holder
            except OSError:
                holder.close()
                block += 1
        return self.holder.getsockname()[1]

    def take(self, count: int) -> list[int]:
        """Those that were given longest ago, or never."""
        found: list[int] = []
        with self.lock:
            for _ in range(self.BLOCK_PORTS):
                port = self._first() + self.given % self.BLOCK_PORTS
                self.given += 1
                with socket.socket() as probe, contextlib.suppress(OSError):
                    # What is left of ended connections is no obstacle to a server either.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
                    found.append(port)
                if len(found) == count:
                    return found
        raise AssertionError(f"no {count} ports are free")


PORTS = Ports()


def free_ports(count: int) -> list[int]:
    """Distinct ports that are free on loopback and stay so until they are used."""
    return PORTS.take(count)


class Server:
    """Owns a process, two ports and (unless given one) a temporary data dir.

    Ports stay the same over restarts. The extra `flags` go on the command line as they are.
    """

    def __init__(self, binary: str, flags: list[str] | None = None, data_dir: Path | None = None,
                 name: str = "m1", own_peer_url: bool = False):
        self.binary = binary
        self.flags = flags or []
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix="martlet-test-"))
        self.data_dir = data_dir or self.home / "data"
        self.log = self.home / "log"
        self.client_port, self.peer_port = free_ports(2)
        self.peer_url = f"http://127.0.0.1:{self.peer_port}" if own_peer_url else PEER_URL
        self.process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}"

    def arguments(self) -> list[str]:
        """The whole command line."""
        return [
            self.binary, "--name", self.name, "--data-dir", str(self.data_dir),
            "--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint,
            "--listen-peer-urls", f"http://127.0.0.1:{self.peer_port}",
            "--initial-advertise-peer-urls", self.peer_url,
            "--initial-cluster", f"{self.name}={self.peer_url}",
            "--log-level", "warn", *self.flags,
        ]

    def spawn(self) -> None:
        """Starts the process without waiting for anything."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.home, start_new_session=True, env=clean_environment())

    def start(self) -> "Server":
        """Starts the process and waits until it is healthy and knows its cluster version."""
        self.spawn()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + STARTUP_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise StartupFailure(f"exit code {self.process.returncode}\n{self.log_tail()}")
            if self._is_ready():
                return
            time.sleep(0.003)
        raise StartupFailure(f"not healthy after {STARTUP_SECONDS_MAX} s\n{self.log_tail()}")

    def _is_ready(self) -> bool:
        try:
            health = json.loads(self.http("/health", timeout=2)[1])
            version = json.loads(self.http("/version", timeout=2)[1])
        except (OSError, ValueError):
            return False
        return health.get("health") == "true" and version.get("etcdcluster", "")[:1].isdigit()

    def http(self, path: str, timeout: float = 5) -> tuple[int, str]:
        """Status and body of a GET on the client port."""
        try:
            with urllib.request.urlopen(self.endpoint + path, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int | None:
        """SIGTERM, SIGKILL when that takes too long; gives the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def close(self) -> None:
        """Kills the process and removes what it wrote."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def await_log(self, text: str) -> None:
        """Returns when the log has it: what has happened is told by a thread of its own."""
        deadline = time.monotonic() + LOG_SECONDS_MAX
        while text not in self.log_text():
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.log_tail()}"
            time.sleep(0.01)

    def log_tail(self, characters: int = 2000) -> str:
        return self.log_text()[-characters:]

    def rss_bytes(self) -> int:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def anonymous_bytes(self) -> int:
        """The same without the pages of files, such as the store's."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) << 10

    def cpu_seconds(self) -> float:
        """User and system time of all threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def clean_environment() -> dict[str, str]:
    """Our environment without variables that etcd or etcdctl would read."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "ETCDCTL_"))}

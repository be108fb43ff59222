"""A PostgreSQL server under Patroni, on loopback, in a folder of its own, ended by pid."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg2
import yaml
from guide import PATRONI
from harness.server import clean_environment, free_ports
from store import Store

# Patroni allows no ttl below 20 s. The lease of a primary that dies has up to ttl to go: what the
# others then need to notice and to promote has to fit into loop_wait.
TTL_SECONDS, LOOP_SECONDS, RETRY_SECONDS = 20, 4, 5
STOP_SECONDS_MAX = 20
PASSWORD = "for-tests-only"
BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/bin"),
               key=lambda path: path.parent.name)


def unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root: what makes a command run as another user then."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"]


class Node:
    """Patroni's process and, as its child, PostgreSQL."""

    def __init__(self, number: int, store: Store):
        self.name = f"pg{number}"
        # Another user cannot be sure to reach the temporary folder that we were given.
        folder = "/tmp" if unprivileged() else None
        self.home = Path(tempfile.mkdtemp(prefix=f"martlet-{self.name}-", dir=folder))
        self.log = self.home / "patroni.log"
        self.config = self.home / "patroni.yml"
        self.data_dir = self.home / "data"
        self.port, self.rest_port = free_ports(2)
        self.process: subprocess.Popen | None = None
        self.config.write_text(yaml.safe_dump(self.settings() | store.settings(self.home)))
        if unprivileged():
            for path in (self.home, *self.home.iterdir()):
                shutil.chown(path, "postgres", "postgres")

    def settings(self) -> dict:
        """Everything but where the DCS is."""
        return {
            "scope": "main", "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest_port}",
                        "connect_address": f"127.0.0.1:{self.rest_port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_SECONDS, "loop_wait": LOOP_SECONDS, "retry_timeout": RETRY_SECONDS,
                    "postgresql": {"use_pg_rewind": True}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums", "no-sync"]},
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}", "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.data_dir), "bin_dir": str(BINARIES),
                "pgpass": str(self.home / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": PASSWORD},
                    "replication": {"username": "replicator", "password": PASSWORD}},
                "pg_hba": ["host all all 127.0.0.1/32 scram-sha-256",
                           "host replication replicator 127.0.0.1/32 scram-sha-256"],
                "parameters": {"unix_socket_directories": str(self.home), "fsync": False,
                               "shared_buffers": "16MB", "max_connections": 20}},
        }

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*unprivileged(), str(PATRONI / "patroni"), str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home,
                start_new_session=True, env=clean_environment() | {"HOME": str(self.home)})

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def status(self, page: str = "patroni") -> dict:
        """What its REST API says; nothing while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}/{page}",
                                        timeout=3) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read() or b"{}")
        except (OSError, ValueError):
            return {}

    def is_primary(self) -> bool:
        """Whether Patroni holds it to be the primary and PostgreSQL takes writes."""
        if not self.is_running or self.status().get("role") != "primary":
            return False
        try:
            return not self.query("select pg_is_in_recovery()")
        except psycopg2.Error:
            return False

    def is_streaming(self) -> bool:
        status = self.status()
        return status.get("role") == "replica" and status.get("replication_state") == "streaming"

    def connect(self) -> "psycopg2.extensions.connection":
        found = psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres",
                                 password=PASSWORD, dbname="postgres", connect_timeout=3)
        found.autocommit = True
        return found

    def query(self, statement: str) -> object:
        """The first column of the first row, if there is one."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None

    def demotions(self) -> int:
        return self.log_text().count("Demoting self (")

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def postmaster(self) -> int | None:
        """PostgreSQL's pid, if the process there is ours."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().split()[0])
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(self.data_dir) in line else None

    def kill(self) -> None:
        """SIGKILL for both."""
        if self.is_running:
            self.process.kill()
            self.process.wait()
        if pid := self.postmaster():
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM to Patroni, which stops PostgreSQL and gives up what it holds."""
        self.process.terminate()
        self.process.wait(STOP_SECONDS_MAX)

    def close(self) -> None:
        """Ends both and removes what they wrote."""
        self.kill()
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while self.postmaster() and time.monotonic() < deadline:
            time.sleep(0.05)
        shutil.rmtree(self.home, ignore_errors=True)

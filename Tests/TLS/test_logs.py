"""Where the log goes, in what form, and that no place it goes to holds the server up."""

import gzip
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import paths
from harness.protos import Client, messages
from harness.server import Server, clean_environment
from pki import Authority
from secure import SecureServer, server_flags

BINARIES = pytest.mark.parametrize("binary", [paths.MARTLET, paths.ETCD], ids=["martlet", "etcd"])
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d{4})")
READY = "ready to serve client requests"
# A queue of 4096 lines, one for a put, of which the log takes not many more than 100 a second.
FILLING_SECONDS_MAX = 300


def info(binary: str, *flags: str) -> Server:
    return Server(binary, ["--log-level", "info", *flags])


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@BINARIES
def test_several_places_get_every_line(binary: str, tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    with info(binary, "--log-outputs", f"stdout,{log}") as server:
        server.start()
        until(lambda: READY in log.read_text() and READY in server.log_text())
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            assert {"level", "ts", "caller", "msg"} <= entry.keys()
            if binary == paths.MARTLET:
                assert STAMP.fullmatch(entry["ts"]), line


def test_the_last_lines_are_written_before_the_end(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    with info(paths.MARTLET, "--log-outputs", str(log)) as server:
        server.start()
        assert server.stop() == 0
        assert json.loads(log.read_text().splitlines()[-1])["msg"] == "stopping"
        assert server.log_text() == ""


def test_the_void_takes_all(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    with info(paths.MARTLET, "--log-outputs", f"stderr,/dev/null,{log}") as server:
        server.start()
        assert server.stop() == 0
        assert server.log_text() == "" and not log.exists()


def test_lines_for_people() -> None:
    """zap's console form: columns, then what else there is as JSON."""
    with info(paths.MARTLET, "--log-format", "console") as server:
        server.start()
        until(lambda: READY in server.log_text())
        for line in server.log_text().splitlines():
            stamp, level, _, message, *rest = line.split("\t")
            assert STAMP.fullmatch(stamp) and level in ("info", "warn") and message, line
            assert len(rest) <= 1 and all(json.loads(each) for each in rest), line


@BINARIES
def test_a_file_that_cannot_be_opened_is_an_error(binary: str, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "etcd.log"
    server = Server(binary, ["--log-outputs", str(path)])
    found = subprocess.run(server.arguments(), capture_output=True, text=True, timeout=20,
                           cwd=tmp_path, env=clean_environment())
    server.close()
    assert found.returncode == 1
    assert re.search(f"open {path}: no such file", found.stderr, re.IGNORECASE), found.stderr
    if binary == paths.MARTLET:
        assert "--log-outputs" in found.stderr


@BINARIES
def test_the_journal_must_be_there(binary: str, tmp_path: Path) -> None:
    """Where there is one, its protocol is a matter of unit tests."""
    with info(binary, "--log-outputs", "systemd/journal") as server:
        if Path("/run/systemd/journal/socket").exists():
            server.start()
            assert READY not in server.log_text()
            return
        found = subprocess.run(server.arguments(), capture_output=True, text=True, timeout=20,
                               cwd=tmp_path, env=clean_environment())
        assert found.returncode == 1
        if binary == paths.MARTLET:
            assert re.search("journal.*No such file.*--log-outputs", found.stderr)


ROTATION = ["--enable-log-rotation", "--log-rotation-config-json",
            '{"maxsize": 1, "maxbackups": 1, "compress": true}']


@BINARIES
def test_a_full_file_is_put_by(binary: str, tmp_path: Path) -> None:
    """The file is full at the start; what was put by long ago goes, the newest is compressed."""
    log = tmp_path / "etcd.log"
    log.write_text("x" * ((1 << 20) - 10) + "\n")
    old = tmp_path / "etcd-2020-01-01T00-00-00.000.log"
    old.write_text("old")
    with info(binary, "--log-outputs", str(log), *ROTATION) as server:
        server.start()
        until(lambda: READY in log.read_text())
        until(lambda: not old.exists() and len(list(tmp_path.glob("etcd-*.log.gz"))) == 1
              and not list(tmp_path.glob("etcd-*.log")))
        (packed,) = tmp_path.glob("etcd-*.log.gz")
        assert re.fullmatch(r"etcd-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log\.gz", packed.name)
        assert gzip.decompress(packed.read_bytes()).startswith(b"xxxx")


def test_a_log_that_nobody_reads_holds_nothing_up() -> None:
    """Standard error is a pipe that is full: the server starts, serves, counts what it could not
    tell, tells it once the pipe is read, and stops when it is told to."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    filled = 0
    try:
        while True:
            filled += os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    # Every apply is slow, so that each leaves a line.
    with info(paths.MARTLET, "--experimental-warning-apply-duration", "1ns") as server:
        server.process = subprocess.Popen(
            server.arguments(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=write,
            cwd=server.home, env=clean_environment())
        os.close(write)
        server.wait_ready()
        client, rpc = Client(server.address), messages().rpc

        def dropped() -> int:
            page = server.http("/metrics")[1]
            return int(re.search(r"^martlet_log_lines_dropped_total (\d+)$", page, re.M).group(1))

        deadline = time.monotonic() + FILLING_SECONDS_MAX
        value = b"v" * 8000
        while dropped() == 0:
            for _ in range(100):
                client.kv.Put(rpc.PutRequest(key=value, value=b""), timeout=5)
            assert time.monotonic() < deadline
        while filled > 0:
            filled -= len(os.read(read, min(filled, 1 << 16)))
        text = b""
        while b"log lines were dropped" not in text:
            text += os.read(read, 1 << 16)
        server.process.terminate()
        while piece := os.read(read, 1 << 16):
            text += piece
        assert server.process.wait(10) == 0
        assert b'"msg":"stopping"' in text
    os.close(read)


# Ten days are 240 hours only within the second in which the certificate is made.
@pytest.mark.parametrize("days,message,hours", [
    (10, "the certificate expires soon", {"239", "240"}),
    (-1, "the certificate has expired", {None}),
])
def test_a_certificate_that_ends(days: int, message: str, hours: set[str | None],
                                 authority: Authority) -> None:
    pair = authority.issue(f"ends{days}", "DNS:localhost,IP:127.0.0.1", days=days)
    with SecureServer(authority, None, server_flags(authority, pair, demands=False)) as server:
        server.spawn()
        until(lambda: message in server.log_text())
        (line,) = [json.loads(each) for each in server.log_text().splitlines() if message in each]
        assert (line["port"], line["cert-file"]) == ("client", pair.crt)
        assert line.get("hours-left") in hours

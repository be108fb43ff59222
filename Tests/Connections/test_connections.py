"""Clients that stall, half-close, flood or wait while the server restarts."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import paths
from harness.server import Server

REQUEST = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
WAIT_SECONDS = 10


@pytest.fixture(name="server", scope="module")
def one_server() -> Iterator[Server]:
    with Server(paths.MARTLET) as server:
        yield server.start()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.client_port), timeout=WAIT_SECONDS)


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def cpu_seconds(server: Server) -> float:
    stat = Path(f"/proc/{server.process.pid}/stat").read_text()
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until_watched(server: Server) -> None:
    """Returns when there is a watcher."""
    deadline = time.monotonic() + WAIT_SECONDS
    while "\netcd_debugging_mvcc_watcher_total 1\n" not in server.http("/metrics")[1]:
        assert time.monotonic() < deadline, "nobody watches"
        time.sleep(0.02)


def test_a_client_that_half_closes_gets_its_answer(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(REQUEST)
        connection.shutdown(socket.SHUT_WR)
        assert b'"etcdserver"' in read_all(connection)


def test_head_has_a_length_and_no_body(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(LAST.replace(b"GET", b"HEAD"))
        head, body = read_all(connection).split(b"\r\n\r\n")
        assert b"Content-Length: " in head and body == b""


def test_a_body_is_asked_for_once(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"POST /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{")
        time.sleep(0.1)
        connection.sendall(b"}")
        assert b"100 Continue" not in read_all(connection)


def test_pipelined_requests_wait_for_a_reader_and_all_are_answered(server: Server) -> None:
    count = 3000
    metrics = REQUEST.replace(b"/version", b"/metrics")
    before = server.rss_bytes()
    with connect(server) as connection:
        sender = threading.Thread(
            target=connection.sendall, args=(metrics * (count - 1) + LAST,))
        sender.start()
        time.sleep(1)
        grown = server.rss_bytes() - before
        assert read_all(connection).count(b"HTTP/1.1 200 OK") == count
        sender.join()
    assert grown < 12 << 20


def test_an_ending_connection_that_is_not_read_costs_nothing(server: Server) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.client_port))
        metrics = REQUEST.replace(b"/version", b"/metrics")
        connection.sendall(metrics * 100 + b"GET / HTTP/9\r\n\r\n" + b"x" * 50_000)
        time.sleep(0.5)
        before = cpu_seconds(server)
        time.sleep(1)
        assert cpu_seconds(server) - before < 0.3


def test_what_was_refused_can_be_read(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET / HTTP/9\r\n\r\n" + b"x" * 100_000)
        assert read_all(connection).startswith(b"HTTP/1.1 ")


def test_a_watch_goes_on_after_the_server_was_stopped_and_started() -> None:
    with Server(paths.MARTLET) as server:
        server.start()
        etcdctl = [paths.ETCDCTL, "--endpoints", server.address]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        with subprocess.Popen(
                [*etcdctl, "watch", "k"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, env=environment) as watch:
            until_watched(server)
            assert server.stop() == 0
            server.start()
            subprocess.run([*etcdctl, "put", "k", "v"], check=True, capture_output=True,
                           env=environment)
            timer = threading.Timer(WAIT_SECONDS, watch.kill)
            timer.start()
            lines = [watch.stdout.readline().strip() for _ in range(3)]
            timer.cancel()
            watch.kill()
        assert lines == ["PUT", "k", "v"]

"""Clients that stall, half-close, flood, stay for very long or wait while the server restarts."""

import contextlib
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import paths
from harness.protos import Client, messages
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


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


@contextlib.contextmanager
def limited(server: Server, count: int) -> Iterator[None]:
    """As if the server had been started with so few descriptors."""
    before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (count, before[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)


def ask(connection: socket.socket) -> bool:
    connection.sendall(REQUEST)
    return connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("port", ["client", "peer"])
def test_without_descriptors_nobody_is_let_in_and_nobody_else_suffers(port: str) -> None:
    """Of the last 150, or a quarter of fewer, clients get none; members get all there are."""
    spare = 40
    with Server(paths.MARTLET) as server, contextlib.ExitStack() as stack:
        server.start()

        def connected() -> socket.socket:
            where = ("127.0.0.1", server.client_port if port == "client" else server.peer_port)
            return stack.enter_context(socket.create_connection(where, WAIT_SECONDS))

        served = connected()
        assert ask(served)
        most = descriptors(server) + spare
        with limited(server, most * 4 // 3 if port == "client" else most):
            callers = [connected() for _ in range(spare + 20)]
            callers[-1].sendall(REQUEST)
            time.sleep(0.3)
            before = cpu_seconds(server)
            for _ in range(20):
                time.sleep(0.1)
                assert ask(served)
            assert cpu_seconds(server) - before < 0.4
            assert most - 2 <= descriptors(server) <= most + 1
            callers[-1].settimeout(0.1)
            with pytest.raises(TimeoutError):
                callers[-1].recv(1)
            for caller in callers[:-1]:
                caller.close()
            callers[-1].settimeout(WAIT_SECONDS)
            assert callers[-1].recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert server.log_text().count("could not be accepted") == 1


def test_a_connection_holds_nothing_of_calls_that_have_ended(tmp_path: Path) -> None:
    """Kubernetes keeps one for weeks: a hundred bytes a call would be gigabytes."""
    calls, growth_max = 300_000, 20 << 20
    body = tmp_path / "range"
    body.write_bytes(b"\0\0\0\0\3\x0a\1k")
    with Server(paths.MARTLET) as server:
        server.start()
        before = most = server.anonymous_bytes()
        with subprocess.Popen(
                ["h2load", f"--requests={calls}", "--clients=1", "--max-concurrent-streams=100",
                 f"--data={body}", "--header=content-type: application/grpc",
                 "--header=te: trailers", f"{server.endpoint}/etcdserverpb.KV/Range"],
                stdout=subprocess.PIPE, text=True) as load:
            while load.poll() is None:
                most = max(most, server.anonymous_bytes())
                time.sleep(0.05)
            assert f"{calls} succeeded" in load.stdout.read()
    assert most - before < growth_max


@pytest.mark.parametrize("restarts", [False, True])
def test_memory_of_a_log_of_large_entries_comes_back(restarts: bool) -> None:
    """A member holds the entries since its last snapshot, at a start too. Some of what it frees
    the C library keeps, up to 64 MiB for each of the few threads that took it."""
    m = messages().rpc
    flags = ["--snapshot-count=400", "--experimental-snapshot-catchup-entries=10"]

    def puts(client: Client, count: int, size: int) -> None:
        for _ in range(count):
            client.kv.Put(m.PutRequest(key=b"k", value=bytes(size)))

    with Server(paths.MARTLET, flags) as server:
        with Client(server.start().address) as client:
            puts(client, 320, 1_000_000)
        if restarts:
            server.stop()
            server.start()
        assert server.anonymous_bytes() > 300 << 20
        with Client(server.address) as client:
            puts(client, 1200, 10)
        deadline = time.monotonic() + WAIT_SECONDS
        while server.anonymous_bytes() > 180 << 20:
            assert time.monotonic() < deadline, server.anonymous_bytes()
            time.sleep(0.05)


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

"""What anybody may send to the peer port: the members' own traffic does not suffer."""

import socket
import threading
from collections.abc import Iterator

import pytest

from harness import paths
from harness.server import Server

WAIT_SECONDS = 10
VERSION = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n"
MEMBERS = VERSION.replace(b"/version", b"/members")


@pytest.fixture(name="server", scope="module")
def one_server() -> Iterator[Server]:
    with Server(paths.MARTLET) as server:
        yield server.start()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.peer_port), timeout=WAIT_SECONDS)


def is_serving(server: Server) -> bool:
    with connect(server) as connection:
        connection.sendall(VERSION)
        return connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("request_bytes", [
    b"GET / HTTP/9\r\n\r\n", b"\r\n\r\nnonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
    b"POST /raft HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000])
def test_what_is_no_request_is_refused_once(server: Server, request_bytes: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(request_bytes)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    assert answer.count(b"HTTP/1.1 ") == 1
    assert is_serving(server)


def test_a_caller_that_does_not_read_its_answers_is_not_heard(server: Server) -> None:
    count = 60_000
    before = server.rss_bytes()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.settimeout(60)  # for all that is sent, too
        connection.connect(("127.0.0.1", server.peer_port))
        asked = MEMBERS.replace(b"Host", b"X: " + b"x" * 400 + b"\r\nHost") * count
        sender = threading.Thread(target=connection.sendall, args=(asked,))
        sender.start()
        spent = -1.0
        while sender.is_alive() and server.cpu_seconds() - spent > 0.05:
            spent = server.cpu_seconds()
            sender.join(0.3)
        assert sender.is_alive() and server.rss_bytes() - before < 12 << 20
        assert is_serving(server)
        found, last = 0, b""
        while found < count:
            piece = connection.recv(1 << 20)
            assert piece
            found += (last + piece).count(b"HTTP/1.1 200 ")
            last = piece[-12:]
        sender.join()
    assert is_serving(server)

"""What HTTP/2 connections hear from the server besides answers, as etcd's clients do: its limits,
its pings, its goodbyes. What etcd has of it is asked of etcd too."""

import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from harness import paths
from harness.server import Server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, PING, GOAWAY = 1, 4, 6, 7
ACK, END_HEADERS = 1, 4
MAX_CONCURRENT_STREAMS = 3
NO_ERROR, PROTOCOL_ERROR, ENHANCE_YOUR_CALM = 0, 1, 11
WAIT_SECONDS = 10
BINARIES = {"etcd": paths.ETCD, "martlet": paths.MARTLET}


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Connection:
    """Frames as they are, past the settings of the beginning."""

    def __init__(self, server: Server):
        self.socket = socket.create_connection(("127.0.0.1", server.client_port), WAIT_SECONDS)
        self.socket.sendall(PREFACE)
        self.send(SETTINGS)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream)
        self.socket.sendall(head + payload)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def frames(self) -> Iterator[Frame]:
        """What comes until the server closes."""
        try:
            while True:
                head = self._exactly(9)
                payload = self._exactly(int.from_bytes(head[:3], "big"))
                yield Frame(head[3], head[4], struct.unpack(">I", head[5:])[0], payload)
        except (EOFError, ConnectionResetError):
            return

    def first(self, kind: int, flags: int = 0) -> Frame | None:
        return next((f for f in self.frames() if f.kind == kind and f.flags & flags == flags), None)

    def open_watch(self, stream: int) -> None:
        """A call that stays open; header fields as literals, never indexed."""
        fields = {":method": "POST", ":scheme": "http", ":path": "/etcdserverpb.Watch/Watch",
                  ":authority": "a", "content-type": "application/grpc", "te": "trailers"}
        block = b"".join(b"\x10" + bytes([len(name)]) + name.encode() + bytes([len(value)])
                         + value.encode() for name, value in fields.items())
        self.send(HEADERS, END_HEADERS, stream, block)


@pytest.fixture(name="kind", params=list(BINARIES))
def each_kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_client_that_pings_too_often_is_told_so_and_dropped(kind: str) -> None:
    """`--grpc-keepalive-min-time`: two pings are let pass, the next strike is the last."""
    with Server(BINARIES[kind]) as server, Connection(server.start()) as connection:
        for number in range(4):
            connection.send(PING, payload=struct.pack(">Q", number))
        goodbye = connection.first(GOAWAY)
        assert struct.unpack(">I", goodbye.payload[4:8])[0] == ENHANCE_YOUR_CALM
        assert goodbye.payload[8:] == b"too_many_pings"
        assert list(connection.frames()) == []


def test_pings_are_answered_as_often_as_the_flag_allows(kind: str) -> None:
    with (Server(BINARIES[kind], ["--grpc-keepalive-min-time", "10ms"]) as server,
          Connection(server.start()) as connection):
        connection.open_watch(1)  # without a call in flight two hours are the least for grpc-go
        for number in range(5):
            time.sleep(0.02)
            connection.send(PING, payload=struct.pack(">Q", number))
            assert connection.first(PING, ACK).payload == struct.pack(">Q", number)


def test_a_client_that_answers_no_ping_is_dropped(kind: str) -> None:
    """`--grpc-keepalive-interval`, `--grpc-keepalive-timeout`."""
    flags = ["--grpc-keepalive-interval", "1s", "--grpc-keepalive-timeout", "1s"]
    with Server(BINARIES[kind], flags) as server:
        server.start()
        begun = time.monotonic()
        with Connection(server) as silent:
            assert silent.first(PING) is not None
            assert time.monotonic() - begun > 0.8
            list(silent.frames())  # to the end
            assert 1.8 < time.monotonic() - begun < WAIT_SECONDS


def test_a_client_that_opens_more_streams_than_it_was_told_is_dropped() -> None:
    """`--max-concurrent-streams`, which etcd 3.5.1 has not."""
    with (Server(paths.MARTLET, ["--max-concurrent-streams", "3"]) as server,
          Connection(server.start()) as connection):
        told = dict(struct.iter_unpack(">HI", connection.first(SETTINGS).payload))
        assert told[MAX_CONCURRENT_STREAMS] == 3
        connection.send(SETTINGS, ACK)
        for stream in (1, 3, 5):
            connection.open_watch(stream)
        connection.send(PING, payload=b"all good")
        assert connection.first(PING, ACK).payload == b"all good"
        connection.open_watch(7)
        goodbye = connection.first(GOAWAY)
        assert struct.unpack(">I", goodbye.payload[4:8])[0] == PROTOCOL_ERROR


def test_a_server_that_stops_says_goodbye() -> None:
    """etcd closes without a word when no call is open."""
    with Server(paths.MARTLET) as server, Connection(server.start()) as connection:
        assert connection.first(SETTINGS, ACK) is not None
        server.process.terminate()
        goodbye = connection.first(GOAWAY)
        assert struct.unpack(">I", goodbye.payload[4:8])[0] == NO_ERROR
        assert server.stop() == 0

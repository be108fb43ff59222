"""What HTTP/2 connections hear from the server besides answers, as etcd's clients do: its limits,
its pings, its goodbyes. What etcd has of it is asked of etcd too."""

import base64
import json
import socket
import struct
import time
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from harness import paths
from harness.server import Server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
NO_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 7, 8, 11
GRPC_OK = bytes.fromhex("40889acac8b21234da8f0130")  # grpc-status: 0
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

    def open(self, stream: int, path: str, data: bytes | None = None,
             content_type: str = "application/grpc") -> None:
        """A call that stays open; header fields as literals, never indexed."""
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a",
                  "content-type": content_type, "te": "trailers"}
        block = b"".join(b"\x10" + bytes([len(name)]) + name.encode() + bytes([len(value)])
                         + value.encode() for name, value in fields.items())
        self.send(HEADERS, END_HEADERS, stream, block)
        if data is not None:
            is_whole = content_type == "application/grpc"
            self.send(DATA, END_STREAM if is_whole else 0, stream, data)


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
        connection.open(1, "/etcdserverpb.Watch/Watch")  # without a call in flight two hours are the least for grpc-go
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


def test_a_stream_beyond_those_that_a_client_was_told_is_refused() -> None:
    """`--max-concurrent-streams`, which etcd 3.5.1 has not; as grpc-go does it."""
    with (Server(paths.MARTLET, ["--max-concurrent-streams", "3"]) as server,
          Connection(server.start()) as connection):
        told = dict(struct.iter_unpack(">HI", connection.first(SETTINGS).payload))
        assert told[MAX_CONCURRENT_STREAMS] == 3
        connection.send(SETTINGS, ACK)
        for stream in (1, 3, 5, 7):
            connection.open(stream, "/etcdserverpb.Watch/Watch")
        refused = connection.first(RST_STREAM)
        assert (refused.stream, struct.unpack(">I", refused.payload)[0]) == (7, REFUSED_STREAM)
        connection.send(RST_STREAM, stream=1, payload=struct.pack(">I", CANCEL))
        connection.open(9, "/etcdserverpb.Maintenance/Status", b"\0\0\0\0\0")
        answer = connection.first(HEADERS, END_STREAM)
        assert answer.stream == 9 and GRPC_OK in answer.payload


def put(server: Server, key: bytes, value: bytes) -> None:
    body = {"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}
    request = urllib.request.Request(server.endpoint + "/v3/kv/put", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
        assert answer.status == 200


def test_reads_wait_for_a_client_that_does_not_read() -> None:
    """Thirty answers of ten MB each, of which what the client takes is made."""
    count, whole = 30, b"\0\0\0\0\x07\x0a\x02k0\x12\x01l"
    with Server(paths.MARTLET) as server, Connection(server.start()) as connection:
        for number in range(10):
            put(server, b"k%d" % number, b"v" * (1 << 20))
        connection.send(SETTINGS, payload=struct.pack(">HI", INITIAL_WINDOW_SIZE, 2**31 - 1))
        connection.send(WINDOW_UPDATE, payload=struct.pack(">I", 2**31 - 1 - 65535))
        before = server.rss_bytes()
        for number in range(count):
            connection.open(2 * number + 1, "/etcdserverpb.KV/Range", whole)
        time.sleep(1)
        assert server.rss_bytes() - before < 150 << 20
        with Connection(server) as other:
            begun = time.monotonic()
            other.open(1, "/etcdserverpb.KV/Range", b"\0\0\0\0\x05\x0a\x03one")
            assert GRPC_OK in other.first(HEADERS, END_STREAM).payload
            assert time.monotonic() - begun < 1
        found = dict.fromkeys(range(1, 2 * count, 2), 0)
        ended = 0
        for frame in connection.frames():
            if frame.kind == DATA:
                found[frame.stream] += len(frame.payload)
            elif frame.kind == HEADERS and frame.flags & END_STREAM:
                ended += 1
            if ended == count:
                break
        assert min(found.values()) > 10 << 20
        assert server.rss_bytes() - before < 150 << 20


def test_halves_of_documents_are_limited_in_all() -> None:
    """Streams of the gateway, each with a document that does not end."""
    with Server(paths.MARTLET) as server, Connection(server.start()) as connection:
        assert connection.first(SETTINGS) is not None
        connection.send(SETTINGS, ACK)  # windows are wider from here on
        before = server.rss_bytes()
        begun = b'{"create_request":{"key":"'
        for stream in range(1, 80, 2):
            connection.open(stream, "/v3/watch", begun, content_type="application/json")
            for _ in range(60):
                connection.send(DATA, 0, stream, b"A" * 16384)
        refused = connection.first(HEADERS)
        assert b"429" in refused.payload
        connection.send(PING, payload=b"all done")
        assert connection.first(PING, ACK) is not None
        assert server.rss_bytes() - before < 60 << 20


def test_requests_that_do_not_end_are_limited_in_number() -> None:
    with Server(paths.MARTLET) as server, Connection(server.start()) as connection:
        before = server.rss_bytes()
        for stream in range(1, 140_000, 2):
            connection.open(stream, "/v3/kv/put", None, content_type="application/json")
        refused = connection.first(HEADERS)
        assert b"503" in refused.payload and refused.stream > 131_000
        assert server.rss_bytes() - before < 250 << 20


def test_a_server_that_stops_says_goodbye() -> None:
    """etcd closes without a word when no call is open."""
    with Server(paths.MARTLET) as server, Connection(server.start()) as connection:
        assert connection.first(SETTINGS, ACK) is not None
        server.process.terminate()
        goodbye = connection.first(GOAWAY)
        assert struct.unpack(">I", goodbye.payload[4:8])[0] == NO_ERROR
        assert server.stop() == 0


def test_pages_that_nobody_reads_have_a_limit() -> None:
    """A window of zero: 3,000 pages of metrics would be 300 MB."""
    with Server(paths.MARTLET) as server, Connection(server.start()) as connection:
        connection.send(SETTINGS, payload=struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
        before = server.anonymous_bytes()
        block = b"\x82\x86\x04\x08/metrics\x01\x01a"
        for number in range(3000):
            connection.send(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, block)
        statuses = set()
        for frame in connection.frames():
            if frame.kind == HEADERS:
                statuses.add(frame.payload[:1] if frame.payload[0] & 0x80 else frame.payload[:5])
                if frame.stream == 2 * 2999 + 1:
                    break
        assert len(statuses) > 1, "the last ones are refused"
        assert server.anonymous_bytes() - before < 150 << 20


def test_a_client_that_reads_no_refusals_is_not_read() -> None:
    with Server(paths.MARTLET) as server, Connection(server.start()) as connection:
        before = server.anonymous_bytes()
        block = b"\x83\x86\x04\x04/x/y\x01\x01a\x0f\x10\x10application/grpc"
        connection.socket.settimeout(2)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1_000_000:
                frames = b"".join(
                    len(block).to_bytes(3, "big") + bytes([HEADERS, END_STREAM | END_HEADERS])
                    + struct.pack(">I", 2 * number + 1) + block
                    for number in range(sent, sent + 1000))
                connection.socket.sendall(frames)
                sent += 1000
        assert server.anonymous_bytes() - before < 32 << 20
        with Connection(server) as other:
            other.open(1, "/x/y", b"")
            assert other.first(HEADERS, END_STREAM) is not None


def test_a_snapshot_that_is_cancelled_at_once_leaves_nothing() -> None:
    """Asked for and cancelled in one write; the store is small enough to be sent as one piece."""
    with Server(paths.MARTLET) as server, Connection(server.start()) as connection:
        put(server, b"k", b"v" * 900_000)
        path = b"/etcdserverpb.Maintenance/Snapshot"
        block = (b"\x83\x86\x04" + bytes([len(path)]) + path
                 + b"\x01\x01a\x0f\x10\x10application/grpc\x00\x02te\x08trailers")
        before = server.anonymous_bytes()
        for number in range(100):
            stream = struct.pack(">I", 2 * number + 1)
            connection.socket.sendall(
                len(block).to_bytes(3, "big") + bytes([HEADERS, END_HEADERS]) + stream + block
                + (5).to_bytes(3, "big") + bytes([DATA, 0]) + stream + bytes(5)
                + (4).to_bytes(3, "big") + bytes([RST_STREAM, 0]) + stream
                + struct.pack(">I", CANCEL))
            time.sleep(0.015)  # more a second would be an attack
        with Connection(server) as other:
            other.send(SETTINGS, payload=struct.pack(">HI", INITIAL_WINDOW_SIZE, 2**31 - 1))
            other.send(WINDOW_UPDATE, payload=struct.pack(">I", 2**31 - 1 - 65535))
            other.open(1, path.decode(), bytes(5))
            assert GRPC_OK in other.first(HEADERS, END_STREAM).payload
        assert server.anonymous_bytes() - before < 32 << 20

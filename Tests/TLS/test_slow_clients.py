"""Clients over TLS that take their time, and members that never finish a handshake."""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from harness import paths
from harness.server import Server
from pki import Authority, Pair
from secure import SecureServer, server_flags

WAIT_SECONDS = 20
COUNT = 120  # of events, 0.7 MB each
HANDSHAKE_SECONDS = 10
HANDSHAKES_MAX, HANDSHAKES_OF_ONE_MAX = 256, 64


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_slow_watcher_costs_no_more_than_what_waits_for_it(
        authority: Authority, server_pair: Pair) -> None:
    """It never catches up, so that what waits for it is never all gone."""
    flags = server_flags(authority, server_pair, demands=False)
    with SecureServer(authority, flags=flags) as server:
        server.start()
        put = json.dumps({"key": b64(b"slow"), "value": b64(b"v" * 500_000)})
        writer = http.client.HTTPSConnection(server.address, context=server.context())
        for _ in range(COUNT):
            writer.request("POST", "/v3/kv/put", put)
            assert writer.getresponse().read()
        plain = socket.create_connection(("127.0.0.1", server.client_port), WAIT_SECONDS)
        with server.context().wrap_socket(plain, server_hostname="localhost") as client:
            before = server.anonymous_bytes()
            body = json.dumps({"create_request": {"key": b64(b"slow"), "start_revision": 2}})
            client.sendall(b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                           % (len(body), body.encode()))
            seen, grown, last = 0, 0, b""
            while seen < COUNT:
                piece = last + client.recv(1 << 16)
                seen += piece.count(b'"mod_revision"')
                last = piece[-13:]
                time.sleep(0.0002)
                grown = max(grown, server.anonymous_bytes() - before)
    assert grown < 60 << 20


@pytest.fixture(name="member", scope="module")
def member_with_tls(authority: Authority, server_pair: Pair) -> Iterator[Server]:
    flags = ["--peer-cert-file", server_pair.crt, "--peer-key-file", server_pair.key]
    server = Server(paths.MARTLET, flags, own_peer_url=True)
    server.peer_url = server.peer_url.replace("http:", "https:")
    server.flags += ["--listen-peer-urls", server.peer_url]
    with server:
        yield server.start()


def call(member: Server, source: str) -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", member.peer_port), WAIT_SECONDS, source_address=(source, 0))


def is_closed(caller: socket.socket, seconds: float) -> bool:
    """Whether the other side closes in time."""
    caller.settimeout(seconds)
    try:
        return caller.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def shakes_hands(member: Server, source: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with context.wrap_socket(call(member, source)) as connection:
            connection.sendall(b"GET /version HTTP/1.1\r\nHost: m\r\n\r\n")
            return b" 200 " in connection.recv(4096)
    except (ConnectionError, ssl.SSLError):
        return False


def test_handshakes_at_the_peer_port_are_limited_and_cut(member: Server) -> None:
    before = member.rss_bytes()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(call(member, "127.0.0.2"))
                  for _ in range(HANDSHAKES_OF_ONE_MAX)]
        assert is_closed(stack.enter_context(call(member, "127.0.0.2")), 2)
        assert shakes_hands(member, "127.0.0.1")
        for number in range(HANDSHAKES_MAX - HANDSHAKES_OF_ONE_MAX):
            silent.append(stack.enter_context(call(member, f"127.0.0.{3 + number // 60}")))
        begun = time.monotonic()
        assert is_closed(stack.enter_context(call(member, "127.0.0.9")), 2)
        assert not shakes_hands(member, "127.0.0.1")
        assert not any(is_closed(caller, 0.001) for caller in silent)
        assert member.rss_bytes() - before < 40 << 20
        assert is_closed(silent[-1], WAIT_SECONDS)
        assert HANDSHAKE_SECONDS - 1 < time.monotonic() - begun < HANDSHAKE_SECONDS + 3
        assert all(is_closed(caller, 1) for caller in silent)
        assert shakes_hands(member, "127.0.0.1") and shakes_hands(member, "127.0.0.2")

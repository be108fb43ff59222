"""Handshakes by the hundred at the peer port, with keys as long as operators make them."""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from pki import Authority, Pair
from test_members import NAMES, peer_flags, secured

from cluster import Member

FLOOD_SECONDS = 8
CALLERS = 4
HANDSHAKES_OF_A_CALLER = 50
# The default election timeout.
ROUND_TRIP_SECONDS_MAX = 1.0


class Flood:
    """Asks for handshakes at no cost of its own: what they begin with is made once."""

    def __init__(self, port: int):
        self.port = port
        self.answered = 0
        self.is_over = threading.Event()
        begun = ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        handshake = context.wrap_bio(ssl.MemoryBIO(), begun, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            handshake.do_handshake()
        self.hello = begun.read()

    def _call(self) -> None:
        while not self.is_over.is_set():
            with contextlib.ExitStack() as stack:
                callers = []
                for _ in range(HANDSHAKES_OF_A_CALLER):
                    caller = stack.enter_context(
                        socket.create_connection(("127.0.0.1", self.port), 5))
                    caller.settimeout(5)
                    caller.sendall(self.hello)
                    callers.append(caller)
                for caller in callers:
                    with contextlib.suppress(OSError):
                        self.answered += bool(caller.recv(1))

    def __enter__(self) -> "Flood":
        self.callers = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for caller in self.callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        for caller in self.callers:
            caller.join()


@contextlib.contextmanager
def connected(member: Member, pair: Pair) -> Iterator[ssl.SSLSocket]:
    """To the peer port, before there is a flood, as the members among themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(pair.crt, pair.key)
    plain = socket.create_connection(("127.0.0.1", member.peer_port), 10)
    with context.wrap_socket(plain) as connection:
        yield connection


def worst_round_trip(connection: ssl.SSLSocket, seconds: float) -> float:
    worst = 0.0
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        connection.sendall(b"GET /raft/probing HTTP/1.1\r\nHost: m\r\n\r\n")
        assert b" 200 " in connection.recv(4096)
        worst = max(worst, time.monotonic() - began)
        time.sleep(0.01)
    return worst


def slowest_probe(members: list[Member]) -> float:
    """The bucket of the longest round trip that the members have measured among themselves."""
    found = 0.0
    for member in members:
        counts: dict[str, list[tuple[float, int]]] = {}
        for to, bound, count in re.findall(
                r'etcd_network_peer_round_trip_time_seconds_bucket\{To="(\w+)",le="([^"]+)"\} (\d+)',
                member.http("/metrics")[1]):
            counts.setdefault(to, []).append((float(bound), int(count)))
        for buckets in counts.values():
            found = max(found, min(bound for bound, n in buckets if n == buckets[-1][1]))
    return found


@pytest.fixture(scope="module")
def long_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Authority, list[Pair]]]:
    authority = Authority(tmp_path_factory.mktemp("long") / "ca", "rsa:4096")
    yield authority, [authority.issue(f"m{n}", NAMES) for n in range(1, 4)]


def test_heartbeats_under_a_flood_of_handshakes(
        long_keys: tuple[Authority, list[Pair]]) -> None:
    authority, pairs = long_keys
    with secured(["martlet"] * 3, [peer_flags(authority, pair) for pair in pairs]) as cluster:
        cluster.start()
        leader = cluster.leader()
        term = leader.status().raftTerm
        probe = slowest_probe(cluster.members)
        with connected(leader, pairs[0]) as connection:
            calm = worst_round_trip(connection, 2)
            with Flood(leader.peer_port) as flood:
                flooded = worst_round_trip(connection, FLOOD_SECONDS)
        print(f"round trips: {calm * 1000:.1f} ms at worst, {flooded * 1000:.1f} ms under "
              f"{flood.answered / FLOOD_SECONDS:.0f} handshakes/s; of the members' own: "
              f"{probe * 1000:.1f} ms, {slowest_probe(cluster.members) * 1000:.1f} ms")
        assert flood.answered > 100
        assert leader.leads() and leader.status().raftTerm == term
        assert flooded < ROUND_TRIP_SECONDS_MAX

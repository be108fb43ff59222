"""`snapshot save` against Martlet, and what every `snapshot status` says of the file."""

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from harness import paths
from harness.protos import Client, messages
from harness.server import Server

from tools import (ETCDCTL, ETCDCTL_34, ETCDUTL, MARTLET, State, Tool, compact, etcd, fill, put,
                   restore_flags, save)

FORMATS = ["simple", "table", "json", "fields"]
SNAPSHOTS_AT_ONCE = 4
STALL_SECONDS = 30
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def server():
    with Server(paths.MARTLET) as server:
        fill(server.start())
        yield server


@pytest.mark.parametrize("tool", [ETCDCTL_34, ETCDCTL, MARTLET], ids=str)
def test_all_read_what_each_client_saves(server: Server, tool: Tool, tmp_path: Path) -> None:
    path = save(server, tmp_path / "db", tool)
    content, trailer = path.read_bytes()[:-32], path.read_bytes()[-32:]
    assert hashlib.sha256(content).digest() == trailer
    for words in FORMATS:
        ours = MARTLET("snapshot", "status", path, "-w", words)
        assert ours == ETCDUTL("snapshot", "status", path, "-w", words)
    for words in ["simple", "table", "json"]:
        assert MARTLET("snapshot", "status", path, "--write-out=" + words) == ETCDCTL_34(
            "snapshot", "status", path, "-w", words)


@pytest.mark.parametrize("source", ["3.5", "3.4"])
def test_status_of_etcds_snapshots(snapshots: dict, source: str) -> None:
    path = snapshots[source][0]
    for words in FORMATS:
        assert MARTLET("snapshot", "status", path, "-w", words) == ETCDUTL(
            "snapshot", "status", path, "-w", words)


@pytest.mark.parametrize("version", ["3.5", "3.4"])
def test_martlet_saves_from_etcd(version: str, tmp_path: Path) -> None:
    """The same bytes as etcdctl."""
    with etcd(version) as source:
        fill(source.start())
        first = save(source, tmp_path / "a", MARTLET)
        assert first.read_bytes() == save(source, tmp_path / "b").read_bytes()


def test_a_user_saves(tmp_path: Path) -> None:
    with Server(paths.MARTLET) as server:
        words = ("--endpoints", server.start().address)
        for line in ["user add root:secret", "user grant-role root root", "auth enable"]:
            ETCDCTL(*words, *line.split())
        save_to = ("snapshot", "save", tmp_path / "db", *words)
        for user in ([], ["--user", "root:wrong"]):
            assert MARTLET.run(*save_to, *user).returncode == 5
        assert not (tmp_path / "db").exists()
        MARTLET(*save_to, "--user", "root:secret")
        assert ETCDUTL("snapshot", "status", tmp_path / "db")


def test_saves_that_fail_leave_no_file(server: Server, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for endpoint, message in [
            (f"127.0.0.1:{nobody.getsockname()[1]}", "connection refused"),
            (f"https://{server.address}", "one without TLS?"),
            (f"{server.address},127.0.0.1:1", "one selected node"),
        ]:
            done = MARTLET.run("snapshot", "save", tmp_path / "db", "--endpoints", endpoint)
            assert done.returncode != 0 and message in done.stderr, done.stderr
    done = MARTLET.run("snapshot", "save", tmp_path / "none" / "db", "--endpoints", server.address)
    assert done.returncode != 0 and "could not open" in done.stderr
    assert not list(tmp_path.iterdir())


def test_called_by_the_name_of_etcdutl(server: Server, tmp_path: Path) -> None:
    path = save(server, tmp_path / "db")
    link = tmp_path / "etcdutl"
    link.symlink_to(paths.MARTLET)
    tool = Tool("link", (str(link),))
    assert tool("snapshot", "status", path) == ETCDUTL("snapshot", "status", path)
    assert tool("version").splitlines()[1] == "API version: 3.5"
    assert tool.run("snapshot", "save", path).returncode == 128
    assert 'unknown command "nonsense" for "etcdutl"' in tool.run("nonsense").stderr
    for word in ("backup", "migrate"):
        refused = tool.run(word, "--data-dir", tmp_path)
        assert refused.returncode == 1 and "martlet export" in refused.stderr


def test_the_stream_counts_down_and_ends_with_its_hash(server: Server) -> None:
    with Client(server.address) as client:
        answers = list(client.maintenance.Snapshot(messages().rpc.SnapshotRequest()))
    blobs = [answer.blob for answer in answers]
    left = sum(map(len, blobs[:-1]))
    for answer in answers[:-1]:
        left -= len(answer.blob)
        assert answer.remaining_bytes == left
    assert left == 0 and answers[-1].remaining_bytes == 0
    assert hashlib.sha256(b"".join(blobs[:-1])).digest() == blobs[-1]


def test_the_gateway_streams_the_same_file(server: Server, tmp_path: Path) -> None:
    request = urllib.request.Request(
        f"{server.endpoint}/v3/maintenance/snapshot", data=b"{}", method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        parts = [json.loads(line)["result"] for line in answer]
    blobs = [base64.b64decode(part.get("blob", "")) for part in parts]
    assert b"".join(blobs) == save(server, tmp_path / "db").read_bytes()


def test_a_slow_client_gets_one_revision_while_writers_go_on(tmp_path: Path) -> None:
    """More than fits into the windows, read in two halves with writes between them."""
    with Server(paths.MARTLET) as server, Client(server.start().address) as client:
        for n in range(20):
            put(client, b"big/%d" % n, os.urandom(1_000_000))
        before = State.of(server)
        stream = client.maintenance.Snapshot(messages().rpc.SnapshotRequest())
        blobs = [next(stream).blob]
        for n in range(500):
            put(client, b"big/0", b"%d" % n)
        blobs += [answer.blob for answer in stream]
        path = tmp_path / "db"
        path.write_bytes(b"".join(blobs))
        with Server(paths.ETCD) as restored:
            ETCDUTL("snapshot", "restore", path, *restore_flags(restored))
            assert State.of(restored.start()).without_members() == before.without_members()


def test_what_was_acknowledged_is_in_the_snapshot(tmp_path: Path) -> None:
    """Nothing waits for the store's next commit."""
    with Server(paths.MARTLET) as server, Client(server.start().address) as client:
        for n in range(5):
            revision = put(client, b"k", b"%d" % n)
            path = save(server, tmp_path / f"{n}.db")
            assert f'"revision":{revision},' in MARTLET("snapshot", "status", path, "-w", "json")


def private_bytes(server: Server) -> int:
    """What the server holds that is no file's."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) << 10


def test_memory_does_not_follow_the_size() -> None:
    """With a client that does not read for a while and another that writes all the time; the log
    in memory is kept short, and the server is a new one that has no memory to use again."""
    m = messages().rpc
    few = ["--snapshot-count=10", "--experimental-snapshot-catchup-entries=10"]
    over = threading.Event()

    def write() -> None:
        with Client(server.address) as own:
            while not over.is_set():
                put(own, b"k", b"v")

    with Server(paths.MARTLET, few) as server:
        with Client(server.start().address) as client:
            for n in range(128):
                client.kv.Txn(m.TxnRequest(success=[
                    m.RequestOp(request_put=m.PutRequest(key=b"%d/%d" % (n, at), value=bytes(4096)))
                    for at in range(128)]))
        server.stop()
        server.flags = []
        writer = threading.Thread(target=write)
        with Client(server.start().address) as client:
            writer.start()
            try:
                found = [private_bytes(server)]
                stream = client.maintenance.Snapshot(m.SnapshotRequest())
                size = len(next(stream).blob)
                end = time.monotonic() + 1.5
                while time.monotonic() < end:
                    found.append(private_bytes(server))
                for answer in stream:
                    size += len(answer.blob)
                    found.append(private_bytes(server))
            finally:
                over.set()
                writer.join()
        assert size > 64 * MEBIBYTE
        assert max(found) - found[0] < 16 * MEBIBYTE, [each >> 20 for each in found[::50]]


def test_nothing_is_left_of_a_save() -> None:
    """A thread that nobody joins would leave its stack: two mappings, of 65,530 in all."""
    def mappings() -> int:
        return len(Path(f"/proc/{server.process.pid}/maps").read_text().splitlines())

    with Server(paths.MARTLET) as server, Client(server.start().address) as client:
        def times(count: int) -> int:
            for _ in range(count):
                assert list(client.maintenance.Snapshot(messages().rpc.SnapshotRequest()))
            return mappings()

        before = times(20)
        assert times(200) < before + 50


def begin(client: Client) -> grpc.Call:
    """A snapshot that has begun, when those that were cancelled before have ended."""
    while True:
        stream = client.maintenance.Snapshot(messages().rpc.SnapshotRequest())
        try:
            next(stream)
            return stream
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            time.sleep(0.02)


def test_clients_that_go_away_leave_room_for_others() -> None:
    with Server(paths.MARTLET) as server, Client(server.start().address) as client:
        for n in range(40):
            put(client, b"big/%d" % n, os.urandom(1_000_000))
        for _ in range(3):
            streams = [begin(client) for _ in range(SNAPSHOTS_AT_ONCE)]
            with pytest.raises(grpc.RpcError) as refusal:
                next(client.maintenance.Snapshot(messages().rpc.SnapshotRequest()))
            assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            for stream in streams:
                stream.cancel()
            put(client, b"k", b"v")
        for stream in [begin(client)]:
            stream.cancel()


def refusal_of(stream: grpc.Call) -> grpc.StatusCode | None:
    """Why a snapshot has not begun; none when it has."""
    try:
        next(stream)
        return None
    except grpc.RpcError as error:
        return error.code()


def stalled_gateway(server: Server) -> socket.socket:
    """A connection that asked the gateway for a snapshot and has read the beginning alone."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", server.client_port))
    connection.sendall(b"POST /v3/maintenance/snapshot HTTP/1.1\r\nHost: x\r\n"
                       b"Content-Length: 2\r\n\r\n{}")
    assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    return connection


def overwrite(client: Client) -> int:
    """Writes 100 MB with compactions between; the size of the file then."""
    for n in range(100):
        revision = put(client, b"overwritten", os.urandom(1_000_000))
        if n % 5 == 4:
            compact(client, revision)
    return client.maintenance.Status(messages().rpc.StatusRequest()).dbSize


def test_a_client_that_stops_reading_is_cut_off() -> None:
    """And no pages are kept for it any longer, while one that reads slowly gets its snapshot."""
    request = messages().rpc.SnapshotRequest()
    with ExitStack() as stack:
        server = stack.enter_context(Server(paths.MARTLET))
        server.start()
        # Each on a connection of its own, which what it does not read does not fill for others.
        slow, first, second, other = (
            stack.enter_context(Client(server.address)) for _ in range(SNAPSHOTS_AT_ONCE))
        for n in range(40):
            put(other, b"big/%d" % n, os.urandom(1_000_000))
        blobs = []
        reader = slow.maintenance.Snapshot(request)
        stalled = [client.maintenance.Snapshot(request) for client in (first, second)]
        for stream in stalled:
            next(stream)
        connection = stack.enter_context(stalled_gateway(server))
        blobs.append(next(reader).blob)
        start = time.monotonic()
        while True:
            taken = [other.maintenance.Snapshot(request)]
            if (code := refusal_of(taken[0])) is None:
                break
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert time.monotonic() - start < STALL_SECONDS + 15
            put(other, b"k", b"v")
            blobs.append(next(reader).blob)
            time.sleep(0.3)
        assert STALL_SECONDS - 5 < time.monotonic() - start < STALL_SECONDS + 15
        taken += [begin(other) for _ in range(len(stalled))]
        assert refusal_of(other.maintenance.Snapshot(request)) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED), "the slow one was cut off as well"
        for stream in taken:
            stream.cancel()
        for stream in stalled:
            with pytest.raises(grpc.RpcError) as cut:
                list(stream)
            assert cut.value.code() == grpc.StatusCode.CANCELLED
        rest = b"".join(iter(lambda: connection.recv(MEBIBYTE), b""))
        assert len(rest) < 30 * MEBIBYTE and not rest.endswith(b"\r\n0\r\n\r\n")
        blobs += [answer.blob for answer in reader]
        assert hashlib.sha256(b"".join(blobs[:-1])).digest() == blobs[-1]
        size = overwrite(other)
        assert overwrite(other) < size + 30 * MEBIBYTE


def test_restore_on_a_terminal_shows_how_far_it_is(server: Server, tmp_path: Path) -> None:
    path = save(server, tmp_path / "db")
    line = f"{paths.MARTLET} snapshot restore {path} --data-dir {tmp_path}/new"
    shown = subprocess.run(["script", "-qec", line, "/dev/null"], capture_output=True, text=True)
    assert shown.returncode == 0 and "%" in shown.stdout, shown.stdout

"""Disk space: what is freed is used again, and goes back to the system, beside the clients."""

import json
import os
import resource
import threading
import time
from datetime import datetime

import grpc
import pytest
from harness import paths
from harness.protos import Client, messages
from harness.server import Server, clean_environment

from tools import ETCDCTL, State, compact, fill, put

WAIT_SECONDS_MAX = 60
MEBIBYTE = 1 << 20


def sizes(server: Server) -> tuple[int, int]:
    """The file's and what is in use of it, as etcdctl sees them."""
    printed = ETCDCTL("endpoint", "status", "--endpoints", server.address, "-w", "json")
    status = json.loads(printed)[0]["Status"]
    return status["dbSize"], status["dbSizeInUse"]


def waste(client: Client, mebibytes: int) -> None:
    """Overwrites one key until so much of the file is garbage, compacts, and goes on."""
    value = os.urandom(MEBIBYTE)
    for _ in range(mebibytes):
        revision = put(client, b"wasted", value)
    # What is compacted before it is in the file never comes there.
    end = time.monotonic() + WAIT_SECONDS_MAX
    status = messages().rpc.StatusRequest()
    while client.maintenance.Status(status).dbSize < mebibytes * MEBIBYTE:
        assert time.monotonic() < end
        time.sleep(0.02)
    revision = put(client, b"wasted", b"")
    compact(client, revision)
    put(client, b"after", b"")


def await_size(server: Server, bytes_max: int) -> None:
    end = time.monotonic() + WAIT_SECONDS_MAX
    while sizes(server)[0] > bytes_max:
        assert time.monotonic() < end, (sizes(server), server.log_tail())
        time.sleep(0.1)


def test_the_file_comes_back_to_its_factor_by_itself() -> None:
    with (Server(paths.MARTLET, ["--log-level=info"]) as server,
          Client(server.start().address) as client):
        fill(server)
        waste(client, 60)
        before = State.of(server)
        await_size(server, 8 * MEBIBYTE)
        assert State.of(server) == before
        server.await_log('"reason":"automatic"')
        store = server.data_dir / "member" / "snap" / "store.lmdb"
        assert store.stat().st_size < 8 * MEBIBYTE
        server.stop()
        assert State.of(server.start()) == before


@pytest.mark.parametrize("setting", ["flag", "environment"])
def test_it_can_be_turned_off(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then only the call gives space back."""
    if setting == "environment":
        monkeypatch.setattr(
            "harness.server.clean_environment",
            lambda: clean_environment() | {"ETCD_AUTO_DEFRAG_FACTOR": "0"})
    server = Server(paths.MARTLET, ["--auto-defrag-factor=0"] if setting == "flag" else [])
    with server, Client(server.start().address) as client:
        waste(client, 60)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            put(client, b"k", b"v")
            time.sleep(0.1)
        assert sizes(server)[0] > 50 * MEBIBYTE
        ETCDCTL("defrag", "--command-timeout=60s", "--endpoints", server.address)
        assert sizes(server)[0] < 8 * MEBIBYTE


def told(server: Server, message: str) -> float:
    """When the server said it, as the clock of this machine has it."""
    server.await_log(message)
    line, = (line for line in server.log_text().splitlines() if f'"msg":"{message}"' in line)
    return datetime.fromisoformat(json.loads(line)["ts"]).timestamp()


def test_writers_go_on_beside_a_defragmentation() -> None:
    """And nothing of what they write, delete and compact meanwhile is lost or comes back."""
    flags = ["--auto-defrag-factor=0", "--log-level=info"]
    with Server(paths.MARTLET, flags) as server:
        with Client(server.start().address) as client:
            fill(server)
            for n in range(60):
                put(client, b"big/%d" % n, os.urandom(MEBIBYTE))
            over = threading.Event()
            sent, answered = [], []

            def write() -> None:
                m = messages().rpc
                with Client(server.address) as own:
                    while not over.is_set():
                        n = len(answered)
                        lease = own.lease.LeaseGrant(m.LeaseGrantRequest(TTL=5000)).ID
                        sent.append(time.time())
                        revision = put(own, b"beside/%d" % (n % 50), b"%d" % n, lease)
                        answered.append(time.time())
                        if n % 50 == 49:
                            compact(own, revision)

            thread = threading.Thread(target=write)
            thread.start()
            ETCDCTL("defrag", "--command-timeout=60s", "--endpoints", server.address)
            over.set()
            thread.join()
            start = told(server, "defragmenting the store beside its clients")
            end = told(server, "defragmented the store")
            middle = (start + end) / 2
            for since, until in ((start, middle), (middle, end)):
                beside = [n for n in range(len(sent)) if since < sent[n] and answered[n] < until]
                assert len(beside) > 20, (len(beside), len(sent), until - since)
            before = State.of(server)
        server.stop()
        with Client(server.start().address):
            assert State.of(server) == before


def test_freed_pages_are_used_again_at_once() -> None:
    """Also while nobody reads any more after a transaction has read what is in the file."""
    m = messages().rpc
    with Server(paths.MARTLET, ["--auto-defrag-factor=0"]) as server:
        with Client(server.start().address) as client:
            put(client, b"read", b"")
        server.stop()
        with Client(server.start().address) as client:
            client.kv.Txn(m.TxnRequest(
                compare=[m.Compare(key=b"read", target=m.Compare.VALUE, value=b"")],
                success=[m.RequestOp(request_range=m.RangeRequest(key=b"read")),
                         m.RequestOp(request_put=m.PutRequest(key=b"read", value=b"x"))]))
            for _ in range(12):
                waste(client, 10)
            assert sizes(server)[0] < 45 * MEBIBYTE


def test_a_server_that_stops_amid_a_defragmentation_loses_nothing() -> None:
    with Server(paths.MARTLET, ["--auto-defrag-factor=0"]) as server:
        with Client(server.start().address) as client:
            for n in range(100):
                put(client, b"big/%d" % n, os.urandom(MEBIBYTE))
            stop = threading.Event()

            def write() -> None:
                with Client(server.address) as own:
                    while not stop.is_set():
                        put(own, b"k", b"v")

            writer = threading.Thread(target=write)
            writer.start()
            call = client.maintenance.Defragment.future(messages().rpc.DefragmentRequest())
            copies = server.data_dir / "member" / "snap"
            while not list(copies.glob("store.lmdb.defrag*")):
                assert not call.done()
            stop.set()
            writer.join()
            before = State.of(server)
        server.kill()
        assert State.of(server.start()) == before
        assert not list(copies.glob("store.lmdb.defrag*"))


SNAPSHOT_COUNT = 10


def write_past_snapshots(server: Server, client: Client, key: bytes) -> None:
    """Overwrites a key so often that the log is cut, and waits until no more of that is due."""
    m = messages().rpc
    for n in range(2 * SNAPSHOT_COUNT):
        put(client, key, b"%d" % n)
    applied = client.maintenance.Status(m.StatusRequest()).raftAppliedIndex
    end = time.monotonic() + WAIT_SECONDS_MAX
    newest = 0
    while newest < applied - SNAPSHOT_COUNT:
        assert time.monotonic() < end, (newest, applied, server.log_tail())
        time.sleep(0.02)
        names = [path.stem for path in (server.data_dir / "member" / "snap").glob("*.snap")]
        newest = max((int(name.split("-")[1], 16) for name in names), default=0)


def test_without_descriptors_a_defragmentation_fails_and_loses_nothing() -> None:
    """Whatever step lacks one, what is written afterwards is there after a crash, though the log
    no longer reaches back to it."""
    m = messages().rpc
    steps = range(6)
    outcomes = set()
    with Server(paths.MARTLET, ["--auto-defrag-factor=0",
                                f"--snapshot-count={SNAPSHOT_COUNT}"]) as server:
        for spare in steps:
            with Client(server.start().address) as client:
                write_past_snapshots(server, client, b"before")
                process = server.process.pid
                taken = {int(name) for name in os.listdir(f"/proc/{process}/fd")}
                free = [number for number in range(max(taken) + 10) if number not in taken]
                limits = resource.prlimit(process, resource.RLIMIT_NOFILE)
                resource.prlimit(process, resource.RLIMIT_NOFILE, (free[spare], limits[1]))
                try:
                    client.maintenance.Defragment(m.DefragmentRequest(), timeout=20)
                    outcomes.add("done")
                except grpc.RpcError as error:
                    outcomes.add(error.code())
                resource.prlimit(process, resource.RLIMIT_NOFILE, limits)
                write_past_snapshots(server, client, b"%d" % spare)
            server.kill()
        with Client(server.start().address) as client:
            last = b"%d" % (2 * SNAPSHOT_COUNT - 1)
            for spare in steps:
                assert client.kv.Range(m.RangeRequest(key=b"%d" % spare)).kvs[0].value == last
    assert len(outcomes) == 2, outcomes

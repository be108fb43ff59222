"""What stops a start: one clear message, an exit code that is not 0, the data as it was."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import paths
from harness.protos import Client, messages
from harness.server import Server
from harness.wal_writer import append_entry, block
from refusal import assert_refuses, assert_short, tree

IS_ETCD = os.path.basename(paths.MARTLET) == "etcd"
martlet_only = pytest.mark.skipif(IS_ETCD, reason="etcd itself starts, waits, or says it at length")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="mounts and other users need root")
NOBODY = 65534
CLUSTER_VERSION_SET = 1300


@pytest.fixture
def member() -> Iterator[Server]:
    """A stopped member with some data."""
    with Server(paths.MARTLET) as server:
        with Client(server.start().address) as client:
            for n in range(20):
                client.kv.Put(messages().rpc.PutRequest(key=f"k{n}".encode(), value=b"v"))
        server.stop()
        yield server


def refuses_untouched(server: Server, message: str, **options: object) -> None:
    """Refuses, shortly, and leaves the data as it was."""
    before = tree(server.data_dir)
    text = assert_refuses(server, message, **options)
    assert tree(server.data_dir) == before, "the data changed"
    if not IS_ETCD:
        assert_short(text)


@pytest.mark.parametrize("flag,message,code", [
    (["--nonsense"], "flag provided but not defined: -nonsense", 2),
    (["--heartbeat-interval=abc"], "invalid value .abc. for (flag )?-?-?heartbeat-interval", 2),
    (["--listen-client-urls=nonsense"], "listen-client-urls", None),
    (["--heartbeat-interval=1000", "--election-timeout=1000"], "election-timeout", None),
    (["--initial-cluster-state=nonsense"], "initial-cluster-state|nonsense", None),
    (["stray"], "stray", None),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_bad_flags(member: Server, flag: list[str], message: str, code: int | None) -> None:
    member.flags = flag
    refuses_untouched(member, message, code=code)


def test_advertised_url_outside_the_initial_cluster() -> None:
    with Server(paths.MARTLET, ["--initial-advertise-peer-urls=http://127.0.0.1:1"]) as server:
        assert_refuses(server, "initial-cluster|advertise")
        assert not list(server.data_dir.rglob("*.wal")), "a log was begun"


@pytest.mark.parametrize("which", ["client", "peer"])
def test_busy_port(member: Server, which: str) -> None:
    port = member.client_port if which == "client" else member.peer_port
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind(("127.0.0.1", port))
        busy.listen()
        refuses_untouched(member, rf"{port}.*address already in use")


def test_data_dir_is_a_file() -> None:
    with Server(paths.MARTLET) as server:
        server.data_dir.write_text("mine")
        text = assert_refuses(server, "not a directory|file exists")
        assert str(server.data_dir) in text
        assert server.data_dir.read_text() == "mine"


@needs_root
def test_data_dir_of_another_user(member: Server) -> None:
    """The data belongs to root and the server runs as nobody."""
    member.binary = shutil.copy(member.binary, member.home)  # a folder that nobody can enter
    for path in (member.home, Path(member.binary)):
        path.chmod(0o755)
    refuses_untouched(member, "permission denied", user=NOBODY, group=NOBODY)


@martlet_only
def test_data_dir_of_another_cluster(member: Server) -> None:
    """Another name alone is fine, as in etcd: the member publishes it."""
    member.flags = ["--initial-cluster-token=another"]
    refuses_untouched(member, "belongs to member .* of cluster")


def test_too_new_data_dir(member: Server) -> None:
    """The log says that the cluster moved on to 3.9."""
    version = block(1, b"3.9.0")
    append_entry(member.data_dir, block(100, b"\x08\x01") + block(CLUSTER_VERSION_SET, version))
    if IS_ETCD:
        assert_refuses(member, "version")
    else:
        refuses_untouched(member, r"3\.9")


@martlet_only
def test_discovery_is_refused_at_a_first_start_alone(member: Server) -> None:
    def discovering(server: Server) -> Server:
        words = server.arguments()
        at = words.index("--initial-cluster")
        found = [*words[:at], *words[at + 2:], "--discovery", "http://127.0.0.1:1/token"]
        server.arguments = lambda: found
        return server

    with Server(paths.MARTLET) as server:
        assert_refuses(discovering(server), r"name them with --initial-cluster \[--discovery\]")
        assert not (server.data_dir / "member" / "wal").exists()
    discovering(member).start()


@martlet_only
def test_second_process_on_the_same_data_dir(member: Server) -> None:
    member.start()
    with Server(paths.MARTLET, data_dir=member.data_dir) as second:
        text = assert_refuses(second, "lock|in use|another process")
        assert_short(text)
        assert str(member.data_dir) in text
    with Client(member.address) as client:
        answer = client.kv.Range(messages().rpc.RangeRequest(key=b"k1"))
        assert answer.count == 1, "the first one was disturbed"


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of `request.param` MiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}m",
                              "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(folder: Path) -> Path:
    """Uses up what is left of the file system."""
    path = folder / "ballast"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


@needs_root
@pytest.mark.parametrize("small_disk", [1], indirect=True)
def test_full_disk_at_the_first_start(small_disk: Path) -> None:
    with Server(paths.MARTLET, data_dir=small_disk / "data") as server:
        assert_refuses(server, "no space left")


@needs_root
@pytest.mark.parametrize("small_disk", [400], indirect=True)
def test_disk_fills_up_while_serving(small_disk: Path) -> None:
    """Puts fail or the server ends with a message; with space again, nothing acknowledged is lost."""
    m = messages().rpc
    with Server(paths.MARTLET, data_dir=small_disk / "data") as server:
        acknowledged: dict[bytes, bytes] = {}
        with Client(server.start().address) as client:
            ballast = fill(small_disk)
            try:
                for n in range(1000):
                    key, value = f"k{n}".encode(), bytes([n % 250]) * 500_000
                    client.kv.Put(m.PutRequest(key=key, value=value), timeout=5)
                    acknowledged[key] = value
            except Exception:  # noqa: BLE001 - which status is not the point
                pass
        assert len(acknowledged) < 1000, "the disk was never full"
        if server.process.poll() is None:
            server.stop()
        else:
            assert server.process.returncode != 0
            assert "no space left" in server.log_text().lower(), server.log_tail()
        ballast.unlink()
        with Client(server.start().address) as client:
            for key, value in acknowledged.items():
                answer = client.kv.Range(m.RangeRequest(key=key))
                assert answer.kvs and answer.kvs[0].value == value, f"{key!r} is lost"

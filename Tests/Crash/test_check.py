"""`martlet check`: what is wrong with a stopped member's data dir, and the repairs that are safe."""

import os
import pty
import random
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from damage import Specimen, flip_bit, overwrite, put, try_start
from harness import paths
from harness.protos import Client, messages
from harness.server import Server
from harness.wal import records, segments

COPIES_AT_ONCE = 4
FLIPS = int(os.environ.get("FLIPS", "40"))
SEED = int(os.environ.get("SEED", "1"))
SNAPSHOT_COUNT = 100
VALUES = {f"k{n}".encode(): os.urandom(300) for n in range(250)}

pytestmark = pytest.mark.skipif(
    os.path.basename(paths.MARTLET) == "etcd", reason="etcd has no such command")


def check(folder: Path, *flags: str) -> tuple[int, str]:
    """Exit code and what was printed."""
    done = subprocess.run([paths.MARTLET, "check", *flags, str(folder)], capture_output=True,
                          text=True, timeout=30)
    assert done.returncode in (0, 1), f"{done.returncode}: {done.stdout}{done.stderr}"
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def lines(output: str, kind: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(kind)]


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def early_and_late() -> Iterator[tuple[Specimen, Specimen]]:
    """One member before its first snapshot, and later, with some; with leases and a compaction."""
    m = messages().rpc
    with Server(paths.MARTLET) as early, Server(
            paths.MARTLET, flags=["--snapshot-count", str(SNAPSHOT_COUNT),
                                  "--experimental-snapshot-catchup-entries", "10"]) as server:
        with Client(server.start().address) as client:
            lease = client.lease.LeaseGrant(m.LeaseGrantRequest(TTL=3600)).ID
            client.kv.Put(m.PutRequest(key=b"leased", value=b"v", lease=lease))
        assert server.stop() == 0
        shutil.copytree(server.data_dir, early.data_dir)
        with Client(server.start().address) as client:
            put(client, VALUES)
            client.kv.DeleteRange(m.DeleteRangeRequest(key=b"k1", range_end=b"k2"))
            client.kv.Compact(m.CompactionRequest(revision=50, physical=True))
        assert server.stop() == 0
        yield Specimen(early), Specimen(server)


@pytest.fixture
def member(early_and_late: tuple[Specimen, Specimen]) -> Iterator[Server]:
    """A copy of the later one, stopped."""
    with early_and_late[1].copy() as server:
        yield server


def snap(server: Server) -> Path:
    return server.data_dir / "member" / "snap"


def test_a_whole_directory_is_told_to_be_and_left_alone(member: Server) -> None:
    before = content(member.data_dir)
    code, output = check(member.data_dir)
    assert code == 0, output
    parts = [line.split()[1] for line in lines(output, "ok")]
    assert set(parts) == {"log", "snapshots", "pages", "rows", "leases", "index"}
    assert output.endswith("nothing is wrong\n")
    assert content(member.data_dir) == before


def test_a_running_server_is_not_checked(member: Server) -> None:
    member.start()
    code, output = check(member.data_dir)
    assert code == 1 and "in use" in output


def test_what_is_not_our_data_directory(tmp_path: Path, member: Server) -> None:
    assert check(tmp_path)[0] == 1
    assert "is not a data directory" in check(tmp_path / "nothing")[1]
    (member.data_dir / "member" / "martlet.format").write_bytes(b"martlet data format 9\n")
    assert "format" in check(member.data_dir)[1]


def test_a_log_in_a_directory_of_its_own(member: Server, tmp_path: Path) -> None:
    wal = tmp_path / "log"
    shutil.move(member.data_dir / "member" / "wal", wal)
    code, output = check(member.data_dir)
    assert code == 1 and "--wal-dir" in output
    assert check(member.data_dir, "--wal-dir", str(wal))[0] == 0
    assert check(member.data_dir, f"--wal-dir={wal}")[0] == 0


@pytest.mark.parametrize("line", [[], ["--fix", "x"], ["a", "b"], [""], ["a", "--wal-dir"]])
def test_a_line_that_cannot_be_read(line: list[str]) -> None:
    done = subprocess.run([paths.MARTLET, "check", *line], capture_output=True, text=True)
    assert done.returncode == 2 and "Usage" in done.stderr


def test_progress_goes_to_a_terminal_only(member: Server) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run([paths.MARTLET, "check", str(member.data_dir)],
                          stdout=subprocess.PIPE, stderr=theirs, timeout=30)
    shown = os.read(ours, 65536)
    os.close(theirs)
    os.close(ours)
    assert b"reading rows" in shown
    assert done.returncode == 0 and b"\r" not in done.stdout


def test_a_flipped_bit_in_the_log(member: Server) -> None:
    path = segments(member.data_dir)[-1]
    every = records(path)
    record = every[len(every) // 2]
    flip_bit(path, record.offset + 20)
    for flags in ([], ["--repair"]):
        code, output = check(member.data_dir, *flags)
        (fault,) = lines(output, "wrong")
        assert code == 1 and str(path) in fault and f"offset {record.offset}" in fault
    assert lines(output, "ok"), "the other parts were not looked at"


def test_a_torn_tail_is_repaired(member: Server) -> None:
    path = segments(member.data_dir)[-1]
    last = records(path)[-1]
    os.truncate(path, last.end - 3)
    before = content(member.data_dir)
    code, output = check(member.data_dir)
    (fault,) = lines(output, "wrong")[:1]
    assert code == 1 and f"torn at offset {last.offset}" in fault and "--repair" in fault
    assert content(member.data_dir) == before
    code, output = check(member.data_dir, "--repair")
    assert lines(output, "repaired")
    # The record was in the store already, so the log must not end before it.
    code, output = check(member.data_dir)
    assert not [line for line in lines(output, "wrong") if "torn" in line]


def test_a_torn_tail_of_a_killed_member_is_repaired_and_serves(
        early_and_late: tuple[Specimen, Specimen]) -> None:
    """A record that was on its way to the disk, so that nothing can have been acknowledged or
    stored of it."""
    with early_and_late[0].copy() as server:
        with Client(server.start().address) as client:
            put(client, VALUES)
        server.kill()
        path = segments(server.data_dir)[-1]
        last = records(path)[-1]
        begun = path.read_bytes()[last.offset:last.end - 1]
        os.truncate(path, last.end)
        overwrite(path, last.end, begun)
        code, output = check(server.data_dir)
        (fault,) = lines(output, "wrong")
        assert code == 1 and f"torn at offset {last.end}" in fault, output
        code, output = check(server.data_dir, "--repair")
        assert code == 0 and lines(output, "repaired"), output
        code, output = check(server.data_dir)
        assert code == 0, output
        verdict = try_start(server)
        assert verdict.values == VALUES | {b"leased": b"v"}, verdict.refusal[-500:]


def newest_snapshot(server: Server) -> Path:
    return sorted(snap(server).glob("*.snap"))[-1]


def flip_in_log(server: Server, place: float) -> None:
    """Of all records the one that lies there."""
    every = records(segments(server.data_dir)[-1])
    flip_bit(segments(server.data_dir)[-1], every[int(place * (len(every) - 1))].offset + 20)


def flip_in_snapshot(server: Server) -> None:
    flip_bit(newest_snapshot(server), newest_snapshot(server).stat().st_size // 2)


def flip_in_value(server: Server) -> None:
    path = snap(server) / "store.lmdb"
    # A value that is deleted lies in the file too, perhaps in a page that is free.
    flip_bit(path, path.read_bytes().rfind(VALUES[b"k249"]) + 100)


def flip_in_meta(server: Server) -> None:
    """LMDB writes the two in turn; the older one is not read."""
    path = snap(server) / "store.lmdb"
    data = path.read_bytes()
    transactions = [int.from_bytes(data[at:at + 8], "little") for at in (144, 4096 + 144)]
    flip_bit(path, 4096 * transactions.index(max(transactions)) + 128)


UNSAFE = {
    "a bit in the log": lambda server, early: flip_in_log(server, 0.5),
    "a bit in the log's last record": lambda server, early: flip_in_log(server, 1),
    "a bit in a snapshot file": lambda server, early: flip_in_snapshot(server),
    "a bit in a value": lambda server, early: flip_in_value(server),
    "a bit in the newest meta page": lambda server, early: flip_in_meta(server),
    "an old store": lambda server, early: shutil.copy(
        snap(early) / "store.lmdb", snap(server) / "store.lmdb"),
    "an old log": lambda server, early: (
        shutil.rmtree(server.data_dir / "member" / "wal"),
        shutil.copytree(early.data_dir / "member" / "wal", server.data_dir / "member" / "wal")),
    "no store": lambda server, early: (snap(server) / "store.lmdb").unlink(),
    "half a store": lambda server, early: os.truncate(
        snap(server) / "store.lmdb", (snap(server) / "store.lmdb").stat().st_size // 8192 * 4096),
}


@pytest.mark.parametrize("damage", UNSAFE)
def test_a_repair_changes_nothing_of_what_it_cannot_mend(
        early_and_late: tuple[Specimen, Specimen], damage: str) -> None:
    early, late = early_and_late
    with late.copy() as server:
        UNSAFE[damage](server, early.server)
        before = content(server.data_dir)
        for flags in ([], ["--repair"]):
            code, output = check(server.data_dir, *flags)
            assert code == 1 and lines(output, "wrong") and not lines(output, "repaired"), output
            assert content(server.data_dir) == before


def test_a_changed_snapshot_file(member: Server) -> None:
    path = newest_snapshot(member)
    flip_in_snapshot(member)
    code, output = check(member.data_dir)
    assert code == 1 and any(str(path) in line for line in lines(output, "wrong")), output
    assert path.exists(), "it was renamed"


@pytest.mark.parametrize("where", ["newest meta page", "value"])
def test_a_flipped_bit_in_the_store(member: Server, where: str) -> None:
    path = snap(member) / "store.lmdb"
    (flip_in_value if where == "value" else flip_in_meta)(member)
    code, output = check(member.data_dir)
    (fault,) = lines(output, "wrong")[:1]
    assert code == 1 and str(path) in fault and "offset" in fault, output


def test_a_store_of_another_time(early_and_late: tuple[Specimen, Specimen]) -> None:
    early, late = early_and_late
    with early.copy() as old, late.copy() as new:
        store = Path("member/snap/store.lmdb")
        shutil.copy(new.data_dir / store, old.data_dir / store)
        code, output = check(old.data_dir)
        assert code == 1 and "part of the log is missing" in output
        shutil.copy(early.server.data_dir / store, new.data_dir / store)
        code, output = check(new.data_dir)
        assert code == 1 and "too old for this log" in output
        (new.data_dir / store).unlink()
        code, output = check(new.data_dir)
        assert code == 1 and "is missing" in output


def test_leftovers_go_when_told(member: Server) -> None:
    names = ["wal/0000000000000009-0000000000000999.wal.tmp", "wal/0.wal.broken",
             "snap/0-0.snap.tmp", "snap/store.lmdb.defrag3", "snap/store.lmdb.defrag3-lock",
             "snap/store.lmdb.import"]
    left = [member.data_dir / "member" / name for name in names]
    for path in left:
        path.write_bytes(b"left")
    code, output = check(member.data_dir)
    assert code == 0 and len(lines(output, "note")) == len(left), output
    assert all(path.exists() for path in left)
    code, output = check(member.data_dir, "--repair")
    assert code == 0 and len(lines(output, "repaired")) == len(left), output
    assert not any(path.exists() for path in left)


def test_it_finds_whatever_a_start_would_trip_over(
        early_and_late: tuple[Specimen, Specimen]) -> None:
    """Random bits anywhere: the check ends by itself, and what it calls whole is served."""
    chance = random.Random(SEED)
    flips = [(chance.choice(["wal", "store", "snap"]), chance.random(), chance.randrange(8))
             for _ in range(FLIPS)]

    def wrong(flip: tuple[str, float, int]) -> str | None:
        kind, place, bit = flip
        server = early_and_late[1].copy()
        path = {"wal": lambda: segments(server.data_dir)[-1],
                "store": lambda: snap(server) / "store.lmdb",
                "snap": lambda: sorted(snap(server).glob("*.snap"))[-1]}[kind]()
        used = records(path)[-1].end if kind == "wal" else path.stat().st_size
        flip_bit(path, int(place * used), bit)
        code, output = check(server.data_dir)
        verdict = try_start(server)
        if code == 0 and verdict.values is None:
            return f"{kind} {place} {bit}: is fine, but {verdict.refusal[-300:]}"
        if code == 1 and not any(path.name in line for line in lines(output, "wrong")):
            return f"{kind} {place} {bit}: {output}"
        return None

    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        found = [each for each in pool.map(wrong, flips) if each]
    assert not found, f"seed {SEED}:\n" + "\n".join(found)

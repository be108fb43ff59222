"""Damaged or unfit snapshots, and places that are taken: etcd's refusal, and nothing changes."""

import re
import shutil
from pathlib import Path

import pytest
from harness import paths
from harness.server import Server

from tools import ETCDUTL, MARTLET, etcd, grow

PAGE = 4096
PAGES_TRIED = 20


def tree(folder: Path) -> list[tuple[str, bytes]]:
    return [(str(path), path.read_bytes() if path.is_file() else b"")
            for path in sorted(folder.rglob("*"))]


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:count])


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def set_version(path: Path, number: int) -> None:
    """In both meta pages, with new checksums: a file of another bbolt."""
    content = bytearray(path.read_bytes())
    for start in (16, PAGE + 16):
        content[start + 4:start + 8] = number.to_bytes(4, "little")
        content[start + 56:start + 64] = fnv(content[start:start + 56]).to_bytes(8, "little")
    path.write_bytes(content)


def rename_bucket(path: Path) -> None:
    """A bucket that etcd 3.5 does not have."""
    content = path.read_bytes()
    path.write_bytes(re.sub(rb"cluster(?!Version)", b"clustex", content))


def fnv(content: bytes) -> int:
    value = 0xcbf29ce484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return value


@pytest.fixture
def snapshot(snapshots: dict, tmp_path: Path) -> Path:
    return Path(shutil.copy(snapshots["3.5"][0], tmp_path / "db"))


DAMAGES = {
    "cut": (lambda path: cut(path, 50_000), "snapshot missing hash but --skip-hash-check=false"),
    "cut to a page and 32 bytes": (lambda path: cut(path, PAGE + 32), "expected sha256"),
    "empty": (lambda path: cut(path, 0), "snapshot missing hash|file size too small"),
    "flipped in a row": (lambda path: flip(path, 20_000), "expected sha256"),
    "flipped in the first page": (lambda path: flip(path, 20), "expected sha256"),
    "flipped in the checksum": (lambda path: flip(path, path.stat().st_size - 1),
                                "expected sha256"),
    "no bbolt file": (lambda path: path.write_bytes(b"snapshot" * 1000), "snapshot missing hash"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged(snapshot: Path, tmp_path: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    change(snapshot)
    refuses(snapshot, tmp_path, message.split("|"))


@pytest.mark.parametrize("damage,message", [
    (lambda path: cut(path, 50_000), "cut short"),
    (lambda path: cut(path, 100), "file size too small"),
    (lambda path: cut(path, 0), "file size too small"),
    (lambda path: set_version(path, 3), "version mismatch"),
    (lambda path: path.write_bytes(b"snapshot" * 1000), "invalid database"),
], ids=["cut", "cut to 100", "empty", "version", "text"])
def test_damaged_and_told_to_skip_the_hash(
        snapshot: Path, tmp_path: Path, damage, message: str) -> None:
    damage(snapshot)
    refuses(snapshot, tmp_path, [message], "--skip-hash-check")


def refuses(snapshot: Path, folder: Path, messages: list[str], *flags: str) -> None:
    before = tree(folder)
    done = MARTLET.run("snapshot", "restore", snapshot, "--data-dir", folder / "new", *flags)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Error: ") and len(done.stderr.splitlines()) < 4
    assert any(message in done.stderr for message in messages), done.stderr
    assert tree(folder) == before, "something was changed"
    done = MARTLET.run("snapshot", "status", snapshot)
    assert done.returncode == 1 and done.stderr.startswith("Error: "), done.stdout


def test_every_page_is_looked_at(snapshot: Path, tmp_path: Path) -> None:
    """One bit in many pages, without the checksum's help: refused, or the page is not used."""
    refused = 0
    pages = snapshot.stat().st_size // PAGE
    for page in [*range(PAGES_TRIED), *range(pages - PAGES_TRIED, pages)]:
        other = Path(shutil.copy(snapshot, tmp_path / "other"))
        flip(other, page * PAGE + 8)  # the kind of the page
        done = MARTLET.run("snapshot", "restore", other, "--data-dir", tmp_path / "new",
                           "--skip-hash-check")
        assert done.returncode in (0, 1), done.stderr
        refused += done.returncode
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
    assert refused > 3


@pytest.mark.parametrize("arguments", [
    ["snapshot", "status", "none"],
    ["snapshot", "status"],
    ["snapshot", "status", "a", "b"],
    ["snapshot", "restore", "--data-dir", "new"],
    ["snapshot", "restore", "{db}", "--data-dir", "{full}"],
    ["snapshot", "restore", "{db}", "--data-dir", "{new}", "--wal-dir", "{full}"],
    ["snapshot", "restore", "{db}", "--data-dir", "{new}", "--name", "x"],
    ["snapshot", "restore", "{db}", "--data-dir", "{new}", "--initial-cluster", "default="],
    ["snapshot", "restore", "{db}", "--data-dir", "{new}", "--initial-cluster",
     "default=http://localhost"],
    ["snapshot", "restore", "{db}", "--data-dir", "{new}", "--initial-cluster",
     "default=http://localhost:2380,b=http://localhost:2380"],
    ["snapshot", "restore", "{db}", "--data-dir", "{new}", "--initial-advertise-peer-urls", "x"],
    ["snapshot", "restore", "{db}", "--nonsense"],
    ["snapshot", "status", "{db}", "-w", "xml"],
], ids=" ".join)
def test_the_same_words_as_etcdutl(snapshot: Path, tmp_path: Path, arguments: list[str]) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    filled = [each.format(db=snapshot, full=full, new=tmp_path / "new") for each in arguments]
    before = tree(tmp_path)
    ours = MARTLET.run(*filled)
    assert tree(tmp_path) == before, "something was changed or left"
    theirs = ETCDUTL.run(*filled)
    assert ours.returncode == theirs.returncode != 0
    found = [line for line in theirs.stderr.splitlines() if line.startswith("Error: ")][0]
    assert ours.stderr.splitlines()[0] == found


def test_rows_that_nobody_knows(snapshot: Path, tmp_path: Path) -> None:
    """Rather than leaving them out."""
    rename_bucket(snapshot)
    done = MARTLET.run("snapshot", "restore", snapshot, "--data-dir", tmp_path / "new",
                       "--skip-hash-check")
    assert done.returncode == 1 and "bucket clustex" in done.stderr, done.stderr
    assert not (tmp_path / "new").exists()


def test_bump_and_mark_go_together(snapshot: Path, tmp_path: Path) -> None:
    for flags in (["--bump-revision", "5"], ["--mark-compacted"]):
        done = MARTLET.run("snapshot", "restore", snapshot, "--data-dir", tmp_path / "new", *flags)
        assert done.returncode == 128 and "--mark-compacted required" in done.stderr
    assert not (tmp_path / "new").exists()


def test_an_empty_directory_is_taken(snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    MARTLET("snapshot", "restore", snapshot, "--data-dir", tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["member"]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_db_is_not_imported(damage: str) -> None:
    """The start is refused and etcd's directory stays as it was."""
    with etcd("3.5") as source:
        grow(source.start())
        source.stop()
        db = source.data_dir / "member" / "snap" / "db"
        if damage == "cut":
            cut(db, 9000)
        else:
            for page in range(2, db.stat().st_size // PAGE):
                flip(db, page * PAGE + 8)
        before = tree(source.data_dir)
        with Server(paths.MARTLET, data_dir=source.data_dir) as server:
            server.spawn()
            assert server.process.wait(20) == 1
            assert "cannot be imported" in server.log_text(), server.log_tail()
        lock = str(source.data_dir / "member" / "martlet.lock")
        assert [each for each in tree(source.data_dir) if each[0] != lock] == before

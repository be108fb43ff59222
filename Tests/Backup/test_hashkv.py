"""`martlet hashkv` and `martlet defrag`, on files."""

import json
from pathlib import Path

import pytest
from harness import paths
from harness.protos import Client, messages
from harness.server import Server

from test_space import MEBIBYTE, waste
from tools import MARTLET, State, etcd, fill, save


@pytest.mark.parametrize("source", ["martlet", "3.5", "3.4"])
def test_a_snapshot_has_the_hash_that_its_server_tells(source: str, tmp_path: Path) -> None:
    """At the newest revision and at each that is left."""
    one = Server(paths.MARTLET) if source == "martlet" else etcd(source)
    with one as server, Client(server.start().address) as client:
        fill(server)
        path = save(server, tmp_path / "db")
        m = messages().rpc
        newest = client.maintenance.Status(m.StatusRequest()).header.revision
        asked = client.maintenance.HashKV(m.HashKVRequest(revision=newest))
        for revision in range(asked.compact_revision + 1, newest + 1):
            answer = client.maintenance.HashKV(m.HashKVRequest(revision=revision))
            printed = MARTLET("hashkv", path, "--rev", revision, "-w", "json")
            assert json.loads(printed) == {
                "hash": answer.hash, "hashRevision": revision,
                "compactRevision": answer.compact_revision}
        assert MARTLET("hashkv", path) == f"{asked.hash}, {newest}, {asked.compact_revision}\n"
        for revision, text in [(1, "compacted"), (newest + 1, "future")]:
            refusal = MARTLET.run("hashkv", path, "--rev", revision)
            assert refusal.returncode == 1 and text in refusal.stderr


def test_a_stopped_member_is_hashed_and_defragmented(tmp_path: Path) -> None:
    with Server(paths.MARTLET, ["--auto-defrag-factor=0"]) as server:
        with Client(server.start().address) as client:
            fill(server)
            waste(client, 20)
        before = State.of(server)
        for command in (["hashkv", server.data_dir], ["defrag", "--data-dir", server.data_dir]):
            refusal = MARTLET.run(*command)
            assert refusal.returncode == 1 and "in use by another process" in refusal.stderr
        server.stop()
        printed = MARTLET("hashkv", server.data_dir)
        assert printed == f"{before.hashes[0]}, {before.revision}, {before.hashes[1]}\n"
        store = server.data_dir / "member" / "snap" / "store.lmdb"
        assert store.stat().st_size > 15 * MEBIBYTE
        MARTLET("defrag", "--data-dir", server.data_dir)
        assert store.stat().st_size < 4 * MEBIBYTE
        assert State.of(server.start()) == before

"""Random contents: what one side writes, the other reads, to the last row."""

import random
from pathlib import Path

import pytest
from harness import paths
from harness.protos import Client, messages
from harness.server import Server

from tools import (ETCDCTL, ETCDUTL, MARTLET, State, compact, delete, etcd, number, put,
                   restore_flags, save)

SEEDS = range(4)


def churn(server: Server, generator: random.Random) -> None:
    """Keys and values of every size, and enough gone again for many free pages."""
    m = messages().rpc
    with Client(server.address) as client:
        revision = 1
        for _ in range(generator.randrange(20, 60)):
            ops = []
            for _ in range(generator.randrange(1, 100)):
                key = generator.randbytes(generator.choice([1, 3, 8, 30, 300]))
                value = generator.randbytes(generator.choice([0, 1, 50, 500, 3000]))
                ops.append(m.RequestOp(request_put=m.PutRequest(key=key, value=value)))
            unique = {op.request_put.key: op for op in ops}
            revision = client.kv.Txn(m.TxnRequest(success=unique.values())).header.revision
        for _ in range(generator.randrange(3)):
            revision = put(client, b"huge", generator.randbytes(1_400_000))
        put(client, generator.randbytes(30_000), b"a key of many pages")
        if generator.random() < 0.7:
            delete(client, bytes([generator.randrange(128)]), b"\xff")
            compact(client, generator.randrange(revision // 2, revision + 1))
        put(client, b"last", b"")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("source", ["martlet", "3.5"])
def test_random_contents_cross(source: str, seed: int, tmp_path: Path) -> None:
    server = Server(paths.MARTLET) if source == "martlet" else etcd("3.5")
    target = etcd("3.5") if source == "martlet" else Server(paths.MARTLET)
    with server, target:
        churn(server.start(), random.Random(seed))
        before = State.of(server)
        path = save(server, tmp_path / "db")
        status = ETCDUTL("snapshot", "status", path, "-w", "fields")
        for other in (MARTLET, ETCDCTL):
            assert other("snapshot", "status", path, "-w", "fields") == status
        assert number(status, "Revision") == before.revision
        tool = ETCDUTL if source == "martlet" else MARTLET
        tool("snapshot", "restore", path, *restore_flags(target))
        assert State.of(target.start()).without_members() == before.without_members()


def test_an_empty_store(tmp_path: Path) -> None:
    """Buckets without a row."""
    with Server(paths.MARTLET) as server, etcd("3.5") as target:
        path = save(server.start(), tmp_path / "db")
        assert MARTLET("snapshot", "status", path) == ETCDUTL("snapshot", "status", path)
        ETCDUTL("snapshot", "restore", path, *restore_flags(target))
        assert State.of(target.start()).keys == []


def test_a_deep_tree(tmp_path: Path) -> None:
    """20,000 rows: leaves, branches, and a branch above those."""
    m = messages().rpc
    with Server(paths.MARTLET) as server, etcd("3.5") as target:
        with Client(server.start().address) as client:
            for batch in range(160):
                client.kv.Txn(m.TxnRequest(success=[
                    m.RequestOp(request_put=m.PutRequest(
                        key=b"%d/%d" % (batch, n), value=b"v" * 300)) for n in range(125)]))
        before = State.of(server)
        path = save(server, tmp_path / "db")
        ETCDUTL("snapshot", "restore", path, *restore_flags(target))
        assert State.of(target.start()).without_members() == before.without_members()

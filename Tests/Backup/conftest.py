"""Snapshots that several tests start from."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import paths
from harness.server import Server

from tools import State, etcd, fill, save

SOURCES = ["martlet", "3.5", "3.4"]


def server_of(source: str) -> Server:
    return Server(paths.MARTLET) if source == "martlet" else etcd(source)


@pytest.fixture(scope="session")
def snapshots() -> Iterator[dict[str, tuple[Path, State]]]:
    """For each kind of server: a snapshot of it, and what it held then."""
    with tempfile.TemporaryDirectory(prefix="martlet-test-") as folder:
        found = {}
        for source in SOURCES:
            with server_of(source) as server:
                fill(server.start())
                found[source] = (save(server, Path(folder, f"{source}.db")), State.of(server))
        yield found

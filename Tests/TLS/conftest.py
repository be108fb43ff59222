"""Certificates and servers that several tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pki import Authority, Pair
from secure import SecureServer, server_flags


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    return authority.issue("server", "DNS:localhost,IP:127.0.0.1")


@pytest.fixture(scope="session")
def client_pair(authority: Authority) -> Pair:
    return authority.issue("client", common_name="patroni")


@pytest.fixture(scope="module")
def server(authority: Authority, server_pair: Pair, client_pair: Pair) -> Iterator[SecureServer]:
    """Demands client certificates."""
    with SecureServer(authority, client_pair, server_flags(authority, server_pair)) as found:
        yield found.start()


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    return tmp_path / "own"

"""What is advertised when all addresses are listened on: the machine's own, by its default route."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import paths
from harness.server import clean_environment

SPACE = f"mth{os.getpid()}"


def run(*command: str) -> str:
    return subprocess.run(["ip", *command], check=True, capture_output=True, text=True,
                          timeout=10).stdout


def can_make_spaces() -> bool:
    try:
        run("netns", "add", SPACE)
    except (subprocess.SubprocessError, OSError):
        return False
    run("netns", "del", SPACE)
    return True


@pytest.fixture
def space() -> Iterator[str]:
    run("netns", "add", SPACE)
    try:
        yield furnish()
    finally:
        run("netns", "del", SPACE)


def furnish() -> str:
    """Two interfaces, the first with two addresses."""
    for command in ("link set lo up", "link add one type veth peer name two", "link set one up",
                    "addr add 10.99.1.1/24 dev one", "addr add 10.99.2.1/24 dev one",
                    "link set two up",
                    "addr add 10.99.3.1/24 dev two"):
        run("-n", SPACE, *command.split())
    return SPACE


@pytest.mark.skipif(not can_make_spaces(), reason="needs root and network namespaces")
@pytest.mark.parametrize("route,host", [
    ("default via 10.99.1.9", "10.99.1.1"), ("default via 10.99.1.9 src 10.99.2.1", "10.99.2.1"),
    ("default dev two", "10.99.3.1"), ("10.1.0.0/16 dev two", "localhost"),
], ids=["the interface's first", "preferred", "another interface", "none"])
@pytest.mark.parametrize("binary", [paths.MARTLET, paths.ETCD], ids=["martlet", "etcd"])
def test_the_default_routes_address(binary: str, route: str, host: str, space: str,
                                    tmp_path: Path) -> None:
    run("-n", space, "route", "add", *route.split())
    (tmp_path / "c.yml").write_text(
        f"name: m\ndata-dir: {tmp_path / 'd'}\nlisten-client-urls: http://0.0.0.0:2379\n"
        f"listen-peer-urls: http://0.0.0.0:2380\nlog-outputs: [{tmp_path / 'log'}]\n")
    inside = ["ip", "netns", "exec", space]
    server = subprocess.Popen(
        [*inside, binary, f"--config-file={tmp_path / 'c.yml'}"], cwd=tmp_path,
        env=clean_environment(), stdin=subprocess.DEVNULL)
    try:
        found = subprocess.run(
            [*inside, paths.ETCDCTL, "--command-timeout=15s", "--dial-timeout=15s", "member",
             "list", "-w", "json"], capture_output=True, text=True, timeout=20,
            env=clean_environment() | {"ETCDCTL_API": "3"})
        assert found.returncode == 0, found.stderr
        (member,) = json.loads(found.stdout)["members"]
        # etcd 3.5.1 answers before it has published itself.
        assert member.get("clientURLs", [f"http://{host}:2379"]) == [f"http://{host}:2379"]
        assert member["peerURLs"] == [f"http://{host}:2380"]
    finally:
        server.terminate()
        assert server.wait(10) in (0, -15)
    if host != "localhost":
        assert "detected default host for advertise" in (tmp_path / "log").read_text()

"""The commands of docs/operations.md do what the page says, on other ports and paths."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from harness import paths
from harness.server import Server, clean_environment

START = ".build/release/martlet --data-dir /var/lib/martlet"
# These have tests of their own: Tests/TLS/test_packaging.py, Tests/FirstRun/test_readme.py.
ELSEWHERE = {"make build && packaging/build-deb", "make cluster"}


def commands() -> list[str]:
    page = (paths.ROOT / "docs" / "operations.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line]


def words(command: str, folder: Path, port: int = 2379) -> list[str]:
    """The command's words, with this folder's paths and this port."""
    placed = command.replace("/var/l", f"{folder}/var/l").replace(":2379", f":{port}")
    return shlex.split(placed.replace(" backup.db", f" {folder}/backup.db"))


def run(command: list[str], code: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60,
                          env=clean_environment() | {"ETCDCTL_API": "3"})
    assert done.returncode == code and done.stdout, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


class OperatedServer(Server):
    """Started with what the page says, and ports that are free."""

    def __init__(self, start: list[str]):
        super().__init__(paths.MARTLET, own_peer_url=True)
        self.start_words = start

    def arguments(self) -> list[str]:
        peer = ["--listen-peer-urls", "--initial-advertise-peer-urls"]
        return [self.binary, *self.start_words,
                "--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint,
                *(word for flag in peer for word in (flag, self.peer_url)),
                "--initial-cluster", f"default={self.peer_url}"]


@pytest.fixture(name="folder")
def of_an_operator(tmp_path: Path) -> Path:
    for name in ("lib", "log/martlet"):
        (tmp_path / "var" / name).mkdir(parents=True)
    return tmp_path


def test_the_commands_of_the_page(folder: Path) -> None:
    tested = set(ELSEWHERE)
    found = commands()
    (logging,) = [each for each in found if "--log-outputs" in each]
    with OperatedServer(words(START, folder)[1:] + words(logging, folder)[1:]) as server:
        server.start()
        tested |= {START, logging}
        for command in found:
            if command.startswith("curl "):
                # A stream goes on until it is left.
                ended = 28 if " -N " in command else 0
                run([*words(command, folder, server.client_port), "--fail", "--silent",
                     "--max-time", "2"], ended)
                tested.add(command)
        run([paths.ETCDCTL, "--endpoints", server.endpoint, "snapshot", "save",
             str(folder / "backup.db")])
        assert server.stop() == 0
        lines = (folder / "var/log/martlet/martlet.log").read_text().splitlines()
        assert "ready to serve client requests" in [json.loads(line)["msg"] for line in lines]
        for command in found:
            if command.startswith("martlet check "):
                report = run([paths.MARTLET, *words(command, folder)[1:]])
                assert "nothing is wrong" in report, report
                tested.add(command)
    assert set(found) == tested

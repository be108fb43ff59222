"""The commands of docs/operations.md do what the page says, on other ports and paths."""

import json
import re
import shlex
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent

import pytest

from cluster import Cluster, wait_until
from harness import paths
from harness.server import Server, clean_environment

PAGE = paths.ROOT / "docs" / "operations.md"
START = ".build/release/martlet --data-dir /var/lib/martlet"
# These have tests of their own: Tests/TLS/test_packaging.py, Tests/FirstRun/test_readme.py.
ELSEWHERE = {"make build && packaging/build-deb", "make cluster"}


def commands() -> list[str]:
    page = PAGE.read_text()
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    lines = "".join(map(dedent, blocks)).replace("\\\n", " ").splitlines()
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
    (joining,) = [each for each in found if "--initial-cluster-state existing" in each]
    tested.add(joining)  # below
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


class MovedServer(Server):
    """Started with nothing but these words."""

    def __init__(self, start: list[str]):
        super().__init__(paths.MARTLET)
        self.start_words = start

    def arguments(self) -> list[str]:
        return [self.binary, *self.start_words]


def test_the_move_of_the_page(tmp_path: Path) -> None:
    """A follower and then the leader, with the section's commands, in its order."""
    title = "## From etcd to Martlet, one member at a time\n"
    section = PAGE.read_text().partition(title)[2].partition("\n## ")[0]
    status, move, remove, add, hashkv = re.findall(r"`(etcdctl [^`]+)`", section)
    (joining,) = [each for each in commands() if "--initial-cluster-state existing" in each]

    def etcdctl(endpoint: str, command: str, **places: str) -> list[str]:
        for name, value in places.items():
            (hole,) = re.findall(rf"<{name}\b[^>]*>", command)
            command = command.replace(hole, value)
        assert "<" not in command, command
        return [paths.ETCDCTL, "--endpoints", endpoint, *shlex.split(command)[1:]]

    def member_ids(endpoint: str) -> dict[str, int]:
        answer = json.loads(run(etcdctl(endpoint, "etcdctl member list -w json")))
        return {each["name"]: each["ID"] for each in answer["members"]}

    def change(command: list[str]) -> str:
        """Refused for a while, as the page says."""
        done: list[subprocess.CompletedProcess] = []

        def is_done() -> bool:
            done[:] = [subprocess.run(command, capture_output=True, text=True, timeout=60,
                                      env=clean_environment())]
            refusal = done[0].stderr
            assert not refusal or "unhealthy cluster" in refusal, refusal
            return done[0].returncode == 0

        wait_until(is_done, " ".join(command))
        return done[0].stdout

    with Cluster(["etcd"] * 3) as cluster, ExitStack() as stack:
        leader = cluster.start().leader()
        leader.put("k", "v")
        everyone = leader.initial
        follower, third = [each for each in cluster.members if each is not leader]
        for old, other in ((follower, leader), (leader, third)):
            ids = member_ids(other.endpoint)
            assert run(etcdctl(other.endpoint, status)).count("3.5.") == 3
            if old is leader:
                moved = run(etcdctl(old.endpoint, move, ID=f"{ids[third.name]:x}"))
                assert "Leadership transferred" in moved
            change(etcdctl(other.endpoint, remove, ID=f"{ids[old.name]:x}"))
            old.process.wait(20)
            shutil.rmtree(old.data_dir)
            printed = change(etcdctl(other.endpoint, add, name=old.name, URL=old.peer_url))
            line = joining.replace(
                "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380", everyone)
            for text, ours in [
                    ("--name m1", f"--name {old.name}"), ("/var/lib/martlet", str(old.data_dir)),
                    ("http://10.0.0.1:2380", old.peer_url), ("http://10.0.0.1:2379", old.endpoint)]:
                assert text in line
                line = line.replace(text, ours)
            (settings,) = re.findall('ETCD_INITIAL_CLUSTER="(.*)"', printed)
            assert sorted(settings.split(",")) == sorted(everyone.split(","))
            new = stack.enter_context(MovedServer(shlex.split(line)[1:]))
            new.client_port, new.peer_port = old.client_port, old.peer_port
            new.spawn()
            new.await_log("ready to serve client requests")
            found = re.findall(r"^\S+, (\d+)$", run(etcdctl(new.endpoint, hashkv)), re.MULTILINE)
            assert len(found) == 3 and len(set(found)) == 1, found
            assert run(etcdctl(new.endpoint, "etcdctl get k")) == "k\nv\n"

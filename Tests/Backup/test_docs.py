"""Every command of docs/backup.md, in order, on one machine."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from harness import paths
from harness.protos import Client
from harness.server import Server, clean_environment, free_ports

from pki import Authority
from secure import SecureServer, etcdctl, server_flags, works
from tools import ETCDCTL, ETCDUTL, MARTLET, State, etcd, fill, put

PAGE = paths.ROOT / "docs" / "backup.md"
BLOCKS = [dedent(found) for found in re.findall(
    r"^ *```sh\n(.*?)^ *```", PAGE.read_text(), re.DOTALL | re.MULTILINE)]
DAY_SECONDS = 86_400
BLOCK_SECONDS_MAX = 60


class Machine:
    """Stand-ins for the paths, ports and services that the page names."""

    def __init__(self, folder: Path, member: Server, old: Server, moved: Server,
                 secure: SecureServer):
        self.folder = folder
        self.secure = secure
        self.services = {"martlet": member, "etcd": old, "martlet-on-etcds-directory": moved}
        self.member = member
        self.ports = free_ports(2)
        (folder / "backup").mkdir()
        (folder / "tmp").mkdir()
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name, program in {"martlet": paths.MARTLET, "etcdctl": paths.ETCDCTL,
                              "etcdutl": ETCDUTL.command[0]}.items():
            (self.bin / name).symlink_to(program)

    def run(self, block: str) -> str:
        """Runs a block up to each `systemctl`, which is done here; what it printed."""
        part: list[str] = []
        printed = ""
        for line in [*block.splitlines(), ""]:
            if found := re.match(r"systemctl (start|stop) (\S+)", line):
                printed += self.shell(part)
                part = []
                service = self.services[found.group(2)]
                service.start() if found.group(1) == "start" else service.stop()
                if found.group(1) == "start":
                    self.member = service
            else:
                part.append(line)
        return printed + self.shell(part)

    def shell(self, lines: list[str], code: int = 0) -> str:
        """Runs these lines as one script that ends so, and gives what it printed."""
        text = "set -euo pipefail\n" + "\n".join(lines)
        places = {
            "/var/lib/martlet": str(self.services["martlet"].data_dir),
            "/var/lib/etcd": str(self.services["etcd"].data_dir),
            "/backup": str(self.folder / "backup"), "/tmp/": f"{self.folder}/tmp/",
            "/etc/etcd/": f"{self.secure.authority.folder}/",
            "10.0.0.1:2379": self.secure.address, "127.0.0.1:2379": self.member.address,
            "127.0.0.1:3379": f"127.0.0.1:{self.ports[0]}",
            "127.0.0.1:3380": f"127.0.0.1:{self.ports[1]}",
            "m1=http://127.0.0.1:2380": f"m1={self.member.peer_url}",
            "--initial-advertise-peer-urls http://127.0.0.1:2380":
                f"--initial-advertise-peer-urls {self.member.peer_url}",
        }
        names = "|".join(re.escape(name) for name in sorted(places, key=len, reverse=True))
        text = re.sub(f"({names})(?![0-9])", lambda found: places[found.group()], text)
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            process = subprocess.Popen(
                ["bash", "-c", text], stdout=output, stderr=output, cwd=self.folder,
                start_new_session=True,
                env=clean_environment() | {"PATH": f"{self.bin}:{os.environ['PATH']}"})
            try:
                ended = process.wait(BLOCK_SECONDS_MAX)
            finally:  # also what a script that fails has left running
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(0)
            printed = output.read()
        assert ended == code, f"{text}\n{printed}"
        return printed

    def hash(self) -> str:
        """What `hashkv` says of the member."""
        return hashes(ETCDCTL("--endpoints", self.member.address, "endpoint", "hashkv"))[0]

    def schedule(self, block: str) -> None:
        """The script with a file that is damaged on its way, and with files of some age."""
        backup = self.folder / "backup"
        days = {"old": 15, "young": 13}
        for name, age in days.items():
            path = backup / f"{name}.db"
            path.write_text(name)
            then = time.time() - age * DAY_SECONDS
            os.utime(path, (then, then))
        before = set(os.listdir(backup))
        real = self.bin / "etcdctl"
        target = real.readlink()
        real.unlink()
        real.write_text(f'#!/bin/sh\n{target} "$@"\nfor file; do :; done\n'
                        'truncate -s -40K "$file"\n')
        real.chmod(0o755)
        self.shell(block.splitlines(), code=1)
        real.unlink()
        real.symlink_to(target)
        (damaged,) = set(os.listdir(backup)) - before
        assert damaged.endswith(".db.damaged"), damaged
        assert before <= set(os.listdir(backup)), "nothing was saved, and yet something deleted"
        self.run(block)
        (saved,) = set(os.listdir(backup)) - before - {damaged}
        assert MARTLET("snapshot", "status", backup / saved)
        assert before - set(os.listdir(backup)) == {"old.db"}


def hashes(printed: str) -> list[str]:
    """Those in lines of `endpoint hashkv`, or of `martlet hashkv`."""
    return re.findall(r"^(?:127\.0\.0\.1:\d+, )?(\d+)(?:, \d+, \d+)?$", printed, re.MULTILINE)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[SecureServer]:
    """Demands a certificate and a user."""
    authority = Authority(tmp_path / "pki", "ec")
    pair, client = authority.issue("server", "IP:127.0.0.1"), authority.issue("client")
    with SecureServer(authority, client, server_flags(authority, pair)) as server:
        server.start()
        for line in ["user add root:secret", "user grant-role root root", "auth enable"]:
            assert works(etcdctl(server, *line.split(), ca=authority.ca, client=client))
        yield server


@pytest.fixture
def machine(tmp_path: Path, secure: SecureServer) -> Iterator[Machine]:
    with (Server(paths.MARTLET) as member, etcd("3.5") as old,
          Server(paths.MARTLET, data_dir=old.data_dir) as moved):
        moved.client_port, moved.peer_port = old.client_port, old.peer_port
        yield Machine(tmp_path, member, old, moved, secure)


def test_every_command_of_the_page(machine: Machine) -> None:
    assert len(BLOCKS) > 7
    fill(machine.member.start())
    before = State.of(machine.member)
    compared = 0
    for block in BLOCKS:
        if "systemctl stop etcd" in block:
            assert State.of(machine.member).without_members() == before.without_members()
            machine.member.stop()
            machine.member = machine.services["etcd"]
            fill(machine.member.start())
            before = State.of(machine.member)
        hash_before = machine.hash()
        if "-mtime" in block:
            machine.schedule(block)
            continue
        printed = hashes(machine.run(block))
        assert len(printed) == block.count("hashkv") and set(printed) <= {hash_before}, block
        compared += len(printed)
    assert compared == 4
    assert State.of(machine.member) == before
    with Client(machine.member.address) as client:
        put(client, b"k", b"v")
    assert MARTLET("snapshot", "status", machine.folder / "backup" / "today.db")

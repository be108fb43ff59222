"""The commands of README.md do what it says, on other ports."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

from harness import paths
from harness.server import Server, clean_environment, free_ports

PORTS_OF_A_CLUSTER = 22  # two side by side, ten on from one member to the next


def block(beginning: str) -> list[str]:
    """The commands of the block of shell commands that begins so."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (paths.ROOT / "README.md").read_text(),
                        re.MULTILINE | re.DOTALL)
    (found,) = [each for each in blocks if each.startswith(beginning)]
    return found.replace("\\\n", " ").splitlines()


def run(command: str, environment: dict[str, str] | None = None) -> str:
    words = shlex.split(command)
    assert words[0] == "etcdctl"
    done = subprocess.run([paths.ETCDCTL, *words[1:]], capture_output=True, text=True, timeout=30,
                          env=clean_environment() | {"ETCDCTL_API": "3"} | (environment or {}))
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def first_of_free_ports() -> int:
    """All ports from it up to the peer port of the third member are free."""
    while True:
        ports = free_ports(PORTS_OF_A_CLUSTER)
        if ports[-1] - ports[0] == PORTS_OF_A_CLUSTER - 1:
            return ports[0]


def test_first_steps() -> None:
    export, *commands = block("export ETCDCTL_API=3")
    assert export == "export ETCDCTL_API=3"
    with Server(paths.MARTLET) as server:
        here = {"ETCDCTL_ENDPOINTS": server.start().endpoint}
        put, get, status = (run(command, here) for command in commands)
    assert (put, get) == ("OK\n", "greeting\nhello\n")
    assert "IS LEADER" in status


def test_three_members(tmp_path: Path) -> None:
    first, *commands = block("make cluster")
    assert first == "make cluster"
    port = first_of_free_ports()
    with subprocess.Popen(
            [paths.ROOT / "scripts" / "cluster", "--dir", tmp_path, "--first-port", str(port)],
            env=clean_environment() | {"MARTLET": paths.MARTLET}, stdout=subprocess.PIPE,
            text=True, start_new_session=True) as script:
        try:
            for line in script.stdout:
                if "Ctrl-C" in line:
                    break
            members, statuses = (run(each.replace("2379", str(port))) for each in commands)
        finally:
            os.killpg(script.pid, signal.SIGINT)
    assert members.count("| started |") == 3
    assert statuses.count("127.0.0.1:") == 3


def test_tls_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    port, peer = free_ports(2)

    def placed(command: str) -> str:
        return command.replace("2379", str(port)).replace(" build/", f" {tmp_path}/")

    (start,) = block(".build/release/martlet")
    (health,) = block("etcdctl --endpoints https")
    words = shlex.split(placed(start))
    assert words[0] == ".build/release/martlet"
    with subprocess.Popen([paths.MARTLET, *words[1:], "--listen-peer-urls",
                           f"http://127.0.0.1:{peer}"], stderr=subprocess.PIPE, text=True,
                          env=clean_environment()) as server:
        try:
            for line in server.stderr:
                if "ready to serve" in line:
                    break
            run(placed(health))
        finally:
            server.terminate()

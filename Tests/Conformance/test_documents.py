"""The command lines of docs/security.md do what the page says, in the order of the page."""

import re
import shlex
import subprocess
from pathlib import Path

from harness import paths
from harness.server import Server, clean_environment

PAGE = paths.ROOT / "docs" / "security.md"


def blocks() -> list[list[str]]:
    """The lines of each block of shell commands that is about users."""
    page = PAGE.read_text().split("\n## Users and roles\n")[1].split("\n## ")[0]
    found = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    split = [[line for line in block.splitlines() if line.strip()] for block in found]
    return [lines for lines in split
            if all(line.startswith("etcdctl ") for line in lines) or "--auth-token" in str(lines)]


def test_the_commands_about_users_work(tmp_path: Path) -> None:
    environment = clean_environment() | {"ETCDCTL_API": "3"}
    commands = [line for block in blocks() for line in block if line.startswith("etcdctl ")]
    assert len(commands) >= 9
    with Server(paths.MARTLET, ["--bcrypt-cost", "4"]) as server:
        environment["ETCDCTL_ENDPOINTS"] = server.start().endpoint
        for command in commands:
            done = subprocess.run(
                [paths.ETCDCTL, *shlex.split(command)[1:]], env=environment, cwd=tmp_path,
                capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_server_starts_with_the_keys_that_the_page_makes(tmp_path: Path) -> None:
    (lines,) = [block for block in blocks() if "--auth-token" in str(block)]
    for line in lines[:-1]:
        subprocess.run(shlex.split(line), cwd=tmp_path, check=True, capture_output=True)
    program, *flags = shlex.split(lines[-1])
    assert program == "martlet"
    flags = [re.sub(r"(jwt\.(?:key|pub))", lambda m: str(tmp_path / m[1]), flag)
             for flag in flags]
    with Server(paths.MARTLET, flags) as server:
        server.start()

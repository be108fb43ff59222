"""What docs/patroni.md tells operators to write and to run, so that the tests do just that."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import yaml
from harness import paths
from harness.server import clean_environment

PAGE = paths.ROOT / "docs" / "patroni.md"
# Where Patroni really lies: its user need not reach the way there.
PATRONI = (paths.VENV.parent / "patroni").resolve() / "bin"
COMMAND_SECONDS_MAX = 60


def block(heading: str, language: str) -> str:
    """The first block in `language` below `heading`."""
    text = PAGE.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL).group(1)


def section(heading: str) -> dict:
    """Patroni's settings below `heading`."""
    return yaml.safe_load(block(heading, "yaml"))


def run(commands: str, folder: Path, **environment: str) -> str:
    """Runs commands of the page with our etcdctl and patronictl; gives what they print."""
    tools = folder / "bin"
    if not tools.exists():
        tools.mkdir()
        for name, binary in (("etcdctl", paths.ETCDCTL), ("patronictl", PATRONI / "patronictl")):
            (tools / name).symlink_to(shutil.which(binary))
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=COMMAND_SECONDS_MAX,
        env=clean_environment() | environment | {"PATH": f"{tools}:{os.environ['PATH']}",
                                                 "COLUMNS": "120"})
    assert result.returncode == 0, f"{commands}\n{result.stdout}"
    return result.stdout

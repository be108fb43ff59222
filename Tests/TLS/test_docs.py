"""The commands of docs/security.md on TLS, run as they stand but for ports and key lengths."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from harness import paths
from harness.server import clean_environment, free_ports


def test_the_commands_of_the_security_page(tmp_path: Path) -> None:
    page = (paths.ROOT / "docs" / "security.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page.partition("## Users and roles")[0], re.DOTALL)
    assert len(blocks) == 4
    client, peer = (str(port) for port in free_ports(2))
    script = "".join(blocks).replace("2379", client).replace("2380", peer)
    script = script.replace("rsa:4096", "rsa:2048")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, binary in (("martlet", paths.MARTLET), ("etcdctl", paths.ETCDCTL)):
        (tools / name).symlink_to(shutil.which(binary))
    environment = clean_environment() | {"PATH": f"{tools}:{os.environ['PATH']}"}
    with subprocess.Popen(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                          start_new_session=True) as shell:
        output = ""
        try:
            # The server in the background holds the pipes open: the shell's end is waited for.
            code = shell.wait(40)
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
            output = "".join(shell.communicate(timeout=10))
    assert code == 0, output
    assert "is healthy" in output
    assert re.search(r"started \|\s+m1 \|", output), output
    assert '"health":"true"' in output
    assert (tmp_path / "pki" / "crl.pem").exists()

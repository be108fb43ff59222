"""What a good refusal to start looks like."""

import hashlib
import re
import subprocess
from pathlib import Path

from harness.server import Server

REFUSAL_SECONDS_MAX = 10
LINES_MAX = 5
CRASHES = re.compile(r"Fatal error|Illegal instruction|Segmentation|Backtrace")


def tree(folder: Path) -> dict[str, str]:
    """A hash of every file below `folder`."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_refuses(server: Server, message: str, code: int | None = None, **popen: object) -> str:
    """It exits by itself, not 0, with a short log that matches `message`; gives the log."""
    server.log.unlink(missing_ok=True)
    with open(server.log, "wb") as log:
        process = subprocess.Popen(
            server.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=server.home, **popen)
    try:
        found = process.wait(REFUSAL_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it goes on running: {server.log_tail()}") from None
    finally:
        process.kill()
        process.wait()
    text = server.log_text()
    assert found > 0, f"exit code {found}: {text}"
    assert code in (None, found), f"exit code {found}: {text}"
    assert re.search(message, text, re.IGNORECASE), text
    assert not CRASHES.search(text), text
    return text


def assert_short(text: str) -> None:
    """One message, not a page of them."""
    assert len(text.strip().splitlines()) <= LINES_MAX, text

"""Runs a scenario on one server and gives the normalised outcome of each case."""

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness import paths
from harness.server import Server, clean_environment

from normal import decode_raw, normalise
from scenario import Scenario, Step

COMMAND_SECONDS_MAX = 90
SETTLE_SECONDS = 0.35
SETTLE_SECONDS_MAX = 2.5
HEARD = re.compile(r"^grpc_server_msg_received_total\{.*\} (\d+)$", re.MULTILINE)
CLIENTS = {"3.5": paths.ETCDCTL, "3.4": paths.ETCDCTL_34}


@dataclass
class Outcome:
    """What a case printed and returned, normalised."""

    stdout: str
    stderr: str
    code: int

    def lines(self) -> list[str]:
        return (self.stdout.split("\n") + ["stderr: " + line for line in self.stderr.split("\n")]
                + [f"exit code {self.code}"])


class Background:
    """An etcdctl that goes on while later steps run; its output goes to files."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path, name: str):
        self.files = [folder / f"{name}.out", folder / f"{name}.err"]
        with open(self.files[0], "wb") as out, open(self.files[1], "wb") as err:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment,
                start_new_session=True)

    def send(self, text: str) -> None:
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def settle(self) -> None:
        """Returns when it has said something and then nothing for a while, or has said nothing."""
        start = changed = time.monotonic()
        size = -1
        while time.monotonic() - changed < SETTLE_SECONDS or (
                size == 0 and time.monotonic() - start < SETTLE_SECONDS_MAX):
            if (now := self.size()) != size:
                size, changed = now, time.monotonic()
            time.sleep(0.02)

    def finish(self, kind: int | None) -> subprocess.CompletedProcess:
        if kind is not None:
            self.settle()
            self.process.send_signal(kind)
        try:
            code = self.process.wait(COMMAND_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdin.close()
        out, err = (path.read_bytes() for path in self.files)
        return subprocess.CompletedProcess([], code, out, err)


class Runner:
    """Keeps what a scenario needs from step to step on one server."""

    def __init__(self, server: Server, client: str):
        self.server = server
        self.etcdctl = CLIENTS[client]
        self.folder = Path(tempfile.mkdtemp(dir=server.home))
        self.variables = {
            "EP": server.endpoint, "HOSTPORT": server.address, "DIR": str(self.folder)}
        self.exact = {
            str(server.home): "<home>", server.address: "<client>",
            f"127.0.0.1:{server.peer_port}": "<peer>"}
        self.masks: list[re.Pattern] = []
        self.captures: list[tuple[str, re.Pattern]] = []
        self.background: dict[str, Background] = {}
        (self.folder / "etcdctl").symlink_to(self.etcdctl)
        self.environment = clean_environment() | {
            "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": server.endpoint,
            "PATH": f"{self.folder}:{os.environ['PATH']}"}

    def run(self, scenario: Scenario) -> dict[int, Outcome]:
        """The outcome of every case, by line number."""
        outcomes = {}
        try:
            for step in scenario.steps:
                result = self._step(step)
                if step.is_case:
                    outcomes[step.line] = self._outcome(step, result)
        finally:
            for each in self.background.values():
                each.process.kill()
        return outcomes

    def _expand(self, text: str) -> str:
        for name, value in self.variables.items():
            text = text.replace(f"${name}", value)
        return text

    def _arguments(self, text: str) -> list[str]:
        return [self.etcdctl, *shlex.split(self._expand(text))]

    def _step(self, step: Step) -> subprocess.CompletedProcess | None:
        words = step.text.split()
        match step.directive:
            case "":
                return self._command(self._arguments(step.text), step)
            case "@shell":
                return self._command(["bash", "-c", self._expand(step.text)], step)
            case "@http":
                status, body = self.server.http(self._expand(step.text))
                return subprocess.CompletedProcess([], status, body.encode(), b"")
            case "@mask":
                self.masks.append(re.compile(step.text))
            case "@capture":
                name, _, pattern = step.text.partition(" ")
                self.captures.append((name, re.compile(pattern)))
            case "@start":
                name, _, arguments = step.text.partition(" ")
                heard = self._heard()
                each = Background(
                    self._arguments(arguments), self.environment, self.folder, name)
                self.background[name] = each
                for line in step.stdin:
                    each.send(self._expand(line))
                self._await_message(heard)
            case "@send":
                name, _, text = step.text.partition(" ")
                heard = self._heard()
                self.background[name].send(self._expand(text))
                self._await_message(heard)
            case "@stop":
                kind = getattr(signal, words[1]) if len(words) > 1 else signal.SIGINT
                return self.background.pop(words[0]).finish(kind)
            case "@finish":
                return self.background.pop(words[0]).finish(None)
            case "@sleep":
                time.sleep(float(step.text))
            case "@restart":
                self.server.stop()
                self.server.start()
        return None

    def _heard(self) -> int:
        """How many messages the server has received."""
        return sum(int(each) for each in HEARD.findall(self.server.http("/metrics")[1]))

    def _await_message(self, heard: int) -> None:
        """Returns a while after the server has received one more, if the client sends any."""
        start = time.monotonic()
        while self._heard() == heard and time.monotonic() - start < SETTLE_SECONDS_MAX:
            time.sleep(0.02)
        time.sleep(SETTLE_SECONDS)

    def _command(self, arguments: list[str], step: Step) -> subprocess.CompletedProcess:
        stdin = self._expand("".join(line + "\n" for line in step.stdin)).encode()
        environment = dict(self.environment)
        if "--endpoints" in step.text:  # etcdctl refuses the variable beside the flag
            del environment["ETCDCTL_ENDPOINTS"]
        try:
            result = subprocess.run(
                arguments, input=stdin, capture_output=True, env=environment,
                timeout=COMMAND_SECONDS_MAX)
        except subprocess.TimeoutExpired as late:
            return subprocess.CompletedProcess(arguments, -1, late.stdout or b"", b"no end in time")
        return result

    def _capture(self, stdout: str) -> None:
        for name, pattern in self.captures:
            if found := pattern.search(stdout):
                value = found.group(1)
                self.variables[name] = value
                self.exact[value] = f"<{name}>"
                if re.fullmatch(r"[0-9a-f]{12,16}", value):
                    self.exact[str(int(value, 16))] = f"<{name}>"
        self.captures = []

    def _outcome(self, step: Step, result: subprocess.CompletedProcess) -> Outcome:
        stdout = result.stdout.decode(errors="backslashreplace")
        if "protobuf" in step.text and result.returncode == 0:
            try:
                stdout = decode_raw(result.stdout)
            except ValueError:
                pass  # commands without protobuf output print text
        self._capture(stdout)
        stderr = result.stderr.decode(errors="backslashreplace")
        return Outcome(
            normalise(stdout, self.exact, self.masks), normalise(stderr, self.exact, self.masks),
            result.returncode)

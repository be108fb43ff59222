"""The scenario language: files of command lines, run in order on one server.

A file in scenarios/ holds one command line per line: etcdctl's arguments, or one of

    @clients 3.5 3.4        which etcdctl versions run the file (default 3.5); first lines only
    @server FLAG...         extra server flags; first lines only
    @mask REGEX             from here on matches become <masked> in the outputs compared
    @capture NAME REGEX     group 1 in the next command's stdout becomes $NAME
    @start NAME ARGS...     starts etcdctl in the background
    @send NAME TEXT         writes a line to its stdin
    @stop NAME [SIGNAL]     waits until it says no more, ends it (default SIGINT), compares all of it
    @finish NAME            waits until it ends by itself, compares all of it
    @sleep SECONDS
    @http PATH              GET on the client port: status and body
    @restart                SIGTERM and start again with the same data
    @shell COMMAND...       a shell line, with etcdctl in PATH

Lines that start with `| ` (or are `|`) are the stdin of the line above. `#` starts a comment line.
$EP is the endpoint, $HOSTPORT the same without the scheme, $DIR a temporary folder.
"""

from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "scenarios"
DIRECTIVES = {
    "@mask", "@capture", "@start", "@send", "@stop", "@finish", "@sleep", "@http", "@restart",
    "@shell",
}
COMPARED = {"", "@stop", "@finish", "@http", "@shell"}


@dataclass
class Step:
    """One line: a directive (empty for an etcdctl command), the rest of it, and its stdin."""

    line: int
    directive: str
    text: str
    stdin: list[str] = field(default_factory=list)

    @property
    def is_case(self) -> bool:
        return self.directive in COMPARED

    @property
    def label(self) -> str:
        return f"{self.line:03} {self.directive} {self.text}".replace("  ", " ")


@dataclass
class Scenario:
    """One file for one etcdctl version."""

    name: str
    client: str
    flags: list[str]
    steps: list[Step]

    @property
    def label(self) -> str:
        return f"{self.name}@{self.client}"

    def cases(self) -> list[Step]:
        return [step for step in self.steps if step.is_case]


def parse(path: Path) -> list[Scenario]:
    """One scenario per etcdctl version that the file asks for."""
    clients, flags, steps = ["3.5"], [], []
    for number, raw in enumerate(path.read_text().splitlines(), start=1):
        if raw.startswith("|"):
            steps[-1].stdin.append(raw[2:])
            continue
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "@clients":
            clients = rest.split()
        elif word == "@server":
            flags = rest.split()
        elif word in DIRECTIVES:
            steps.append(Step(number, word, rest))
        elif word.startswith("@"):
            raise ValueError(f"{path}:{number}: unknown directive {word}")
        else:
            steps.append(Step(number, "", line))
    return [Scenario(path.stem, client, flags, steps) for client in clients]


def all_scenarios() -> list[Scenario]:
    return [each for path in sorted(FOLDER.glob("*.txt")) for each in parse(path)]

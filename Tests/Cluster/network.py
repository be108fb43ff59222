"""A network with one address for each member, whose links can be cut in either direction.

Each member lives in a network namespace of its own behind a bridge; clients stand at the bridge.
Needs root. A cut drops what one side sends and lets the other's packets through.
"""

import os
import subprocess


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10, capture_output=True, text=True)


def is_possible() -> bool:
    """Whether namespaces can be made here."""
    if os.getuid() != 0:
        return False
    name = f"mt{os.getpid()}x"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
        return True
    except (subprocess.SubprocessError, OSError):
        return False


class Network:
    """Owns a bridge and the namespaces of members 1 to `count`."""

    def __init__(self, count: int):
        self.name = f"mt{os.getpid() % 100_000}"
        self.subnet = f"10.{os.getpid() // 250 % 100 + 100}.{os.getpid() % 250}"
        self.numbers = list(range(1, count + 1))
        self.cuts: set[tuple[int, int]] = set()

    def host(self, number: int) -> str:
        return f"{self.subnet}.{number + 10}"

    def space(self, number: int) -> str:
        return f"{self.name}n{number}"

    def prefix(self, number: int) -> list[str]:
        """What a command begins with to run in a member's place."""
        return ["ip", "netns", "exec", self.space(number)]

    def __enter__(self) -> "Network":
        ip("link", "add", f"{self.name}b", "type", "bridge")
        ip("addr", "add", f"{self.subnet}.1/24", "dev", f"{self.name}b")
        ip("link", "set", f"{self.name}b", "up")
        for number in self.numbers:
            space, outside = self.space(number), f"{self.name}v{number}"
            ip("netns", "add", space)
            ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", outside, "master", f"{self.name}b", "up")
            ip("-n", space, "addr", "add", f"{self.host(number)}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for number in self.numbers:
            subprocess.run(["ip", "netns", "del", self.space(number)], capture_output=True)
        subprocess.run(["ip", "link", "del", f"{self.name}b"], capture_output=True)

    def cut(self, source: int, target: int) -> None:
        """Drops what `source` sends to `target`."""
        if (source, target) not in self.cuts:
            self.cuts.add((source, target))
            ip("-n", self.space(source), "route", "add", "blackhole", self.host(target))

    def isolate(self, number: int) -> None:
        for other in self.numbers:
            if other != number:
                self.cut(number, other)
                self.cut(other, number)

    def heal(self) -> None:
        for source, target in self.cuts:
            ip("-n", self.space(source), "route", "del", "blackhole", self.host(target))
        self.cuts.clear()

"""The members that a load goes to, as if they were one server."""

from cluster import Cluster
from harness.server import Server


class Group:
    """A server alone, or a cluster that is spoken to through its leader or a follower."""

    def __init__(self, kind: str, binary: str, count: int, through: str):
        self._through = through
        self._cluster = Cluster([kind] * count) if count > 1 else None
        self._members = self._cluster.members if self._cluster else [Server(binary)]
        self._target = self._members[0]

    def start(self) -> "Group":
        if not self._cluster:
            self._target.start()
            return self
        leader = self._cluster.start().leader()
        others = [member for member in self._members if member is not leader]
        self._target = leader if self._through == "leader" else others[0]
        return self

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.close()

    @property
    def endpoint(self) -> str:
        return self._target.endpoint

    def cpu_seconds(self) -> float:
        """Of all members together."""
        return sum(member.cpu_seconds() for member in self._members)

    def rss_bytes(self) -> float:
        """Of a member, on average."""
        return sum(member.rss_bytes() for member in self._members) / len(self._members)

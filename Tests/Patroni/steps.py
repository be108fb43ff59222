"""What happens to a PostgreSQL cluster and to its DCS, step by step, with the time each takes."""

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import guide
from node import LOOP_SECONDS, RETRY_SECONDS, TTL_SECONDS, Node
from store import Store
from vip import LeaderWatch
from writer import Writer

WAIT_SECONDS_MAX = 90.0
FAILOVER_SECONDS_MAX = TTL_SECONDS + LOOP_SECONDS
DEMOTION_SECONDS_MAX = LOOP_SECONDS + 2 * RETRY_SECONDS
STALL_SECONDS_MAX = 5.0


@dataclass
class Row:
    """A line of the table."""

    step: str
    seconds: float
    demotions: int
    note: str = ""


def wait_for(what: str, condition: Callable[[], object], seconds: float = WAIT_SECONDS_MAX) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)


class Drill:
    """A store, two nodes on it, and the table of what was done to them."""

    def __init__(self, kind: str, variant: str):
        self.folder = Path(tempfile.mkdtemp(prefix="martlet-patroni-"))
        self.rows: list[Row] = []
        self.nodes: list[Node] = []
        self.store = Store(kind, variant, self.folder)
        self.watch: LeaderWatch | None = None

    def __enter__(self) -> "Drill":
        try:
            self.store.start()
        except BaseException:
            self.__exit__()
            raise
        self.nodes = [Node(number, self.store) for number in (1, 2)]
        return self

    def __exit__(self, *_: object) -> None:
        if self.watch:
            self.watch.close()
        for node in self.nodes:
            node.close()
        self.store.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def step(self, name: str, demotions: int = 0) -> Iterator[Row]:
        """Times a step, which must see as many demotions as said: no more and no fewer."""
        row, began, before = Row(name, 0, 0), time.monotonic(), self.demotions()
        try:
            yield row
        except Exception as failure:
            row.note = f"failed: {failure}".splitlines()[0]
            raise
        finally:
            row.seconds = time.monotonic() - began
            row.demotions = self.demotions() - before
            self.rows.append(row)
        assert row.demotions == demotions, f"{name}: {row.demotions} demotions, not {demotions}"

    def demotions(self) -> int:
        return sum(node.demotions() for node in self.nodes)

    def primary(self) -> Node | None:
        return next((node for node in self.nodes if node.is_primary()), None)

    def other(self, node: Node) -> Node:
        return next(each for each in self.nodes if each is not node)

    def wait_whole(self) -> None:
        """One leads and the other follows."""
        wait_for("a primary", self.primary)
        wait_for("a replica that streams",
                 lambda: (primary := self.primary()) and self.other(primary).is_streaming())

    def rejoin(self, node: Node) -> None:
        """Starts a node that follows what is written meanwhile.

        A standby that was rewound is consistent only past the next record of its primary, so an
        idle one would keep it waiting.
        """
        node.start()
        with Writer(self.nodes):
            self.wait_whole()

    def wait_in_touch(self, node: Node) -> None:
        """Two rounds of Patroni's loop have reached the store since now."""
        for _ in range(2):
            now = time.time()
            wait_for("the store is reached", lambda: node.status().get("dcs_last_seen", 0) > now)

    def guided(self, heading: str, **names: str) -> str:
        """Runs the guide's commands below `heading`, with other names of nodes."""
        command = re.sub(r"\bpg\d\b", lambda found: names[found[0]], guide.block(heading, "sh"))
        config = str(self.nodes[0].config)
        return guide.run(command, self.folder, PATRONICTL_CONFIG_FILE=config,
                         **self.store.environment())

    def logs(self, characters: int = 3000) -> str:
        texts = {f"{node.name}, running: {node.is_running}, {node.status()}": node.log_text()
                 for node in self.nodes}
        texts |= {member.name: member.log_text() for member in self.store.members}
        return "\n".join(f"--- {name}\n{text[-characters:]}" for name, text in texts.items())

    def bootstrap(self) -> None:
        with self.step("cluster bootstraps"):
            for node in self.nodes:
                node.start()
            wait_for("a primary", self.primary)

    def follow(self) -> None:
        with self.step("replica follows"):
            self.wait_whole()
            primary = self.primary()
            primary.query("create table log (id bigserial primary key, at timestamptz "
                          "default clock_timestamp())")
            primary.query("insert into log default values")
            wait_for("the row arrives", lambda: self.arrived(self.other(primary)))

    def arrived(self, node: Node) -> bool:
        return bool(node.query("select to_regclass('log') is not null")) and bool(
            node.query("select count(*) from log"))

    def show(self) -> None:
        """Each node says how it is once in a round of its loop."""
        with self.step("patronictl list"):
            wait_for("patronictl shows both", self.is_listed, 2 * LOOP_SECONDS)

    def is_listed(self) -> bool:
        printed = self.guided("Look at it")
        assert "\n/service/main/leader\n" in printed, printed
        return "| Leader " in printed and "| streaming " in printed

    def switch(self) -> None:
        self.watch = LeaderWatch(self.store, "/service/main/leader")
        old = self.primary()
        new = self.other(old)
        with self.step("switchover", demotions=1) as row:
            self.guided("Switch over", pg1=old.name, pg2=new.name)
            wait_for("the other leads", new.is_primary)
            began = time.monotonic()
            self.wait_whole()
            row.note = f"old one streams {time.monotonic() - began:.1f} s later"
        with self.step("vip-manager's watch tells of it"):
            self.watch.wait_for(new.name)

    def stop_primary(self) -> None:
        old = self.primary()
        new = self.other(old)
        with self.step("primary stopped, other promoted") as row:
            began = time.monotonic()
            old.stop()
            row.note = f"{time.monotonic() - began:.1f} s of it to stop"
            wait_for("the other is promoted", new.is_primary, 2 * LOOP_SECONDS)
        self.rejoin(old)

    def kill_primary(self) -> tuple[Node, Node]:
        """Gives the one that was killed and the one that took over."""
        old = self.primary()
        new = self.other(old)
        with self.step("primary killed, other promoted"):
            began = time.monotonic()
            old.kill()
            wait_for("the other is promoted", new.is_primary, WAIT_SECONDS_MAX)
            seconds = time.monotonic() - began
            assert seconds <= FAILOVER_SECONDS_MAX, f"{seconds:.1f} s"
        return old, new

    def replace_primary(self) -> None:
        old, new = self.kill_primary()
        with self.step("killed one follows again"):
            self.rejoin(old)
            assert self.primary() is new

    @contextlib.contextmanager
    def undisturbed(self, row: Row) -> Iterator[None]:
        """The primary stays and takes writes all the while."""
        primary, timeline = self.primary(), self.primary().status()["timeline"]
        with Writer(self.nodes) as writer:
            wait_for("rows are written", lambda: writer.rows)
            yield
            self.wait_in_touch(primary)
        assert self.primary() is primary and primary.status()["timeline"] == timeline
        assert not writer.errors, writer.errors
        assert writer.gap < STALL_SECONDS_MAX, f"no row for {writer.gap:.1f} s"
        row.note = f"{writer.rows} rows, longest gap {writer.gap:.2f} s"

    def kill_store_leader(self) -> None:
        with self.step("leader of the store killed") as row, self.undisturbed(row):
            leader = self.store.leader()
            leader.kill()
            self.store.leader()
        self.store.start_all()

    def roll_store(self) -> None:
        with self.step("members restarted one by one") as row, self.undisturbed(row):
            for member in self.store.members:
                member.stop()
                member.spawn()
                member.wait_ready()
                self.store.leader()

    def lose_store(self) -> None:
        primary = self.primary()
        with self.step("store wholly down, primary demoted", demotions=1):
            for member in self.store.members:
                member.kill()
            wait_for("the primary is demoted", lambda: not primary.is_primary(),
                     DEMOTION_SECONDS_MAX)
            assert not self.primary(), "the other was promoted without a store"
        with self.step("store back, primary back") as row:
            began = time.monotonic()
            self.store.start_all()
            wait_for("a primary", self.primary, FAILOVER_SECONDS_MAX)
            took = time.monotonic() - began
            with Writer(self.nodes) as writer:
                self.wait_whole()
                wait_for("rows are written", lambda: writer.rows)
            row.note = f"primary after {took:.1f} s"

    def run(self) -> None:
        """All of it, in the order of the table."""
        for step in (self.bootstrap, self.follow, self.show, self.switch, self.stop_primary,
                     self.replace_primary, self.kill_store_leader, self.roll_store,
                     self.lose_store):
            step()

    def run_short(self) -> None:
        for step in (self.bootstrap, self.follow, self.show, self.kill_store_leader,
                     self.kill_primary):
            step()

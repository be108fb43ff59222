"""Members that die, stall, are cut off or run out of disk, under concurrent clients.

`FAULTS` says how many; the history of all calls is checked for linearizability in the end.
"""

import os
import random
import statistics
import subprocess
import threading
import time
from collections import Counter

import pytest
from cluster import Cluster, Member, wait_until
from history import Caller, Recorder, check, events_of
from network import Network, is_possible

FAULTS = int(os.environ.get("FAULTS", "14"))
SEED = int(os.environ.get("SEED", "1"))
CALLERS = 5
DISK = "192m"
# A member that was away gets a snapshot rather than the log.
SHORT_LOG = ["--snapshot-count=100", "--experimental-snapshot-catchup-entries=20"]


class Faults:
    """Does one harm after the other and mends it."""

    def __init__(self, cluster: Cluster, network: Network, seed: int):
        self.cluster = cluster
        self.network = network
        self.random = random.Random(seed)
        self.gaps: list[float] = []
        self.done: Counter = Counter()

    KINDS = ["kill_leader", "kill_follower", "kill_two", "restart_all", "pause_leader",
             "pause_follower", "cut_leader_off", "cut_follower_off", "cut_one_way_from_leader",
             "cut_one_way_to_leader", "split_pairwise", "fill_disk"]

    def run(self, count: int) -> None:
        order = []
        while len(order) < count:
            order += self.random.sample(self.KINDS, len(self.KINDS))
        for kind in order[:count]:
            self.done[kind] += 1
            getattr(self, kind)()
            self.mend()

    def mend(self) -> None:
        self.network.heal()
        for member in self.cluster.members:
            if not member.is_running:
                member.start()
        self.cluster.leader()
        time.sleep(self.random.uniform(0, 0.5))

    def roles(self) -> tuple[Member, list[Member]]:
        leader = self.cluster.leader()
        return leader, [each for each in self.cluster.members if each is not leader]

    def follower(self) -> Member:
        return self.random.choice(self.roles()[1])

    def await_other_leader(self, leader: Member, term: int) -> None:
        """How long the others take to agree on another leader."""
        others = [each for each in self.cluster.members if each is not leader]
        start = time.monotonic()
        wait_until(lambda: any(
            each.leads() and each.status().raftTerm > term for each in others), "a new leader")
        self.gaps.append(time.monotonic() - start)

    def kill_leader(self) -> None:
        leader, _ = self.roles()
        term = leader.status().raftTerm
        leader.kill()
        self.await_other_leader(leader, term)

    def kill_follower(self) -> None:
        self.follower().kill()
        time.sleep(self.random.uniform(0, 1))

    def kill_two(self) -> None:
        for member in self.random.sample(self.cluster.members, 2):
            member.kill()
        time.sleep(self.random.uniform(0, 0.5))

    def restart_all(self) -> None:
        for member in self.cluster.members:
            member.kill()
        for member in self.cluster.members:
            member.spawn()
        for member in self.cluster.members:
            member.wait_ready()

    def pause_leader(self) -> None:
        leader, _ = self.roles()
        term = leader.status().raftTerm
        leader.pause()
        try:
            self.await_other_leader(leader, term)
        finally:
            leader.resume()

    def pause_follower(self) -> None:
        member = self.follower()
        member.pause()
        time.sleep(self.random.uniform(0, 3))
        member.resume()

    def cut_leader_off(self) -> None:
        leader, _ = self.roles()
        term = leader.status().raftTerm
        self.network.isolate(leader.number)
        self.await_other_leader(leader, term)
        time.sleep(self.random.uniform(0, 2))

    def cut_follower_off(self) -> None:
        self.network.isolate(self.follower().number)
        time.sleep(self.random.uniform(0, 3))

    def cut_one_way_from_leader(self) -> None:
        leader, others = self.roles()
        for other in others:
            self.network.cut(leader.number, other.number)
        time.sleep(self.random.uniform(1, 3))

    def cut_one_way_to_leader(self) -> None:
        leader, others = self.roles()
        for other in others:
            self.network.cut(other.number, leader.number)
        time.sleep(self.random.uniform(1, 3))

    def split_pairwise(self) -> None:
        """Two members hear nothing of each other; both hear the third."""
        first, second = self.random.sample(self.network.numbers, 2)
        self.network.cut(first, second)
        self.network.cut(second, first)
        time.sleep(self.random.uniform(1, 3))

    def fill_disk(self) -> None:
        """The disk is full: the member ends rather than acknowledge, and comes back with room."""
        member = self.random.choice(self.cluster.members)
        ballast = member.data_dir / "ballast"
        with open(ballast, "wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            except OSError:
                pass
        time.sleep(1)
        ballast.unlink()


def test_faults_lose_nothing(capsys: pytest.CaptureFixture) -> None:
    if not is_possible():
        pytest.skip("network namespaces need root")
    recorder = Recorder()
    stop = threading.Event()
    with Network(3) as network, Cluster(
            ["martlet"] * 3, network, SHORT_LOG) as cluster:
        for member in cluster.members:
            member.data_dir.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs",
                            str(member.data_dir)], check=True)
        try:
            cluster.start()
            addresses = [member.address for member in cluster.members]
            callers = [Caller(n, addresses, recorder, SEED, stop, pace=0.01)
                       for n in range(CALLERS)]
            for caller in callers:
                caller.start()
            faults = Faults(cluster, network, SEED)
            faults.run(FAULTS)
            stop.set()
            for caller in callers:
                caller.join()
                assert not caller.errors, caller.errors
            cluster.check_hashes()
            check(recorder, events_of(cluster.members[0].client))
        finally:
            stop.set()
            for member in cluster.members:
                member.kill()
                subprocess.run(["umount", "-l", str(member.data_dir)])
    with capsys.disabled():
        print(f"\n{FAULTS} faults {dict(faults.done)}; {len(recorder.answered)} of "
              f"{len(recorder.operations)} calls answered, all linearizable; without a leader: "
              f"median {statistics.median(faults.gaps):.2f} s, worst {max(faults.gaps):.2f} s, "
              f"seed {SEED}")
    assert len(recorder.answered) > 20 * FAULTS

"""A cluster of etcd becomes one of Martlet on its own data dirs, and one of etcd again: a member at
a time, beside clients."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from cluster import BINARIES, Cluster, Member
from harness import paths
from history import Caller, Recorder, check, events_of

ETCDS = {"3.5": paths.ETCD, "3.4": paths.ETCD_34}
# Members start behind a snapshot of the log, and on entries that are in it alone.
FLAGS = ["--logger=zap", "--snapshot-count=100"]
# What a member says that goes on from its own files.
GOES_ON = {"martlet": "imported etcd's data directory", "etcd": "restarting local member"}


def identities(cluster: Cluster) -> dict[str, tuple[int, int]]:
    """Cluster and member ID of each; all others know it by these and by its name and URLs."""
    cluster.settle()
    found = {}
    for member in cluster.members:
        header = member.status().header
        found[member.name] = (header.cluster_id, header.member_id)
        for teller in cluster.members:
            known = {each["id"]: each for each in teller.peers_know()}[header.member_id]
            assert (known["name"], known["peerURLs"], known["clientURLs"]) == (
                member.name, [member.peer_url], [member.endpoint])
    return found


def one_by_one(cluster: Cluster, recorder: Recorder) -> Iterator[Member]:
    """Ends each member: a follower is stopped, a follower is killed, the leader is stopped."""
    first, second, last = cluster.members
    for member in (first, second, last):
        cluster.move_leader(last)  # where it is already, but for an election on a slow machine
        if member is second:
            kill(member, recorder)
        else:
            assert member.stop() in (0, -signal.SIGTERM)
        before = len(recorder.answered)
        yield member
        cluster.leader()
        assert len(recorder.answered) > before, "no call was answered meanwhile"


def kill(member: Member, recorder: Recorder) -> None:
    """SIGKILL. etcd 3.5.1 itself can lose what it applied in its last tenth of a second: it is
    left that time."""
    if member.kind == "etcd":
        recorder.held.set()
        time.sleep(0.3)
    member.kill()
    recorder.held.clear()


def start_as(member: Member, kind: str) -> None:
    """Starts the other program in the member's place, and waits until it is healthy."""
    member.kind, member.binary = kind, BINARIES[kind]
    member.start()
    member.await_log(GOES_ON[kind])


def export(member: Member) -> None:
    """Gives etcd what it starts on, by the commands of docs/backup.md."""
    new = member.home / "new"
    subprocess.run([paths.MARTLET, "export", member.data_dir, new], check=True, timeout=60)
    member.data_dir.rename(member.home / "martlet")
    new.rename(member.data_dir)


@pytest.mark.parametrize("version", ETCDS)
def test_members_move_in_place_and_back(version: str) -> None:
    """Identities stay, members agree, and everything acknowledged is there. What comes back is
    etcd 3.5, whatever it was before."""
    recorder = Recorder()
    stop = threading.Event()
    with Cluster(["etcd"] * 3, flags=FLAGS) as cluster:
        for member in cluster.members:
            member.binary = ETCDS[version]
        cluster.start()
        before = identities(cluster)
        addresses = [member.address for member in cluster.members]
        callers = [Caller(n, addresses, recorder, 9, stop, pace=0.01) for n in range(4)]
        for caller in callers:
            caller.start()
        for member in one_by_one(cluster, recorder):
            start_as(member, "martlet")
        assert identities(cluster) == before
        cluster.check_hashes()
        for member in one_by_one(cluster, recorder):
            export(member)
            start_as(member, "etcd")
        stop.set()
        for caller in callers:
            caller.join()
            assert not caller.errors, caller.errors
        assert identities(cluster) == before
        cluster.check_hashes()
        check(recorder, events_of(cluster.members[0].client))
        snapshots = cluster.members[0].home.glob("martlet/member/snap/*.snap")
        assert list(snapshots), "no log was cut"

"""Three Martlet members: calls through each, a leader killed, members that come and go."""

import statistics
import threading
import time

import grpc
import pytest
from cluster import Cluster, member_id, wait_until
from harness.protos import messages
from history import Caller, Recorder, check, events_of


@pytest.fixture(scope="module")
def cluster():
    with Cluster(["martlet"] * 3) as each:
        yield each.start()


def test_every_member_serves(cluster: Cluster) -> None:
    for member in cluster.members:
        member.put(f"k{member.number}", "v")
    for member in cluster.members:
        assert all(member.get(f"k{each.number}") == "v" for each in cluster.members)
    cluster.check_hashes()


def test_leases_through_every_member(cluster: Cluster) -> None:
    m = messages().rpc
    for grantor in cluster.members:
        lease = grantor.client.lease.LeaseGrant(m.LeaseGrantRequest(TTL=60)).ID
        grantor.client.kv.Put(m.PutRequest(key=b"leased", value=b"x", lease=lease))
        for member in cluster.members:
            answers = member.client.lease.LeaseKeepAlive(
                iter([m.LeaseKeepAliveRequest(ID=lease)]), timeout=10)
            assert next(answers).TTL == 60
            left = member.client.lease.LeaseTimeToLive(
                m.LeaseTimeToLiveRequest(ID=lease, keys=True), timeout=10)
            assert 50 <= left.TTL <= 60 and left.grantedTTL == 60 and left.keys == [b"leased"]
        grantor.client.lease.LeaseRevoke(m.LeaseRevokeRequest(ID=lease))
        for member in cluster.members:
            assert member.get("leased") is None
            gone = member.client.lease.LeaseTimeToLive(m.LeaseTimeToLiveRequest(ID=lease))
            assert gone.TTL == -1
            answers = member.client.lease.LeaseKeepAlive(
                iter([m.LeaseKeepAliveRequest(ID=lease)]), timeout=10)
            assert next(answers).TTL == 0


def test_leadership_moves(cluster: Cluster) -> None:
    for member in cluster.members:
        cluster.move_leader(member)
        for each in cluster.members:
            each.put("moved", member.name, timeout=2)
    follower = next(each for each in cluster.members if not each.leads())
    with pytest.raises(grpc.RpcError, match="not leader"):
        follower.client.maintenance.MoveLeader(
            messages().rpc.MoveLeaderRequest(targetID=follower.id))


def test_a_stopping_leader_hands_over(cluster: Cluster) -> None:
    """Nobody waits for an election timeout when a leader is told to stop."""
    leader = cluster.leader()
    others = [each for each in cluster.members if each is not leader]
    time.sleep(0.2)
    leader.stop()
    said = [each.status(timeout=10) for each in others]
    assert any(each.leader == each.header.member_id for each in said), "nobody leads yet"
    others[0].put("after", "1")
    leader.start()
    cluster.check_hashes()


def test_leader_killed(cluster: Cluster, capsys: pytest.CaptureFixture) -> None:
    """Nothing acknowledged is lost, and the first call through the new leader succeeds."""
    recorder = Recorder()
    stop = threading.Event()
    addresses = [member.address for member in cluster.members]
    callers = [Caller(n, addresses, recorder, 7, stop, pace=0.005) for n in range(4)]
    for caller in callers:
        caller.start()
    gaps = []
    for _ in range(5):
        leader = cluster.leader()
        term = leader.status().raftTerm
        others = [each for each in cluster.members if each is not leader]
        start = time.monotonic()
        leader.kill()
        wait_until(lambda: any(
            each.leads() and each.status().raftTerm > term for each in others), "a new leader")
        gaps.append(time.monotonic() - start)
        new = cluster.leader(others)
        new.put("first", "try", timeout=1)
        assert new.get("first", timeout=1) == "try"
        leader.start()
        time.sleep(0.3)
    stop.set()
    for caller in callers:
        caller.join()
        assert not caller.errors, caller.errors
    cluster.check_hashes()
    check(recorder, events_of(cluster.members[0].client))
    with capsys.disabled():
        print(f"\nwithout a leader after kill -9: median {statistics.median(gaps):.2f} s, worst "
              f"{max(gaps):.2f} s; {len(recorder.answered)} of {len(recorder.operations)} calls "
              "answered")


def test_members_join_and_leave(cluster: Cluster) -> None:
    m = messages().rpc
    learner = cluster.add("martlet", 4, learner=True)
    learner.wait_ready()
    assert learner.status().isLearner
    with pytest.raises(grpc.RpcError, match="not supported for learner"):
        learner.put("x", "y")
    id = member_id(cluster, learner)
    follower = next(each for each in cluster.members if not each.leads())
    cluster.change(lambda _: follower.client.cluster.MemberPromote(
        m.MemberPromoteRequest(ID=id), timeout=10))
    wait_until(lambda: not learner.status().isLearner, "promoted")
    learner.put("through", "4")
    with pytest.raises(grpc.RpcError, match="can only promote a learner"):
        follower.client.cluster.MemberPromote(m.MemberPromoteRequest(ID=id))
    cluster.check_hashes()
    cluster.remove(learner)
    wait_until(lambda: not learner.is_running, "a removed member ends")
    assert "permanently removed" in learner.log_text()
    learner.close()
    cluster.members[0].put("without", "4")


@pytest.mark.parametrize("kind", ["etcd", "martlet"])
def test_a_learner_that_has_never_started_is_not_promoted(kind: str) -> None:
    """From the moment on at which it was added, and on a log that is young."""
    m = messages().rpc
    with Cluster([kind]) as alone:
        calls = alone.start()[1].client.cluster
        add = m.MemberAddRequest(peerURLs=["http://127.0.0.1:1"], isLearner=True)
        promote = m.MemberPromoteRequest(ID=calls.MemberAdd(add, timeout=10).member.ID)
        end = time.monotonic() + 0.5  # some ticks
        while time.monotonic() < end:
            with pytest.raises(grpc.RpcError, match="in sync with leader"):
                calls.MemberPromote(promote, timeout=10)


def test_a_wiped_member_is_refused(cluster: Cluster) -> None:
    import shutil
    victim = next(each for each in cluster.members if not each.leads())
    victim.stop()
    shutil.rmtree(victim.data_dir)
    for state in ("new", "existing"):
        victim.state = state
        victim.initial = ",".join(f"{each.name}={each.peer_url}" for each in cluster.members)
        victim.spawn()
        wait_until(lambda: not victim.is_running, "refused")
        assert "has already been bootstrapped" in victim.log_text()
    kind, number = victim.kind, victim.number
    cluster.remove(victim)
    victim.close()
    new = cluster.add(kind, number)
    new.wait_ready()
    new.put("back", "again")
    cluster.check_hashes()


def test_force_new_cluster(cluster: Cluster) -> None:
    """Two of three are gone for good: the third goes on alone with all it had."""
    cluster.members[0].put("kept", "yes")
    cluster.settle()
    survivor = cluster.members[0]
    for member in cluster.members:
        member.kill()
    survivor.flags = ["--force-new-cluster"]
    survivor.start()
    assert survivor.get("kept") == "yes"
    survivor.put("alone", "yes")
    assert len(survivor.client.cluster.MemberList(messages().rpc.MemberListRequest()).members) == 1
    survivor.flags = []
    survivor.stop()
    survivor.start()
    assert survivor.get("alone") == "yes"

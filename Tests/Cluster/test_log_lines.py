"""What an operator can act on leaves a line in the log and moves a metric."""

import json
import re
import time
from pathlib import Path

import pytest

import preload
from cluster import Cluster, Member, wait_until

NEEDS_COMPILER = pytest.mark.skipif(not preload.compiler(), reason="needs a C compiler")
# Elections take long enough for a leader to be paused and stay one.
PATIENT = ["--election-timeout=5000"]


def preloaded(member: Member, words: list[str]) -> None:
    """Has a member's command begin with `words`."""
    arguments = member.arguments()
    member.arguments = lambda: words + arguments


def lines(member: Member, message: str) -> list[dict]:
    found = [json.loads(line) for line in member.log_text().splitlines() if line.startswith("{")]
    return [each for each in found if each["msg"].startswith(message)]


def metric(member: Member, name: str) -> float:
    """The sum of a metric's samples."""
    page = member.http("/metrics")[1]
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.M))


def test_a_late_heartbeat_a_lost_peer_and_an_election() -> None:
    with Cluster(["martlet"] * 3, flags=PATIENT) as cluster:
        cluster.start()
        leader = cluster.leader()
        late = "etcd_server_heartbeat_send_failures_total"
        before = metric(leader, late)
        leader.pause()
        time.sleep(0.5)
        leader.resume()
        text = "leader failed to send out heartbeat on time"
        wait_until(lambda: lines(leader, text), "a line on the late heartbeat")
        wait_until(lambda: metric(leader, late) > before, "a count")
        exceeded = lines(leader, text)[-1]["exceeded-duration"]
        assert float(exceeded.removesuffix("ms")) > 100

        follower = next(each for each in cluster.members if each is not leader)
        lost = f"{follower.id:x}"
        active, losses = "etcd_network_active_peers", "etcd_network_disconnected_peers_total"
        assert metric(leader, active) == 2 and metric(leader, losses) == 0
        follower.kill()
        wait_until(lambda: any(each["peer-id"] == lost for each in
                               lines(leader, "peer became inactive")), "a line on the lost peer")
        wait_until(lambda: metric(leader, active) == 1 and metric(leader, losses) == 1, "metrics")
        follower.start()
        wait_until(lambda: metric(leader, active) == 2, "the peer is back")

        other = next(each for each in cluster.members if each not in (leader, follower))
        own = f"{leader.id:x}"
        changes = metric(other, "etcd_server_leader_changes_seen_total")
        leader.kill()
        wait_until(lambda: any(each["leader"] == own for each in
                               lines(other, "raft: lost leader")), "a line on the lost leader")
        wait_until(lambda: any(each["leader"] != own for each in
                               lines(other, "raft: elected leader")), "a line on the election")
        wait_until(lambda: metric(other, "etcd_server_leader_changes_seen_total") > changes,
                   "a count")


def test_a_slow_apply() -> None:
    with Cluster(["martlet"], flags=["--experimental-warning-apply-duration=1us"]) as cluster:
        cluster.start()
        member = cluster[1]
        before = metric(member, "etcd_server_slow_apply_total")
        member.put("a", "b")
        text = "apply request took too long"
        wait_until(lambda: lines(member, text), "a line on the slow apply")
        assert lines(member, text)[-1]["expected-duration"] == "0.001ms"
        wait_until(lambda: metric(member, "etcd_server_slow_apply_total") > before, "a count")
    with Cluster(["martlet"]) as cluster:
        cluster.start()
        cluster[1].put("a", "b")
        assert not lines(cluster[1], "apply request took too long")


@NEEDS_COMPILER
def test_a_slow_sync(tmp_path: Path) -> None:
    mark = tmp_path / "slow"
    with Cluster(["martlet"]) as cluster:
        member = cluster[1]
        words = preload.prefix(preload.build(tmp_path), SLOW_MS="1100", SLOW_WHILE=str(mark))
        preloaded(member, words)
        cluster.start()
        assert not lines(member, "slow fdatasync")
        mark.touch()
        member.put("a", "b")
        mark.unlink()
        wait_until(lambda: lines(member, "slow fdatasync"), "a line on the slow sync")
        assert float(lines(member, "slow fdatasync")[0]["took"].removesuffix("ms")) > 1000


@NEEDS_COMPILER
def test_clocks_that_are_apart(tmp_path: Path) -> None:
    """Told once in half a minute, by each side."""
    with Cluster(["martlet"] * 2) as cluster:
        wrong = cluster[2]
        words = preload.prefix(preload.build(tmp_path), AHEAD_SECONDS="7")
        preloaded(wrong, words)
        cluster.start()
        text = "prober found high clock drift"
        wait_until(lambda: lines(cluster[1], text) and lines(wrong, text), "lines on the clocks")
        assert re.fullmatch(r"-(6\d{3}|7\d{3})ms", lines(cluster[1], text)[0]["clock-drift"])
        probes = "etcd_network_peer_round_trip_time_seconds_count"
        since = metric(cluster[1], probes)
        wait_until(lambda: metric(cluster[1], probes) > since, "another probe")
        assert len(lines(cluster[1], text)) == 1

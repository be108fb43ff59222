"""What vip-manager and Pigsty ask of their DCS."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import guide
import pytest
from harness import paths
from harness.protos import messages
from harness.server import clean_environment
from store import HEADINGS, Store, StoreMember
from vip import LeaderWatch, METADATA

LEADER = "/service/main/leader"


@pytest.fixture(params=["martlet", "etcd"])
def clear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with Store(request.param, "clear", tmp_path) as store:
        yield store.start()


@pytest.fixture(params=["martlet", "etcd"])
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with Store(request.param, "tls", tmp_path) as store:
        yield store.start()


def test_every_command_of_the_page_is_one_that_the_drill_runs() -> None:
    sections = guide.PAGE.read_text().split("\n## ")
    commands = {text.partition("\n")[0]: text.count("```sh") for text in sections}
    assert {name: count for name, count in commands.items() if count} == {
        HEADINGS["users"]: 1, "Look at it": 1, "Switch over": 1}


def test_a_watch_for_the_leader_ends_when_the_majority_is_lost(clear: Store) -> None:
    member, *others = clear.members
    member.put(LEADER, "pg1")
    watch = LeaderWatch(clear, LEADER)
    try:
        assert watch.seen == ["pg1"]
        others[0].put(LEADER, "pg2")
        watch.wait_for("pg2")
        for other in others:
            other.kill()
        watch.thread.join(15)
        assert not watch.thread.is_alive(), "the watch goes on without a leader"
        assert watch.error.code() == grpc.StatusCode.UNAVAILABLE
        assert watch.error.details() == "etcdserver: no leader"
        with pytest.raises(grpc.RpcError) as refused:
            member.client.kv.Range(messages().rpc.RangeRequest(key=LEADER.encode()), timeout=5,
                                   metadata=METADATA)
        assert refused.value.details() == "etcdserver: no leader"
    finally:
        watch.close()


def test_pigsty_looks_after_its_members(secured: Store) -> None:
    first = secured.members[0]
    user: dict[str, str] = {}

    def etcdctl(*arguments: str, endpoints: str = "") -> str:
        every = ",".join(each.endpoint for each in secured.members[:3])
        result = subprocess.run(
            [paths.ETCDCTL, *arguments], text=True, timeout=20, capture_output=True,
            cwd=secured.folder, env=clean_environment() | secured.environment() | user | {
                "ETCDCTL_ENDPOINTS": endpoints or every})
        assert result.returncode == 0, f"{arguments}: {result.stderr}"
        return result.stdout + result.stderr

    def patiently(reason: str, *arguments: str) -> str:
        """Again while it is refused for a reason that passes."""
        for _ in range(100):
            try:
                return etcdctl(*arguments)
            except AssertionError as failure:
                assert reason in str(failure)
        raise AssertionError(f"{arguments}: still {reason}")

    assert etcdctl("endpoint", "health").count("is healthy") == 3
    status = etcdctl("endpoint", "status", "-w", "table")
    assert len(re.findall(r"\|\s+true \|\s+false \|", status)) == 1, status
    assert etcdctl("member", "list", "-w", "table").count("started") == 3
    fourth = StoreMember(secured.kind, 4, secured.authority)
    added = patiently("unhealthy cluster", "member", "add", "m4", "--learner=true",
                      f"--peer-urls={fourth.peer_url}")
    printed = dict(re.findall(r'(ETCD_\w+)="(.*)"', added))
    fourth.initial = printed["ETCD_INITIAL_CLUSTER"]
    fourth.state = printed["ETCD_INITIAL_CLUSTER_STATE"]
    secured.members.append(fourth)
    # An ID with leading zeros is printed with spaces in their place.
    number = re.search(r"Member +(\w+) added", added)[1]
    fourth.spawn()
    patiently("can only promote a learner member which is in sync", "member", "promote", number)
    assert etcdctl("member", "list").count("started") == 4
    etcdctl("member", "remove", number)
    assert etcdctl("member", "list").count("started") == 3
    etcdctl("snapshot", "save", "backup.db", endpoints=first.endpoint)
    etcdctl("defrag")
    assert etcdctl("alarm", "disarm") == ""
    etcdctl("put", "/pg/x", "1")
    assert etcdctl("get", "/pg/", "--prefix") == "/pg/x\n1\n"
    assert etcdctl("del", "/pg/x") == "1\n"
    etcdctl("user", "add", "root", "--new-user-password=SECRET")
    etcdctl("auth", "enable")
    user["ETCDCTL_USER"] = "root:SECRET"
    for line in ("role add pg", "role grant-permission pg readwrite --prefix=true /pg/",
                 "user add dbuser:X", "user grant-role dbuser pg"):
        etcdctl(*line.split())
    assert "Authentication Status: true" in etcdctl("auth", "status")
    user["ETCDCTL_USER"] = "dbuser:X"
    assert etcdctl("put", "/pg/x", "2") == "OK\n"
    assert "etcd_server_has_leader 1" in first.http("/metrics")[1]
    bare = subprocess.run(["curl", "--silent", "--show-error", "--cacert", secured.authority.ca,
                           f"{first.endpoint}/metrics"], capture_output=True, timeout=10)
    assert bare.returncode != 0 and not bare.stdout

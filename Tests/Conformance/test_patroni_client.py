"""Patroni's own etcd3 client: what two nodes of a cluster do with their DCS, on etcd and here."""

import time
from collections.abc import Callable, Iterator

import pytest
from harness import paths
from harness.server import Server

patroni_dcs = pytest.importorskip("patroni.dcs")
etcd3 = pytest.importorskip("patroni.dcs.etcd3")

TTL_SECONDS = 20
CACHE_SECONDS_MAX = 5


def until(condition: Callable[[], object]) -> object:
    """The first true value of `condition`: the client's cache follows its watch."""
    deadline = time.monotonic() + CACHE_SECONDS_MAX
    while not (value := condition()):
        assert time.monotonic() < deadline, "the watch did not bring it"
        time.sleep(0.02)
    return value


def node(server: Server, name: str) -> "etcd3.Etcd3":
    return patroni_dcs.get_dcs({
        "etcd3": {"host": server.address}, "scope": "batman", "name": name, "ttl": TTL_SECONDS,
        "loop_wait": 1, "retry_timeout": 5})


@pytest.fixture(params=["ETCD", "MARTLET"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(getattr(paths, request.param)) as server:
        yield server.start()


def test_the_life_of_a_cluster(server: Server) -> None:
    first, second = node(server, "pg1"), node(server, "pg2")
    assert first.initialize(create_new=True, sysid="70001")
    assert not second.initialize(create_new=True, sysid="70002")
    assert first.set_config_value('{"ttl":20}')
    for each, name in [(first, "pg1"), (second, "pg2")]:
        assert each.touch_member({"conn_url": f"postgres://{name}", "state": "running"})
    assert first.attempt_to_acquire_leader()
    assert not second.attempt_to_acquire_leader()
    leader = until(lambda: second.get_cluster().leader)
    assert leader.name == "pg1" and leader.session
    assert {member.name for member in second.get_cluster().members} == {"pg1", "pg2"}
    assert second.get_cluster().initialize == "70001"
    assert first.update_leader(first.get_cluster(), 4711, {"slot": 17})
    until(lambda: second.get_cluster().status.last_lsn == 4711)
    version = first.set_sync_state_value('{"leader":"pg1","sync_standby":"pg2"}')
    assert version
    assert until(lambda: second.get_cluster().sync.leader == "pg1")
    assert not first.set_sync_state_value("{}", version="1")
    assert first.manual_failover("pg1", "pg2")
    assert until(lambda: second.get_cluster().failover).candidate == "pg2"
    assert first.delete_leader(first.get_cluster().leader)
    until(lambda: not second.get_cluster().leader)
    assert second.attempt_to_acquire_leader()
    assert until(lambda: first.get_cluster().leader).name == "pg2"
    assert first.set_history_value("[[1,2,\"3\"]]")
    assert until(lambda: second.get_cluster().history)
    assert first.delete_cluster()
    until(lambda: not second.get_cluster().members)


def test_a_lost_lease_is_taken_anew(server: Server) -> None:
    first = node(server, "pg1")
    client = first._client
    assert client.lease_keepalive(first._lease) == str(TTL_SECONDS)
    client.call_rpc("/lease/revoke", {"ID": first._lease})
    assert not client.lease_keepalive(first._lease)
    with pytest.raises(etcd3.LeaseNotFound):
        client.put("/service/batman/x", "y", first._lease)
    assert first.attempt_to_acquire_leader()
    assert until(lambda: first.get_cluster().leader).name == "pg1"


def test_errors_are_the_ones_it_knows(server: Server) -> None:
    first = node(server, "pg1")
    with pytest.raises(etcd3.AuthNotEnabled):
        first._client.call_rpc("/auth/authenticate", {"name": "a", "password": "b"})
    with pytest.raises(etcd3.InvalidArgument):
        first._client.call_rpc("/kv/range", {})


def test_a_server_that_restarts_is_found_again(server: Server) -> None:
    first = node(server, "pg1")
    assert first.attempt_to_acquire_leader()
    server.stop()
    server.start()
    assert until(lambda: first.get_cluster().leader).name == "pg1"
    assert first.update_leader(first.get_cluster(), 1)

"""/metrics beside etcd's: names, types, labels, buckets, and that the numbers move."""

import re
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
from cluster import Cluster, Member, wait_until
from harness import paths
from harness.protos import Client, messages
from harness.server import Server, free_ports
from rpc import Stream

FLAGS = ["--metrics", "extensive"]
SETTLE_SECONDS = 0.4
SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="([^"]*)"')

# What etcd 3.5 exports and this server does not, with the reason.
ABSENT = {
    r"go_.*|etcd_server_go_version": "the server is not written in Go",
    r"process_virtual_memory_max_bytes|promhttp_.*in_flight": "tells nothing",
    r"etcd_grpc_proxy_.*": "there is no grpc-proxy",
    r"etcd_debugging_disk_backend_commit_.*": "parts of a commit of bbolt, which LMDB has not",
    r"etcd_debugging_snap_save_marshalling_duration_seconds": "takes microseconds here",
    r"etcd_debugging_store_.*": "the v2 API is not built",
}

# What the dashboards in use read; each must be there after the workload, and those in MOVING
# must have grown by it.
DASHBOARDS = """
etcd_cluster_version etcd_server_version etcd_server_has_leader etcd_server_id
etcd_server_is_leader etcd_server_is_learner etcd_server_leader_changes_seen_total
etcd_server_proposals_applied_total etcd_server_proposals_committed_total
etcd_server_proposals_failed_total etcd_server_proposals_pending etcd_server_quota_backend_bytes
etcd_server_client_requests_total etcd_disk_wal_fsync_duration_seconds_bucket
etcd_disk_backend_commit_duration_seconds_bucket etcd_mvcc_db_total_size_in_bytes
etcd_mvcc_db_total_size_in_use_in_bytes etcd_mvcc_put_total etcd_mvcc_delete_total
etcd_mvcc_range_total etcd_mvcc_txn_total etcd_network_client_grpc_received_bytes_total
etcd_network_client_grpc_sent_bytes_total etcd_debugging_mvcc_compact_revision
etcd_debugging_mvcc_current_revision etcd_debugging_mvcc_db_compaction_last
etcd_debugging_mvcc_events_total etcd_debugging_mvcc_keys_total
etcd_debugging_mvcc_watcher_total etcd_debugging_mvcc_pending_events_total
etcd_debugging_mvcc_slow_watcher_total grpc_server_started_total grpc_server_handled_total
grpc_server_msg_received_total grpc_server_msg_sent_total grpc_server_handling_seconds_bucket
process_resident_memory_bytes process_cpu_seconds_total process_open_fds
process_start_time_seconds
""".split()

MOVING = """
etcd_server_proposals_applied_total etcd_server_proposals_committed_total
etcd_server_client_requests_total etcd_disk_wal_fsync_duration_seconds_count
etcd_disk_wal_write_bytes_total etcd_disk_wal_write_duration_seconds_count
etcd_disk_backend_commit_duration_seconds_count etcd_disk_backend_defrag_duration_seconds_count
etcd_mvcc_put_total etcd_mvcc_delete_total etcd_mvcc_range_total etcd_mvcc_txn_total
etcd_disk_backend_snapshot_duration_seconds_count etcd_mvcc_hash_duration_seconds_count etcd_mvcc_hash_rev_duration_seconds_count
etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total
etcd_debugging_mvcc_compact_revision etcd_debugging_mvcc_current_revision
etcd_debugging_mvcc_db_compaction_last etcd_debugging_mvcc_db_compaction_keys_total
etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count
etcd_debugging_mvcc_events_total etcd_debugging_mvcc_keys_total
etcd_debugging_mvcc_watcher_total etcd_debugging_mvcc_watch_stream_total
etcd_debugging_mvcc_total_put_size_in_bytes etcd_debugging_lease_granted_total
etcd_debugging_lease_revoked_total etcd_debugging_lease_renewed_total
etcd_debugging_lease_ttl_total_count etcd_debugging_server_lease_expired_total
etcd_server_apply_duration_seconds_count etcd_server_health_success grpc_server_started_total
grpc_server_handled_total grpc_server_msg_received_total grpc_server_msg_sent_total
grpc_server_handling_seconds_count process_cpu_seconds_total
""".split()


class Page:
    """One scrape: types by name, samples by name and labels."""

    def __init__(self, text: str):
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        self.samples: dict[str, dict[tuple, float]] = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, labels, value = SAMPLE.match(line).groups()
                key = tuple(sorted(LABEL.findall(labels or "")))
                assert key not in self.samples.get(name, {}), f"twice: {line}"
                self.samples.setdefault(name, {})[key] = float(value)

    def total(self, name: str) -> float:
        return sum(self.samples.get(name, {}).values())

    def labels(self, name: str) -> set[tuple]:
        """The label names that the samples of a family have."""
        names = [f"{name}_bucket"] if self.types[name] == "histogram" else [name]
        return {tuple(sorted(label for label, _ in key))
                for each in names for key in self.samples.get(each, {})}

    def bounds(self, name: str) -> set[str]:
        return {dict(key)["le"] for key in self.samples.get(f"{name}_bucket", {})}


def workload(server: Server) -> None:
    """A bit of everything that metrics count."""
    m, client = messages().rpc, Client(server.address)
    watch = Stream(client.watch.Watch, [m.WatchRequest(create_request=m.WatchCreateRequest(
        key=b"\0", range_end=b"\0"))])
    watch.settle()
    for number in range(20):
        client.kv.Put(m.PutRequest(key=b"k%d" % (number % 5), value=b"v" * 100))
    client.kv.Range(m.RangeRequest(key=b"k1"))
    client.kv.Txn(m.TxnRequest(success=[
        m.RequestOp(request_put=m.PutRequest(key=b"t")),
        m.RequestOp(request_range=m.RangeRequest(key=b"k1"))]))
    client.kv.DeleteRange(m.DeleteRangeRequest(key=b"k1"))
    with pytest.raises(grpc.RpcError):
        client.kv.Put(m.PutRequest())
    client.lease.LeaseGrant(m.LeaseGrantRequest(TTL=100, ID=5))
    Stream(client.lease.LeaseKeepAlive, [m.LeaseKeepAliveRequest(ID=5)]).settle()
    client.lease.LeaseRevoke(m.LeaseRevokeRequest(ID=5))
    client.lease.LeaseGrant(m.LeaseGrantRequest(TTL=1, ID=6))
    client.kv.Compact(m.CompactionRequest(revision=10, physical=True))
    client.maintenance.Defragment(m.DefragmentRequest())
    client.maintenance.Hash(m.HashRequest())
    client.maintenance.HashKV(m.HashKVRequest())
    list(client.maintenance.Snapshot(m.SnapshotRequest()))
    deadline = time.monotonic() + 15
    while client.lease.LeaseLeases(m.LeaseLeasesRequest()).leases:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    server.http("/health")
    time.sleep(SETTLE_SECONDS)


def scrapes(binary: str) -> tuple[Page, Page]:
    """The page before the workload and after it."""
    with Server(binary, FLAGS) as server:
        server.start()
        time.sleep(SETTLE_SECONDS)
        before = Page(server.http("/metrics")[1])
        workload(server)
        return before, Page(server.http("/metrics")[1])


@pytest.fixture(scope="module")
def pages() -> Iterator[tuple[Page, Page, Page]]:
    """etcd's page after the workload, and ours before and after."""
    with ThreadPoolExecutor(2) as pool:
        reference = pool.submit(scrapes, paths.ETCD)
        tested = pool.submit(scrapes, paths.MARTLET)
        yield reference.result()[1], *tested.result()


def test_what_etcd_exports_is_here(pages: tuple[Page, Page, Page]) -> None:
    etcd, _, ours = pages
    absent = {name for name in etcd.types if name not in ours.types}
    assert not {name for name in absent
                if not any(re.fullmatch(pattern, name) for pattern in ABSENT)}
    for name in etcd.types.keys() & ours.types.keys():
        assert ours.types[name] == etcd.types[name], name
        if etcd.labels(name) and not name.startswith("promhttp"):
            assert ours.labels(name) == etcd.labels(name), name
        assert ours.bounds(name) == etcd.bounds(name), name


@pytest.mark.parametrize("name", DASHBOARDS)
def test_what_dashboards_read_is_here(name: str, pages: tuple[Page, Page, Page]) -> None:
    assert name in pages[2].samples


@pytest.mark.parametrize("name", MOVING)
def test_it_moves(name: str, pages: tuple[Page, Page, Page]) -> None:
    _, before, after = pages
    assert after.total(name) > before.total(name)


def test_counts_are_etcds(pages: tuple[Page, Page, Page]) -> None:
    etcd, _, ours = pages
    for method, code in [("Put", "OK"), ("Put", "InvalidArgument"), ("Range", "OK"),
                         ("Txn", "OK"), ("LeaseGrant", "OK"), ("LeaseKeepAlive", "OK")]:
        def count(page: Page, method: str = method, code: str = code) -> float:
            return sum(value for key, value in page.samples["grpc_server_handled_total"].items()
                       if ("grpc_method", method) in key and ("grpc_code", code) in key)
        assert count(ours) == count(etcd), f"{method} {code}"
    for name in ("etcd_mvcc_put_total", "etcd_debugging_lease_granted_total",
                 "etcd_debugging_mvcc_events_total", "etcd_debugging_mvcc_watcher_total",
                 "etcd_debugging_mvcc_total_put_size_in_bytes",
                 "etcd_debugging_server_lease_expired_total", "etcd_mvcc_txn_total"):
        assert ours.total(name) == etcd.total(name), name


# The rest of what dashboards read moves only where members come and go.
PEERS = """
etcd_network_peer_sent_bytes_total etcd_network_peer_received_bytes_total
etcd_network_peer_round_trip_time_seconds_count etcd_network_peer_sent_failures_total
etcd_network_disconnected_peers_total etcd_mvcc_db_total_size_in_bytes
etcd_mvcc_db_total_size_in_use_in_bytes etcd_network_snapshot_send_success
etcd_network_snapshot_send_total_duration_seconds_count etcd_snap_fsync_duration_seconds_count
etcd_debugging_snap_save_total_duration_seconds_count
""".split()
RECEIVED = """
etcd_network_snapshot_receive_success etcd_network_snapshot_receive_total_duration_seconds_count
etcd_snap_db_fsync_duration_seconds_count etcd_snap_db_save_total_duration_seconds_count
""".split()
# Seen above zero at some time, and at zero in the end.
PASSING = """
etcd_network_snapshot_send_inflights_total etcd_network_snapshot_receive_inflights_total
etcd_server_proposals_pending
etcd_debugging_mvcc_slow_watcher_total etcd_debugging_mvcc_pending_events_total
""".split()


class Story:
    """Three members: one is killed, falls behind the log and takes a snapshot of a hundred
    megabytes; then two are killed and nothing can be written."""

    def __init__(self) -> None:
        self.peaks: Counter[str] = Counter()
        flags = ["--snapshot-count=10", "--experimental-snapshot-catchup-entries=5"]
        with Cluster(["martlet"] * 3, flags=flags) as self.cluster:
            # Scraped before they serve clients too.
            for member, port in zip(self.cluster.members, free_ports(3), strict=True):
                member.metrics_url = f"http://127.0.0.1:{port}/metrics"
                member.flags += ["--listen-metrics-urls", f"http://127.0.0.1:{port}"]
            self.cluster.start()
            self.leader = self.cluster.leader()
            self.follower = next(e for e in self.cluster.members if e is not self.leader)
            self.before = self.page(self.leader)
            self.fall_behind()
            self.watch_slowly()
            self.lose_the_quorum()

    def page(self, member: Member) -> Page:
        with urllib.request.urlopen(member.metrics_url, timeout=20) as answer:
            found = Page(answer.read().decode())
        for name in PASSING:
            self.peaks[name] = max(self.peaks[name], int(found.total(name)))
        return found

    def fall_behind(self) -> None:
        self.follower.kill()
        for number in range(100):
            self.leader.put(f"k{number}", "v" * 1_000_000)
        self.follower.spawn()

        def is_taken() -> bool:
            try:
                received = self.page(self.follower)
            except OSError:
                return False
            return (received.total(RECEIVED[0]) > 0
                    and received.total("etcd_server_snapshot_apply_in_progress_total") == 0)

        def is_sent() -> bool:
            return self.page(self.leader).total("etcd_network_snapshot_send_success") > 0

        with ThreadPoolExecutor(2) as pool:
            for seen in [pool.submit(wait_until, is_taken, "a snapshot arrives", 60),
                         pool.submit(wait_until, is_sent, "a snapshot is sent", 60)]:
                seen.result()
        self.follower.wait_ready()
        self.cluster.settle()
        self.after, self.received = self.page(self.leader), self.page(self.follower)

    def watch_slowly(self) -> None:
        """All history, for a client that does not read."""
        m, client = messages().rpc, Client(self.leader.address)
        watch = client.watch.Watch(iter([m.WatchRequest(create_request=m.WatchCreateRequest(
            key=b"\0", range_end=b"\0", start_revision=1))]))

        def is_behind() -> bool:
            found = self.page(self.leader)
            return all(found.total(name) > 0 for name in PASSING[-2:])

        wait_until(is_behind, "a watcher is behind")
        def are_open() -> bool:
            self.open = self.page(self.leader)
            return self.open.total("process_open_fds") > self.before.total("process_open_fds")

        # So many that what other connections come and go by does not matter.
        with ExitStack() as held:
            host, port = self.leader.address.rsplit(":", 1)
            for _ in range(50):
                held.enter_context(socket.create_connection((host, int(port)), 5))
            wait_until(are_open, "many connections")
        watch.cancel()
        client.close()
        wait_until(lambda: not is_behind(), "the watcher is gone")

    def lose_the_quorum(self) -> None:
        for member in self.cluster.members:
            if member is not self.leader:
                member.kill()
        wait_until(lambda: self.page(self.leader).total("etcd_server_has_leader") == 0, "no leader")
        with ThreadPoolExecutor(1) as pool:
            put = pool.submit(self.leader.put, "a", "b", 30)
            wait_until(lambda: self.page(self.leader).total("etcd_server_proposals_pending") > 0,
                       "a proposal waits")
            with pytest.raises(grpc.RpcError):
                put.result()
        wait_until(lambda: self.page(self.leader).total("etcd_server_proposals_pending") == 0,
                   "none waits")
        self.lost = self.page(self.leader)


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


def test_what_other_members_move(story: Story) -> None:
    for name in PEERS:
        assert story.after.total(name) > story.before.total(name), name
    for name in RECEIVED:
        assert story.received.total(name) > 0, name
    for name in PASSING:
        assert story.peaks[name] > 0 and story.lost.total(name) == 0, name


def test_what_leaders_move(story: Story) -> None:
    for name in ("etcd_server_is_leader", "etcd_server_has_leader"):
        assert (story.after.total(name), story.lost.total(name)) == (1, 0), name
    assert story.received.total("etcd_server_is_leader") == 0
    failed = "etcd_server_proposals_failed_total"
    assert story.lost.total(failed) > story.before.total(failed)
    for name in ("process_open_fds", "process_resident_memory_bytes"):
        assert story.open.total(name) > story.before.total(name), name


def test_a_learner_says_so() -> None:
    with Cluster(["martlet"]) as cluster:
        cluster.start()
        learner = cluster.add("martlet", 2, learner=True)
        learner.wait_ready()
        wait_until(lambda: "\netcd_server_is_learner 1\n" in learner.http("/metrics")[1],
                   "a learner")
        assert "\netcd_server_is_learner 0\n" in cluster[1].http("/metrics")[1]


def test_what_is_said_of_peers_is_etcds() -> None:
    found = []
    for kind in ("etcd", "martlet"):
        with Cluster([kind] * 3) as cluster:
            cluster.start()
            leader = cluster.leader()
            next(each for each in cluster.members if each is not leader).kill()
            for number in range(20):
                leader.put(f"k{number}", "v")
            count = "etcd_network_peer_round_trip_time_seconds_count"
            wait_until(lambda: Page(leader.http("/metrics")[1]).total(count) > 0, "a round trip")
            found.append(Page(leader.http("/metrics")[1]))
    etcd, ours = found
    peers = {name for name in etcd.types if name.startswith("etcd_network_")}
    assert len(peers) >= 8
    for name in sorted(peers):
        assert ours.types.get(name) == etcd.types[name], name
        if etcd.labels(name):
            assert ours.labels(name) == etcd.labels(name), name
        if etcd.types[name] == "histogram":
            assert ours.bounds(name) == etcd.bounds(name), name

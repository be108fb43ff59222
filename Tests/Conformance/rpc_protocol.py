"""Raw cases below and beside the API: framing, statuses, limits, health, maintenance, HTTP."""

import re
import subprocess
import time

import grpc
from harness.protos import Client
from harness.server import clean_environment
from rpc import CALL_SECONDS_MAX, Stream, Transcript, case, frame, until

# What dashboards read; the types count too. Go's own (go_*) have no meaning elsewhere.
METRICS = """
etcd_cluster_version etcd_server_version etcd_server_has_leader etcd_server_id
etcd_server_is_leader etcd_server_is_learner etcd_server_leader_changes_seen_total
etcd_server_proposals_applied_total etcd_server_proposals_committed_total
etcd_server_proposals_failed_total etcd_server_proposals_pending etcd_server_quota_backend_bytes
etcd_disk_wal_fsync_duration_seconds etcd_disk_backend_commit_duration_seconds
etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes etcd_mvcc_put_total
etcd_mvcc_delete_total etcd_mvcc_range_total etcd_mvcc_txn_total
etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total
etcd_debugging_mvcc_compact_revision etcd_debugging_mvcc_current_revision
etcd_debugging_mvcc_events_total etcd_debugging_mvcc_keys_total
etcd_debugging_mvcc_watcher_total etcd_debugging_mvcc_pending_events_total
etcd_debugging_mvcc_slow_watcher_total grpc_server_started_total grpc_server_handled_total
grpc_server_msg_received_total grpc_server_msg_sent_total process_resident_memory_bytes
process_cpu_seconds_total process_open_fds process_start_time_seconds
""".split()


@case()
def malformed_messages(t: Transcript) -> None:
    for label, data in {"bytes": b"\xff" * 7, "cut": b"\x0a\x05ab", "group": b"\x0b\x0c",
                        "field zero": b"\x02\x00", "long varint": b"\x18" + b"\xff" * 11,
                        "wrong type": b"\x08\x01", "not utf-8 is fine": b"\x0a\x02\xff\xfe"}.items():
        for method in ("Range", "Put"):
            t.raw(f"{label} {method}", f"/etcdserverpb.KV/{method}", data, details=False)
    t.raw("unknown fields", "/etcdserverpb.KV/Range", b"\x0a\x01a\xf8\x7f\x01\xc2\x3e\x02hi")
    t.raw("field twice", "/etcdserverpb.KV/Range", b"\x0a\x01a\x0a\x01b")
    t.raw("empty", "/etcdserverpb.KV/Range", b"")


@case()
def unknown_methods(t: Transcript) -> None:
    for path in ("/etcdserverpb.KV/Nothing", "/nothing.Service/Put", "/etcdserverpb.KV/",
                 "/etcdserverpb.KV", "/"):
        t.raw(path, path, b"")


@case()
def oversize(t: Transcript) -> None:
    m = t.m.rpc
    for size in (1_000_000, 1_572_000, 1_572_900, 2_000_000, 2_100_000, 5_000_000):
        t.call(f"{size}", t.client.kv.Put, m.PutRequest(key=b"k", value=b"v" * size))
    answer = t.client.kv.Range(m.RangeRequest(key=b"k"))
    t.note("stored", str(len(answer.kvs[0].value)))


@case()
def compressed_requests(t: Transcript) -> None:
    m = t.m.rpc
    t.call("put", t.client.kv.Put, m.PutRequest(key=b"k", value=b"v" * 5000),
           compression=grpc.Compression.Gzip)
    t.call("range", t.client.kv.Range, m.RangeRequest(key=b"k"),
           compression=grpc.Compression.Gzip)
    t.call("deflate", t.client.kv.Range, m.RangeRequest(key=b"k"), details=False,
           compression=grpc.Compression.Deflate)


@case()
def deadlines_and_cancellation(t: Transcript) -> None:
    m = t.m.rpc
    t.client.lease.LeaseGrant(m.LeaseGrantRequest(ID=1, TTL=100))
    t.client.lease.LeaseGrant(m.LeaseGrantRequest(ID=2, TTL=100))
    t.client.lock.Lock(t.m.lock.LockRequest(name=b"l", lease=1))
    start = time.monotonic()
    t.call("deadline", t.client.lock.Lock, t.m.lock.LockRequest(name=b"l", lease=2),
           details=False, timeout=0.5)
    t.note("in time", str(0.4 < time.monotonic() - start < CALL_SECONDS_MAX))
    waiters = m.RangeRequest(key=b"l", range_end=b"m", count_only=True)
    until(lambda: t.client.kv.Range(waiters).count == 1)
    call = t.client.lock.Lock.future(t.m.lock.LockRequest(name=b"l", lease=2))
    until(lambda: t.client.kv.Range(waiters).count == 2)
    t.note("cancelled", str(call.cancel()))
    until(lambda: t.client.kv.Range(waiters).count == 1)
    t.call("no waiter left", t.client.kv.Range, waiters)
    watch = t.stream(t.client.watch.Watch, [m.WatchRequest(
        create_request=m.WatchCreateRequest(key=b"w"))])
    watch.settle()
    watch.call.cancel()
    watch.thread.join(5)
    t.note("stream", watch.status.split(" ")[0])
    t.call("still answers", t.client.kv.Range, m.RangeRequest(key=b"l"))


@case()
def authorities_and_metadata(t: Transcript) -> None:
    m = t.m.rpc
    for authority in ("example.com:99", "a_b", "localhost"):
        with Client(t.server.address, **{"grpc.default_authority": authority}) as client:
            t.call(f"authority {authority}", client.kv.Range, m.RangeRequest(key=b"k"))
    for metadata in [("hasleader", "true")], [("token", "nonsense")], [("x-bin", b"\0\xff")]:
        t.call(f"{metadata}", t.client.kv.Range, m.RangeRequest(key=b"k"), metadata=metadata)
    for authority in ("#initially=[127.0.0.1:2379]", "etcd-endpoints://0xc0/127.0.0.1:2379"):
        t.note(authority, _nghttp(t, "/etcdserverpb.KV/Range", frame(b"\x0a\x01k"), authority))


def _nghttp(t: Transcript, path: str, data: bytes, authority: str,
            content_type: str = "application/grpc") -> str:
    """The :status and gRPC status of a request made by nghttp."""
    body = t.server.home / "body"
    body.write_bytes(data)
    run = subprocess.run(
        ["nghttp", "--verbose", "--no-dep", "--timeout=5", f"--data={body}",
         f"--header=:authority: {authority}", f"--header=content-type: {content_type}",
         "--header=te: trailers", t.server.endpoint + path],
        capture_output=True, text=True, errors="replace", timeout=20,
        env=clean_environment())
    plain = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout)
    found = re.findall(r"recv \(stream_id=\d+\) (:status|grpc-status): (\S+)", plain)
    return str(sorted(set(found)))


@case()
def odd_requests(t: Transcript) -> None:
    put = frame(b"\x0a\x01k\x12\x01v")
    for label, data, kind in [
        ("plain", put, "application/grpc"), ("proto", put, "application/grpc+proto"),
        ("no message", b"", "application/grpc"), ("cut", put[:-1], "application/grpc"),
        ("two messages", put * 2, "application/grpc"),
        ("compressed without saying", frame(b"\x0a\x01k", True), "application/grpc"),
        ("bad flag", b"\x02" + put[1:], "application/grpc"),
    ]:
        t.note(label, _nghttp(t, "/etcdserverpb.KV/Put", data, t.server.address, kind))


@case()
def many_streams_at_once(t: Transcript) -> None:
    m = t.m.rpc
    calls = [t.client.kv.Put.future(m.PutRequest(key=f"k{n}".encode(), value=b"v"))
             for n in range(2000)]
    t.note("revisions", sorted(call.result().header.revision for call in calls))
    watches = [t.stream(t.client.watch.Watch, [m.WatchRequest(
        create_request=m.WatchCreateRequest(key=b"k", range_end=b"l"))]) for _ in range(50)]
    until(lambda: all(len(each.received) == 1 for each in watches))
    t.put(b"k0", b"new")
    until(lambda: all(len(each.received) == 2 for each in watches))
    t.note("each sees it", [len(each.received) for each in watches])


@case()
def health_service(t: Transcript) -> None:
    m, health = t.m.health, t.client.health
    for service in ("", "etcdserverpb.KV", "nothing"):
        t.call(f"check {service}", health.Check, m.HealthCheckRequest(service=service))


@case()
def cluster_and_maintenance(t: Transcript) -> None:
    m, cluster, maintenance = t.m.rpc, t.client.cluster, t.client.maintenance
    for linearizable in (False, True):
        t.call("members", cluster.MemberList, m.MemberListRequest(linearizable=linearizable))
    t.call("remove unknown", cluster.MemberRemove, m.MemberRemoveRequest(ID=5))
    t.call("update unknown", cluster.MemberUpdate,
           m.MemberUpdateRequest(ID=5, peerURLs=["http://127.0.0.1:1"]))
    t.call("promote unknown", cluster.MemberPromote, m.MemberPromoteRequest(ID=5))
    t.call("add nothing", cluster.MemberAdd, m.MemberAddRequest())
    status = maintenance.Status(m.StatusRequest())
    t.note("leader", str(status.leader == status.header.member_id))
    t.note("term", [status.raftTerm, status.header.raft_term, status.isLearner,
                    list(status.errors), status.dbSize >= status.dbSizeInUse > 0])
    t.call("move leader", maintenance.MoveLeader, m.MoveLeaderRequest(targetID=5))
    t.call("move to itself", maintenance.MoveLeader, m.MoveLeaderRequest(targetID=status.leader))
    t.call("defragment", maintenance.Defragment, m.DefragmentRequest())
    for action, version in [(0, "3.4.0"), (0, "3.5.0"), (0, "3.3.0"), (0, "x"), (0, ""),
                            (2, "3.4.0"), (9, "3.4.0")]:
        t.call(f"downgrade {action} {version}", maintenance.Downgrade,
               m.DowngradeRequest(action=action, version=version))


@case()
def alarms(t: Transcript) -> None:
    m, maintenance = t.m.rpc, t.client.maintenance
    member = maintenance.Status(m.StatusRequest()).header.member_id
    for kind in (1, 2):
        for action in (0, 1, 1, 0):
            t.call(f"alarm {kind} {action}", maintenance.Alarm,
                   m.AlarmRequest(action=action, alarm=kind, memberID=member))
        t.call("put", t.client.kv.Put, m.PutRequest(key=b"k"))
        t.call("range", t.client.kv.Range, m.RangeRequest(key=b"k"))
        t.call("delete", t.client.kv.DeleteRange, m.DeleteRangeRequest(key=b"k"))
        t.call("txn", t.client.kv.Txn, m.TxnRequest(success=[
            m.RequestOp(request_put=m.PutRequest(key=b"k"))]))
        t.call("grant", t.client.lease.LeaseGrant, m.LeaseGrantRequest(ID=kind * 10, TTL=100))
        status, body = t.server.http("/health")
        t.note("health", f"{status} {body}")
        t.call("off", maintenance.Alarm,
               m.AlarmRequest(action=2, alarm=kind, memberID=member))
        t.call("off again", maintenance.Alarm,
               m.AlarmRequest(action=2, alarm=kind, memberID=member))
    t.call("of another", maintenance.Alarm, m.AlarmRequest(action=1, alarm=1, memberID=5))
    t.call("all", maintenance.Alarm, m.AlarmRequest(action=0))


@case()
def auth_while_off(t: Transcript) -> None:
    m, auth = t.m.rpc, t.client.auth
    t.call("status", auth.AuthStatus, m.AuthStatusRequest())
    t.call("authenticate", auth.Authenticate, m.AuthenticateRequest(name="a", password="b"))
    t.call("enable", auth.AuthEnable, m.AuthEnableRequest())
    t.call("users", auth.UserList, m.AuthUserListRequest())
    t.call("roles", auth.RoleList, m.AuthRoleListRequest())


@case()
def http_paths(t: Transcript) -> None:
    for path in ("/version", "/health", "/health?serializable=true", "/health?exclude=NOSPACE",
                 "/nothing"):
        status, body = t.server.http(path)
        t.note(path, f"{status} {body.strip()}")


@case()
def metrics(t: Transcript) -> None:
    t.put(b"k")
    _, body = t.server.http("/metrics")
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", body, re.MULTILINE))
    for name in METRICS:
        t.note(name, types.get(name, "missing"))


@case()
def half_closed_streams(t: Transcript) -> None:
    t.note("watch", Stream(t.client.watch.Watch, []).finish())
    t.note("keep-alive", Stream(t.client.lease.LeaseKeepAlive, []).finish())

"""Raw watch, lease, lock and election cases."""

import time

from rpc import Transcript, case, until


def _watch(t: Transcript, *creates: dict):
    return t.stream(t.client.watch.Watch, [_create(t, **fields) for fields in creates])


def _create(t: Transcript, **fields: object) -> object:
    return t.m.rpc.WatchRequest(create_request=t.m.rpc.WatchCreateRequest(**fields))


def _note_watch(t: Transcript, stream, label: str) -> None:
    """Per watch ID: the order between two watchers of a stream is not defined."""
    for each in sorted(stream.settle(), key=lambda response: response.watch_id):
        t.note(label, each)
    stream.received.clear()


@case()
def watch_ids(t: Transcript) -> None:
    stream = _watch(t, {"key": b"a"}, {"key": b"b"}, {"key": b"c", "watch_id": 7},
                    {"key": b"d", "watch_id": 7}, {"key": b"e"}, {"key": b"f", "watch_id": 2},
                    {"key": b"g", "watch_id": -1})
    for each in stream.settle(at_least=7):
        t.note("created", each)
    stream.received.clear()
    for key in b"abcdefg":
        t.put(bytes([key]), b"x")
    _note_watch(t, stream, "events")
    cancel = t.m.rpc.WatchCancelRequest
    for number in (7, 7, 99, 0):
        stream.send(t.m.rpc.WatchRequest(cancel_request=cancel(watch_id=number)))
    _note_watch(t, stream, "cancel")
    t.put(b"c", b"after")
    _note_watch(t, stream, "after")
    t.note("end", stream.finish())


@case()
def watch_ranges_and_filters(t: Transcript) -> None:
    stream = _watch(t, {"key": b"k1"}, {"key": b"k", "range_end": b"l"},
                    {"key": b"\0", "range_end": b"\0"}, {"key": b"k2", "range_end": b"\0"},
                    {"key": b"k", "range_end": b"l", "filters": [0]},
                    {"key": b"k", "range_end": b"l", "filters": [1]},
                    {"key": b"k", "range_end": b"l", "filters": [0, 1]},
                    {"key": b"k", "range_end": b"l", "prev_kv": True},
                    {"key": b"l", "range_end": b"k"}, {"key": b"", "range_end": b"z"},
                    {"key": b""})
    _note_watch(t, stream, "created")
    for n in (1, 2, 1):
        t.put(f"k{n}".encode(), f"v{n}".encode())
    _note_watch(t, stream, "puts")
    t.client.kv.DeleteRange(t.m.rpc.DeleteRangeRequest(key=b"k", range_end=b"l"))
    _note_watch(t, stream, "deletes")


@case()
def watch_from_the_past(t: Transcript) -> None:
    for n in range(10):
        t.put(f"k{n % 3}".encode(), f"v{n}".encode())
    t.client.kv.DeleteRange(t.m.rpc.DeleteRangeRequest(key=b"k0"))
    everything = {"key": b"k", "range_end": b"l"}
    for revision in (1, 2, 5, 11, 12, 13, 14, 50, -1):
        stream = _watch(t, everything | {"start_revision": revision, "prev_kv": True})
        _note_watch(t, stream, f"from {revision}")
        stream.cancel()
    t.client.kv.Compact(t.m.rpc.CompactionRequest(revision=8, physical=True))
    for revision in (1, 7, 8, 9):
        stream = _watch(t, everything | {"start_revision": revision})
        _note_watch(t, stream, f"compacted, from {revision}")
        stream.cancel()
    stream = _watch(t, everything | {"start_revision": 9, "prev_kv": True})
    _note_watch(t, stream, "previous values")
    stream = _watch(t, everything | {"start_revision": 20})
    stream.settle()
    for n in range(10):
        t.put(b"k9", str(n).encode())
    _note_watch(t, stream, "from the future")


@case()
def watch_transactions(t: Transcript) -> None:
    m = t.m.rpc
    stream = _watch(t, {"key": b"\0", "range_end": b"\0", "prev_kv": True})
    puts = [m.RequestOp(request_put=m.PutRequest(key=f"t{n}".encode(), value=b"v"))
            for n in range(5)]
    delete = m.RequestOp(request_delete_range=m.DeleteRangeRequest(key=b"t", range_end=b"u"))
    stream.settle()
    t.client.kv.Txn(m.TxnRequest(success=puts))
    t.client.kv.Txn(m.TxnRequest(success=puts[:2]))
    t.client.kv.Txn(m.TxnRequest(success=[delete]))
    t.client.kv.Txn(m.TxnRequest())
    for response in stream.settle():
        for event in response.events:
            t.note("event", event)


@case()
def watch_progress(t: Transcript) -> None:
    m = t.m.rpc
    t.put(b"a", b"1")
    progress = m.WatchRequest(progress_request=m.WatchProgressRequest())
    stream = _watch(t, {"key": b"a"})
    stream.settle()
    stream.send(progress)
    _note_watch(t, stream, "progress")
    t.put(b"other", b"1")
    stream.send(progress)
    _note_watch(t, stream, "progress later")


@case("--experimental-watch-progress-notify-interval=1s")
def watch_progress_notify(t: Transcript) -> None:
    t.put(b"a", b"1")
    stream = _watch(t, {"key": b"a", "progress_notify": True}, {"key": b"a"})
    time.sleep(2.5)
    seen = {(each.watch_id, each.created, len(each.events), each.header.revision)
            for each in stream.received}
    t.note("kinds of responses", sorted(map(list, seen)))


@case()
def watch_fragments(t: Transcript) -> None:
    m = t.m.rpc
    revision = t.put(b"start")
    for _ in range(3):
        ops = [m.RequestOp(request_put=m.PutRequest(key=f"big{n}".encode(), value=b"v" * 90_000))
               for n in range(15)]
        t.client.kv.Txn(m.TxnRequest(success=ops))
    for fragment in (False, True):
        stream = _watch(t, {"key": b"big", "range_end": b"bih", "start_revision": revision + 1,
                            "fragment": fragment})
        stream.settle()
        t.note(f"events, fragment {fragment}", [
            [event.kv.key.decode(), event.kv.mod_revision]
            for each in stream.received for event in each.events])
        if fragment:
            t.note("ends with a whole", str(stream.received[-1].fragment))
            t.note("some are fragments", str(any(each.fragment for each in stream.received)))
        stream.cancel()


@case()
def watch_many_on_one_stream(t: Transcript) -> None:
    stream = _watch(t, *({"key": f"k{n}".encode()} for n in range(500)))
    t.note("created", sorted(each.watch_id for each in stream.settle(500) if each.created))
    stream.received.clear()
    for n in range(500):
        t.put(f"k{n}".encode(), b"v")
    t.note("events", sorted([each.watch_id, event.kv.mod_revision]
                            for each in stream.settle(500) for event in each.events))


@case()
def watch_bad_requests(t: Transcript) -> None:
    stream = t.stream(t.client.watch.Watch, [t.m.rpc.WatchRequest()])
    stream.settle()
    t.note("after an empty request", stream.finish())
    raw = t.client.channel.stream_stream("/etcdserverpb.Watch/Watch")
    stream = t.stream(raw, [b"\xff\xff\xff"])
    stream.settle()
    t.note("malformed", stream.status.split(" ")[0])


@case()
def leases(t: Transcript) -> None:
    m, lease = t.m.rpc, t.client.lease
    t.call("chosen", lease.LeaseGrant, m.LeaseGrantRequest(ID=10, TTL=100))
    t.call("again", lease.LeaseGrant, m.LeaseGrantRequest(ID=10, TTL=100))
    for ttl in (0, -1, 1, 9_000_000_000, 9_000_000_001):
        t.call(f"ttl {ttl}", lease.LeaseGrant, m.LeaseGrantRequest(ID=100 + ttl % 97, TTL=ttl))
    t.call("negative id", lease.LeaseGrant, m.LeaseGrantRequest(ID=-5, TTL=100))
    t.put(b"b", b"1", lease=10)
    t.put(b"a", b"1", lease=10)
    for number in (10, 11, 0):
        answer = t.client.lease.LeaseTimeToLive
        try:
            found = answer(m.LeaseTimeToLiveRequest(ID=number, keys=True))
            t.note(f"ttl of {number}", [found.ID, found.grantedTTL, found.TTL > 0,
                                        sorted(key.decode() for key in found.keys)])
        except Exception as error:  # noqa: BLE001 - the status is what is compared
            t.note(f"ttl of {number}", str(error.code()))
    answer = lease.LeaseLeases(m.LeaseLeasesRequest())
    t.note("leases", sorted(each.ID for each in answer.leases))
    t.call("revoke", lease.LeaseRevoke, m.LeaseRevokeRequest(ID=10))
    t.call("revoke again", lease.LeaseRevoke, m.LeaseRevokeRequest(ID=10))
    t.call("keys", t.client.kv.Range, m.RangeRequest(key=b"\0", range_end=b"\0"))
    t.call("move to another", lease.LeaseGrant, m.LeaseGrantRequest(ID=20, TTL=100))
    t.call("move to another", lease.LeaseGrant, m.LeaseGrantRequest(ID=21, TTL=100))
    t.put(b"m", b"1", lease=20)
    t.put(b"m", b"1", lease=21)
    t.call("revoke the first", lease.LeaseRevoke, m.LeaseRevokeRequest(ID=20))
    t.call("still there", t.client.kv.Range, m.RangeRequest(key=b"m"))
    t.call("hash", t.client.maintenance.HashKV, m.HashKVRequest())


@case()
def lease_keep_alives(t: Transcript) -> None:
    m = t.m.rpc
    t.client.lease.LeaseGrant(m.LeaseGrantRequest(ID=10, TTL=50))
    stream = t.stream(t.client.lease.LeaseKeepAlive)
    stream.send(*(m.LeaseKeepAliveRequest(ID=number) for number in (10, 11, 10, 0, -1)))
    for each in stream.settle():
        t.note("alive", each)
    t.note("end", stream.finish())


@case()
def lease_expiry_is_one_revision(t: Transcript) -> None:
    m, lease = t.m.rpc, t.client.lease
    stream = _watch(t, {"key": b"\0", "range_end": b"\0"})
    stream.settle()
    lease.LeaseGrant(m.LeaseGrantRequest(ID=10, TTL=1))
    for key in (b"c", b"a", b"b"):
        t.put(key, b"1", lease=10)
    until(lambda: not lease.LeaseLeases(m.LeaseLeasesRequest()).leases)
    events = sorted([event.kv.mod_revision, event.kv.key.decode(), event.type]
                    for each in stream.settle() for event in each.events)
    t.note("events", events)
    t.call("revision", t.client.kv.Range, m.RangeRequest(key=b"a"))


@case()
def locks(t: Transcript) -> None:
    m, lock = t.m.lock, t.client.lock
    for number in (10, 11):
        t.client.lease.LeaseGrant(t.m.rpc.LeaseGrantRequest(ID=number, TTL=100))
    held = t.call("lock", lock.Lock, m.LockRequest(name=b"n", lease=10))
    t.call("same lease", lock.Lock, m.LockRequest(name=b"n", lease=10))
    waiting = lock.Lock.future(m.LockRequest(name=b"n", lease=11), timeout=10)
    time.sleep(0.5)
    t.note("waits", str(not waiting.done()))
    t.call("unlock", lock.Unlock, m.UnlockRequest(key=held.key))
    t.note("got it", waiting.result())
    t.call("times out", lock.Lock, m.LockRequest(name=b"n", lease=10), details=False, timeout=0.5)
    # The waiter's key goes after the answer.
    waiters = t.m.rpc.RangeRequest(key=b"n/", range_end=b"n0")
    until(lambda: t.client.kv.Range(waiters).count == 1)
    t.call("unlock unknown", lock.Unlock, m.UnlockRequest(key=b"nothing"))
    t.call("unlock empty", lock.Unlock, m.UnlockRequest())
    t.call("no such lease", lock.Lock, m.LockRequest(name=b"z", lease=99))
    t.call("keys", t.client.kv.Range, t.m.rpc.RangeRequest(key=b"\0", range_end=b"\0"))


@case()
def elections(t: Transcript) -> None:
    m, election = t.m.election, t.client.election
    for number in (10, 11):
        t.client.lease.LeaseGrant(t.m.rpc.LeaseGrantRequest(ID=number, TTL=100))
    t.call("nobody", election.Leader, m.LeaderRequest(name=b"e"))
    won = t.call("campaign", election.Campaign,
                 m.CampaignRequest(name=b"e", lease=10, value=b"one"))
    t.call("leader", election.Leader, m.LeaderRequest(name=b"e"))
    observed = election.Observe(m.LeaderRequest(name=b"e"), timeout=15)
    t.note("observed", next(observed))
    t.call("proclaim", election.Proclaim, m.ProclaimRequest(leader=won.leader, value=b"two"))
    t.note("observed", next(observed))
    other = election.Campaign.future(
        m.CampaignRequest(name=b"e", lease=11, value=b"three"), timeout=10)
    time.sleep(0.5)
    t.note("waits", str(not other.done()))
    t.call("resign", election.Resign, m.ResignRequest(leader=won.leader))
    t.note("won", other.result())
    t.note("observed", next(observed))
    observed.cancel()
    t.call("proclaim late", election.Proclaim, m.ProclaimRequest(leader=won.leader, value=b"x"))
    t.call("no leader key", election.Resign, m.ResignRequest())
    t.call("no lease", election.Campaign, m.CampaignRequest(name=b"e2", lease=99, value=b"x"))
    t.call("keys", t.client.kv.Range, t.m.rpc.RangeRequest(key=b"\0", range_end=b"\0"))

"""Raw KV cases: Range, Put, DeleteRange, Txn, Compact with every option."""

from itertools import product

from rpc import Transcript, case


def _fill(t: Transcript) -> None:
    """20 revisions over keys with different versions, values and deletions."""
    for n in range(8):
        t.put(f"k{n}".encode(), f"v{7 - n}".encode())
    for n in (3, 1, 3):
        t.put(f"k{n}".encode(), b"again")
    t.client.kv.DeleteRange(t.m.rpc.DeleteRangeRequest(key=b"k5"))
    t.put(b"k5", b"reborn")
    t.put(b"\xff\xfe", b"\x00\x01\xff")
    t.put(b"other")


RANGES = [(b"k1", b""), (b"k1", b"k6"), (b"k", b"l"), (b"\0", b"\0"), (b"k3", b"\0"),
          (b"k6", b"k1"), (b"k1", b"k1"), (b"zz", b""), (b"", b""), (b"", b"l"), (b"\0", b"k2")]


@case()
def range_ends_limits_and_revisions(t: Transcript) -> None:
    _fill(t)
    for (key, end), limit, revision in product(RANGES, [0, 1, 3, 100], [0, 1, 5, 13, 99, -1]):
        request = t.m.rpc.RangeRequest(key=key, range_end=end, limit=limit, revision=revision)
        t.call(f"{key!r} {end!r} limit {limit} rev {revision}", t.client.kv.Range, request)


@case()
def range_flags(t: Transcript) -> None:
    _fill(t)
    for flags in product([False, True], repeat=3):
        options = dict(zip(["keys_only", "count_only", "serializable"], flags))
        for key, end in RANGES[:4]:
            for limit in (0, 2):
                request = t.m.rpc.RangeRequest(key=key, range_end=end, limit=limit, **options)
                t.call(f"{options} {key!r} {end!r} {limit}", t.client.kv.Range, request)


@case()
def range_sorted(t: Transcript) -> None:
    m = t.m.rpc
    _fill(t)
    for target, order, limit, keys_only in product(
            range(5), range(3), [0, 3], [False, True]):
        request = m.RangeRequest(
            key=b"\0", range_end=b"\0", sort_target=target, sort_order=order, limit=limit,
            keys_only=keys_only)
        label = f"sort {target} {order} {limit} {keys_only}"
        if target in (m.RangeRequest.VERSION, m.RangeRequest.VALUE):
            # Equal ones come in any order, so only what is sorted by is compared.
            kvs = t.client.kv.Range(request).kvs
            t.note(label, [[each.version, each.value.hex()][target == m.RangeRequest.VALUE]
                           for each in kvs])
        else:
            t.call(label, t.client.kv.Range, request)


@case()
def range_revision_bounds(t: Transcript) -> None:
    _fill(t)
    for name, bound, limit in product(
            ["min_mod_revision", "max_mod_revision", "min_create_revision",
             "max_create_revision"], [0, 3, 9, 12, 50], [0, 2]):
        request = t.m.rpc.RangeRequest(key=b"\0", range_end=b"\0", limit=limit, **{name: bound})
        t.call(f"{name} {bound} {limit}", t.client.kv.Range, request)
    t.call("all", t.client.kv.Range, t.m.rpc.RangeRequest(
        key=b"\0", range_end=b"\0", min_mod_revision=3, max_mod_revision=13,
        min_create_revision=2, max_create_revision=8, sort_target=3, sort_order=2))


@case()
def put_options(t: Transcript) -> None:
    m, kv = t.m.rpc, t.client.kv
    t.call("grant", t.client.lease.LeaseGrant, m.LeaseGrantRequest(ID=77, TTL=1000))
    for label, options in {
        "plain": {"value": b"1"}, "prev": {"value": b"2", "prev_kv": True},
        "lease": {"value": b"3", "lease": 77, "prev_kv": True},
        "ignore value": {"ignore_value": True, "prev_kv": True},
        "ignore lease": {"value": b"4", "ignore_lease": True, "prev_kv": True},
        "both": {"ignore_value": True, "ignore_lease": True},
        "value and ignore": {"value": b"5", "ignore_value": True},
        "lease and ignore": {"lease": 77, "ignore_lease": True},
        "no lease": {"value": b"6", "lease": 99}, "negative lease": {"lease": -1},
        "again without": {"value": b"7", "prev_kv": True},
    }.items():
        t.call(label, kv.Put, m.PutRequest(key=b"k", **options))
        t.call(f"after {label}", kv.Range, m.RangeRequest(key=b"k"))
    t.call("empty key", kv.Put, m.PutRequest(value=b"1"))
    t.call("new, ignore value", kv.Put, m.PutRequest(key=b"n", ignore_value=True))
    t.call("new, ignore lease", kv.Put, m.PutRequest(key=b"n", ignore_lease=True))
    t.call("new, prev", kv.Put, m.PutRequest(key=b"n", prev_kv=True))
    t.call("binary", kv.Put, m.PutRequest(key=bytes(range(256)), value=bytes(range(256))))
    t.call("lease keys", t.client.lease.LeaseTimeToLive,
           m.LeaseTimeToLiveRequest(ID=99, keys=True))


@case()
def delete_options(t: Transcript) -> None:
    m, kv = t.m.rpc, t.client.kv
    _fill(t)
    for key, end, prev in [(b"k1", b"", True), (b"k1", b"", True), (b"k2", b"k4", False),
                           (b"k9", b"k0", True), (b"", b"", False), (b"k4", b"k6", True),
                           (b"", b"a", False), (b"\0", b"\0", True), (b"\0", b"\0", False)]:
        t.call(f"{key!r} {end!r}", kv.DeleteRange,
               m.DeleteRangeRequest(key=key, range_end=end, prev_kv=prev))
    t.call("left", kv.Range, m.RangeRequest(key=b"\0", range_end=b"\0"))


@case()
def txn_compares(t: Transcript) -> None:
    m, kv = t.m.rpc, t.client.kv
    _fill(t)
    t.client.lease.LeaseGrant(m.LeaseGrantRequest(ID=5, TTL=1000))
    t.put(b"leased", b"l", lease=5)
    targets = {"version": [0, 1, 3], "create_revision": [0, 5, 14], "mod_revision": [0, 5, 12],
               "value": [b"", b"again", b"v6", b"zz"], "lease": [0, 5]}
    for number, (name, values) in enumerate(targets.items()):
        for value, result, (key, end) in product(
                values, range(4), [(b"k3", b""), (b"no", b""), (b"k1", b"k4"), (b"no", b"nz"),
                                   (b"leased", b"")]):
            compare = m.Compare(result=result, target=number, key=key, range_end=end,
                                **{name: value})
            answer = kv.Txn(m.TxnRequest(compare=[compare]))
            t.note(f"{name} {value} {result} {key!r} {end!r}",
                   f"{answer.succeeded} {answer.header.revision}")
    t.call("no target value", kv.Txn, m.TxnRequest(compare=[m.Compare(key=b"k3", target=3)]))
    t.call("empty key", kv.Txn, m.TxnRequest(compare=[m.Compare(target=0)]))
    t.call("two", kv.Txn, m.TxnRequest(compare=[
        m.Compare(key=b"k3", target=0, version=3), m.Compare(key=b"k3", target=0, version=4)]))


def _op(t: Transcript, kind: str, **options: object) -> object:
    m = t.m.rpc
    kinds = {"put": m.PutRequest, "range": m.RangeRequest, "delete_range": m.DeleteRangeRequest,
             "txn": m.TxnRequest}
    return m.RequestOp(**{f"request_{kind}": kinds[kind](**options)})


@case()
def txn_operations(t: Transcript) -> None:
    m, kv = t.m.rpc, t.client.kv
    _fill(t)
    put, get = (lambda key, **o: _op(t, "put", key=key, **o)), (
        lambda key, **o: _op(t, "range", key=key, **o))
    delete, nest = (lambda key, **o: _op(t, "delete_range", key=key, **o)), (
        lambda **o: _op(t, "txn", **o))
    true, false = m.Compare(key=b"k3", target=0, version=3), m.Compare(
        key=b"k3", target=0, version=9)
    transactions = {
        "empty": {}, "no branch": {"compare": [false], "success": [put(b"x")]},
        "else": {"compare": [false], "failure": [put(b"x", value=b"1"), get(b"x")]},
        "sees own": {"success": [put(b"y", value=b"1"), get(b"y"), delete(b"y"), get(b"y")]},
        "get only": {"success": [get(b"k0", range_end=b"k9", limit=2), get(b"k1")]},
        "old": {"success": [get(b"k3", revision=5)]},
        "future": {"success": [put(b"f"), get(b"k3", revision=500)]},
        "delete then put": {"success": [delete(b"k0"), put(b"k0")]},
        "range delete and put": {"success": [delete(b"k0", range_end=b"k3"), put(b"k1")]},
        "range delete beside": {"success": [delete(b"k0", range_end=b"k1", prev_kv=True),
                                            put(b"k1", value=b"n", prev_kv=True)]},
        "twice": {"success": [put(b"d"), put(b"d")]},
        "twice in branches": {"success": [put(b"d")], "failure": [put(b"d")]},
        "delete twice": {"success": [delete(b"k6"), delete(b"k6")]},
        "nested": {"success": [nest(compare=[true], success=[put(b"n1"), get(b"n1")],
                                    failure=[put(b"n2")]), put(b"n3")]},
        "nested else": {"success": [nest(compare=[false], success=[put(b"n1")],
                                         failure=[put(b"n2"), nest(success=[get(b"n2")])])]},
        "nested twice": {"success": [nest(success=[put(b"q")]), put(b"q")]},
        "nested in both": {"success": [nest(success=[put(b"q")], failure=[put(b"q")])]},
        "nested two": {"success": [nest(success=[put(b"q")]), nest(failure=[put(b"q")])]},
        "nested delete": {"success": [nest(success=[delete(b"q", range_end=b"r")]), put(b"q")]},
        "nested compare sees": {"success": [
            put(b"s", value=b"1"),
            nest(compare=[m.Compare(key=b"s", target=3, value=b"1")], success=[get(b"s")])]},
        "ignore value": {"success": [put(b"k4", ignore_value=True, prev_kv=True)]},
        "ignore value, none": {"success": [put(b"a1"), put(b"none", ignore_value=True)]},
        "value and ignore": {"success": [put(b"k4", value=b"1", ignore_value=True)]},
        "no lease": {"success": [put(b"k4", value=b"1", lease=404)]},
        "empty key": {"success": [put(b"")]}, "empty get": {"success": [get(b"")]},
        "empty delete": {"success": [delete(b"")]}, "empty op": {"success": [m.RequestOp()]},
        "bad in else": {"compare": [true], "success": [get(b"k1")], "failure": [put(b"")]},
        "many": {"success": [put(f"m{n}".encode()) for n in range(128)]},
        "too many": {"success": [put(f"m{n}".encode()) for n in range(129)]},
        "too many compares": {"compare": [true] * 129},
        "nested too many": {"success": [nest(success=[get(b"k1")] * 129)]},
        "sorted": {"success": [get(b"k", range_end=b"l", sort_order=2, sort_target=4)]},
        "counted": {"success": [get(b"k", range_end=b"l", count_only=True)]},
    }
    for label, fields in transactions.items():
        t.call(label, kv.Txn, m.TxnRequest(**fields))
    t.call("everything", kv.Range, m.RangeRequest(key=b"\0", range_end=b"\0"))
    t.call("hash", t.client.maintenance.HashKV, m.HashKVRequest())


@case()
def compaction_and_hashes(t: Transcript) -> None:
    m, kv = t.m.rpc, t.client.kv
    t.client.lease.LeaseGrant(m.LeaseGrantRequest(ID=5, TTL=1000))
    t.put(b"leased", b"l", lease=5)
    _fill(t)
    for revision in range(-1, 20):
        t.call(f"hash {revision}", t.client.maintenance.HashKV, m.HashKVRequest(revision=revision))
    for revision in (0, -5, 6, 6, 3, 14, 99):
        t.call(f"compact {revision}", kv.Compact,
               m.CompactionRequest(revision=revision, physical=True))
        for at in (5, 6, 7, 13, 14, 15, 0):
            t.call(f"read {at}", kv.Range, m.RangeRequest(key=b"k3", revision=at))
            t.call(f"hash {at}", t.client.maintenance.HashKV, m.HashKVRequest(revision=at))
    t.client.kv.DeleteRange(m.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
    t.call("hash", t.client.maintenance.HashKV, m.HashKVRequest())
    t.call("compact all", kv.Compact, m.CompactionRequest(revision=17, physical=True))
    t.call("hash", t.client.maintenance.HashKV, m.HashKVRequest())

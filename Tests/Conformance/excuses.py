"""Answers to random calls that may differ from etcd 3.5.1's, and why."""

from collections.abc import Callable
from dataclasses import dataclass

from programs import Call

REFUSALS = ("user name is empty", "permission denied", "invalid auth token")


@dataclass
class Excuse:
    """`applies` gets the call, etcd's answer and that of the server under test."""

    reason: str
    applies: Callable[[Call, str, str], bool]
    # The states may differ from here on.
    ends: bool = False


def _is_refused(text: str) -> bool:
    return any(refusal in text for refusal in REFUSALS)


def _has_empty_range(request: object) -> bool:
    if isinstance(request, dict):
        end = request.get("range_end", b"")
        return (end not in (b"", b"\0") and end <= request.get("key", b"")) or any(
            _has_empty_range(each) for each in request.values())
    return isinstance(request, list) and any(_has_empty_range(each) for each in request)


EXCUSES = [
    Excuse("etcd panics when a put is to keep what its transaction deletes before",
           lambda call, first, second: call.method == "kv.Txn" and "UNAVAILABLE" in first
           and "key not found" in second, ends=True),
    Excuse("whether a range that holds nothing is permitted hangs on the shape of etcd's tree",
           lambda call, first, second: _has_empty_range(call.request)
           and _is_refused(first) != _is_refused(second), ends=True),
    Excuse("since 3.5.7 a HashKV of the compacted revision itself is answered",
           lambda call, first, _: call.method == "maintenance.HashKV" and "compacted" in first),
    Excuse("etcd 3.5.1 tells its leases, alarms, status and members to everybody (CVE-2026-33413)",
           lambda call, first, second: call.method in (
               "lease.LeaseLeases", "lease.LeaseTimeToLive", "cluster.MemberList",
               "maintenance.Alarm", "maintenance.Status", "maintenance.MoveLeader")
           and not _is_refused(first) and _is_refused(second)),
    Excuse("etcd 3.5.1 lets those watch all keys from one on who may read that one",
           lambda call, _, second: call.method == "create watch" and "True" in second
           and call.request["create"].get("range_end") == b"\0", ends=True),
    Excuse("etcd 3.5.1 lets everybody grant, prolong and revoke leases, and compact",
           lambda call, first, second: (
               call.method.startswith("lease.") or call.method == "kv.Compact")
           and not _is_refused(first) and _is_refused(second), ends=True),
    Excuse("etcd 3.5.1 does not look at nested transactions, the keys of leases and the reading of "
           "previous values when a transaction is checked",
           lambda call, first, second: call.method == "kv.Txn" and not _is_refused(first)
           and _is_refused(second) and any(
               word in repr(call.request) for word in ("request_txn", "'lease'", "prev_kv")),
           ends=True),
]


def find(call: Call, first: list[str], second: list[str]) -> Excuse | None:
    texts = "\n".join(first), "\n".join(second)
    return next((each for each in EXCUSES if each.applies(call, *texts)), None)

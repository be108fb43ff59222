"""What of an answer has to be equal: all but IDs, times, sizes and what has no order."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from google.protobuf import text_format
from google.protobuf.message import Message
from harness.server import Server

# Greater ones were made by the server.
LEASE_MAX = 2**62


@dataclass
class Answer:
    """A response or an error, and what was asked."""

    request: Message
    response: Message | None = None
    error: str = ""


def normalise(answer: Answer, server: Server) -> list[str]:
    """Lines that are equal for equal behaviour."""
    if answer.response is None:
        return [answer.error]
    response = type(answer.response)()
    response.CopyFrom(answer.response)
    for name in ("cluster_id", "member_id", "raft_term"):
        response.header.ClearField(name)
    if rule := RULES.get(type(response).__name__):
        rule(answer.request, response)
    lines = text_format.MessageToString(response).rstrip().split("\n")
    return [line.replace(server.address, "<client>") for line in lines]


def _range(request: Message, response: Message) -> None:
    """What is equal in what a range is sorted by comes in any order, and at the limit any of it."""
    if request.sort_target == 0:
        return
    names = {1: "version", 2: "create_revision", 3: "mod_revision", 4: "value"}
    name = names.get(request.sort_target)
    if request.keys_only and name == "value":
        name = None

    def rank(pair: Message) -> object:
        return getattr(pair, name) if name else None

    groups = [list(group) for _, group in groupby(response.kvs, rank)]
    del response.kvs[:]
    for at, group in enumerate(groups):
        if response.more and at == len(groups) - 1:
            for pair in group:
                bare = response.kvs.add(key=b"<any>")
                if name:
                    setattr(bare, name, rank(pair))
        else:
            response.kvs.extend(sorted(group, key=lambda pair: pair.key))


def _txn(request: Message, response: Message) -> None:
    operations = request.success if response.succeeded else request.failure
    for operation, result in zip(operations, response.responses):
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            _range(operation.request_range, result.response_range)
        if kind == "request_txn":
            _txn(operation.request_txn, result.response_txn)


def _time_to_live(_: Message, response: Message) -> None:
    response.TTL = min(response.TTL, 1)
    response.keys.sort()


def _leases(_: Message, response: Message) -> None:
    response.leases.sort(key=lambda lease: lease.ID)


def _status(_: Message, response: Message) -> None:
    for name in ("version", "dbSize", "dbSizeInUse", "raftIndex", "raftAppliedIndex", "raftTerm"):
        response.ClearField(name)


def _alarms(_: Message, response: Message) -> None:
    response.alarms.sort(key=lambda alarm: (alarm.memberID, alarm.alarm))


def _token(_: Message, response: Message) -> None:
    response.token = "<token>" if response.token else ""


RULES: dict[str, Callable[[Message, Message], None]] = {
    "RangeResponse": _range, "TxnResponse": _txn, "LeaseTimeToLiveResponse": _time_to_live,
    "LeaseLeasesResponse": _leases, "StatusResponse": _status, "AuthenticateResponse": _token,
    "AlarmResponse": _alarms,
}

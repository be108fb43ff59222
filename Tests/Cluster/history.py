"""What clients saw, held against one order of everything: etcd's revisions.

Each answer names the revision that it stands for. If the writes in the order of their revisions,
with each read at the revision it names, form a legal history in which nothing that began later
stands earlier, then the history is linearizable: the order is its own witness.
"""

import queue
import random
import threading
import time
from dataclasses import dataclass

import grpc
from harness.protos import Client, messages

CALL_SECONDS_MAX = 4


@dataclass
class Operation:
    """One call; without an answer its effect is open."""

    kind: str  # put, delete, get, swap
    key: bytes
    value: bytes
    start: float
    end: float = 0
    revision: int = 0  # of the write, or of the state that was read
    result: bytes | None = None
    succeeded: bool = True
    answered: bool = False


class Recorder:
    """All operations of all clients."""

    def __init__(self):
        self.operations: list[Operation] = []
        self.lock = threading.Lock()
        self.held = threading.Event()  # while set, nobody begins a call

    def add(self, operation: Operation) -> None:
        with self.lock:
            self.operations.append(operation)

    @property
    def answered(self) -> list[Operation]:
        return [each for each in self.operations if each.answered]


class Caller(threading.Thread):
    """A client that calls one member after another until it is told to stop."""

    def __init__(self, number: int, addresses: list[str], recorder: Recorder, seed: int,
                 stop: threading.Event, keys: int = 5, pace: float = 0.0):
        super().__init__(daemon=True)
        self.random = random.Random(seed * 1000 + number)
        self.number = number
        self.addresses = addresses
        self.recorder = recorder
        self.stopping = stop
        self.keys = keys
        self.pace = pace
        self.count = 0
        self.errors: list[str] = []

    def run(self) -> None:
        place = self.number
        while not self.stopping.is_set():
            with Client(self.addresses[place % len(self.addresses)]) as client:
                for _ in range(50):
                    while self.recorder.held.is_set() and not self.stopping.is_set():
                        time.sleep(0.01)
                    if self.stopping.is_set():
                        return
                    if not self.call(client):
                        break
                    if self.pace:
                        time.sleep(self.pace)
            place += 1

    def call(self, client: Client) -> bool:
        self.count += 1
        key = f"r{self.random.randrange(self.keys)}".encode()
        value = f"{self.number}-{self.count}".encode()
        kind = self.random.choice(["put", "put", "get", "get", "swap", "delete"])
        operation = Operation(kind, key, value, time.monotonic())
        try:
            getattr(self, kind)(client, operation)
            operation.answered = True
        except grpc.RpcError as error:
            known = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED,
                     grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED,
                     grpc.StatusCode.UNKNOWN)
            if error.code() not in known:
                self.errors.append(f"{kind}: {error.code()} {error.details()}")
        operation.end = time.monotonic()
        self.recorder.add(operation)
        return operation.answered

    def put(self, client: Client, operation: Operation) -> None:
        m = messages().rpc
        answer = client.kv.Put(
            m.PutRequest(key=operation.key, value=operation.value), timeout=CALL_SECONDS_MAX)
        operation.revision = answer.header.revision

    def delete(self, client: Client, operation: Operation) -> None:
        m = messages().rpc
        answer = client.kv.DeleteRange(
            m.DeleteRangeRequest(key=operation.key), timeout=CALL_SECONDS_MAX)
        operation.revision = answer.header.revision
        operation.succeeded = answer.deleted == 1

    def get(self, client: Client, operation: Operation) -> None:
        m = messages().rpc
        answer = client.kv.Range(m.RangeRequest(key=operation.key), timeout=CALL_SECONDS_MAX)
        operation.revision = answer.header.revision
        operation.result = answer.kvs[0].value if answer.kvs else None

    def swap(self, client: Client, operation: Operation) -> None:
        """Replaces the value that it has just read, if that is still there."""
        m = messages().rpc
        found = client.kv.Range(m.RangeRequest(key=operation.key), timeout=CALL_SECONDS_MAX)
        revision = found.kvs[0].mod_revision if found.kvs else 0
        operation.start = time.monotonic()
        answer = client.kv.Txn(m.TxnRequest(
            compare=[m.Compare(key=operation.key, target=m.Compare.MOD, mod_revision=revision)],
            success=[m.RequestOp(request_put=m.PutRequest(
                key=operation.key, value=operation.value))],
            failure=[m.RequestOp(request_range=m.RangeRequest(key=operation.key))]),
            timeout=CALL_SECONDS_MAX)
        operation.revision = answer.header.revision
        operation.succeeded = answer.succeeded
        if not answer.succeeded:
            found = answer.responses[0].response_range
            operation.result = found.kvs[0].value if found.kvs else None


END = b"r-end"


def events_of(client: Client) -> list[tuple[int, bytes, bytes | None]]:
    """Every change that the store has had of the clients' keys, from its own history."""
    m = messages().rpc
    last = client.kv.Put(m.PutRequest(key=END, value=b""), timeout=CALL_SECONDS_MAX)
    requests: queue.SimpleQueue = queue.SimpleQueue()
    requests.put(m.WatchRequest(create_request=m.WatchCreateRequest(
        key=b"r", range_end=b"s", start_revision=1)))
    call = client.watch.Watch(iter(requests.get, None), timeout=60)
    events: list[tuple[int, bytes, bytes | None]] = []
    for response in call:
        assert not response.canceled, response.cancel_reason
        events += [(each.kv.mod_revision, each.kv.key, None if each.type else each.kv.value)
                   for each in response.events]
        if events and events[-1][0] >= last.header.revision:
            break
    requests.put(None)
    call.cancel()
    return [event for event in events if event[1] != END]


def check(recorder: Recorder, events: list[tuple[int, bytes, bytes | None]]) -> None:
    """Holds the answers against the events. Raises on the first that does not fit."""
    by_revision = {revision: (key, value) for revision, key, value in events}
    assert len(by_revision) == len(events), "two changes have one revision"
    assert [event[0] for event in events] == sorted(by_revision), "events out of order"
    states: dict[bytes, list[tuple[int, bytes | None]]] = {}
    for revision, key, value in events:
        states.setdefault(key, []).append((revision, value))
    for operation in recorder.answered:
        check_effect(operation, by_revision, states)
    check_order(recorder.answered)
    sent = {each.value for each in recorder.operations}
    strange = [value for _, _, value in events if value is not None and value not in sent]
    assert not strange, f"values that nobody sent: {strange[:3]}"
    values = [value for _, _, value in events if value is not None]
    assert len(set(values)) == len(values), "a write took effect twice"


def state_at(states: dict, key: bytes, revision: int) -> bytes | None:
    """The value of a key at a revision."""
    value = None
    for at, each in states.get(key, []):
        if at > revision:
            break
        value = each
    return value


def check_effect(operation: Operation, by_revision: dict, states: dict) -> None:
    changes = operation.kind in ("put", "swap") and operation.succeeded
    if changes:
        found = by_revision.get(operation.revision)
        assert found == (operation.key, operation.value), (
            f"acknowledged and lost: {operation}, at its revision is {found}")
    elif operation.kind == "delete" and operation.succeeded:
        assert by_revision.get(operation.revision) == (operation.key, None), (
            f"acknowledged and lost: {operation}")
    elif operation.kind == "delete":
        assert state_at(states, operation.key, operation.revision) is None, (
            f"a delete missed: {operation}")
    else:
        seen = state_at(states, operation.key, operation.revision)
        assert operation.result == seen, f"read {operation.result!r}, was {seen!r}: {operation}"


def check_order(operations: list[Operation]) -> None:
    """Nothing stands before what had ended when it began."""
    starts = sorted(operations, key=lambda each: each.start)
    ends = sorted(operations, key=lambda each: each.end)
    newest = 0
    place = 0
    for operation in starts:
        while place < len(ends) and ends[place].end < operation.start:
            newest = max(newest, ends[place].revision)
            place += 1
        writes = operation.kind in ("put", "swap", "delete") and operation.succeeded
        assert operation.revision > newest or not writes and operation.revision == newest, (
            f"a stale answer: {operation}; {newest} had been answered before it began")

"""Clients that write until the server dies, and a watcher that must not miss anything."""

import queue
import random
import threading
import time
from collections import deque

import grpc
from harness.protos import Client, messages

KEYS_PER_WRITER = 60
IN_FLIGHT_MAX = 8
CALL_SECONDS_MAX = 5


class Writer:
    """Puts and deletes its own keys with several calls in flight, one per key at a time.

    `acknowledged` is what the server promised: (key, value or None for a delete, revision).
    `pending` are the operations whose outcome the last crash left open.
    """

    def __init__(self, number: int, seed: int, lease: int):
        self.random = random.Random(seed)
        self.prefix = f"w{number}/"
        self.lease = lease
        self.sequence = 0
        self.acknowledged: list[tuple[bytes, bytes | None, int]] = []
        self.state: dict[bytes, tuple[bytes, int]] = {}
        self.pending: dict[bytes, bytes | None] = {}
        self.errors: list[str] = []

    def run(self, address: str, stop: threading.Event) -> None:
        """Writes until `stop` is set or the connection breaks."""
        self.pending = {}
        flying: deque = deque()
        with Client(address) as client:
            while not stop.is_set():
                if len(flying) < IN_FLIGHT_MAX:
                    flying.append(self._issue(client))
                elif not self._settle(*flying.popleft()):
                    break
            for each in flying:
                self._settle(*each)

    def _issue(self, client: Client) -> tuple:
        m = messages().rpc
        free = [n for n in range(KEYS_PER_WRITER) if self._key(n) not in self.pending]
        key = self._key(self.random.choice(free))
        self.sequence += 1
        if self.random.random() < 0.1:
            self.pending[key] = None
            call = client.kv.DeleteRange.future(
                m.DeleteRangeRequest(key=key), timeout=CALL_SECONDS_MAX)
            return key, None, call
        value = f"{self.sequence}:".encode() + self.random.randbytes(self.random.choice([8, 200]))
        self.pending[key] = value
        lease = self.lease if key.endswith(b"leased") else 0
        call = client.kv.Put.future(
            m.PutRequest(key=key, value=value, lease=lease), timeout=CALL_SECONDS_MAX)
        return key, value, call

    def _key(self, number: int) -> bytes:
        return f"{self.prefix}{number}{'leased' if number % 10 == 0 else ''}".encode()

    def _settle(self, key: bytes, value: bytes | None, call: grpc.Future) -> bool:
        """Takes in the answer; false when there was none."""
        try:
            answer = call.result()
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED,
                                    grpc.StatusCode.DEADLINE_EXCEEDED):
                self.errors.append(f"{key!r}: {error.code()} {error.details()}")
            return False
        del self.pending[key]
        revision = answer.header.revision
        if value is not None:
            self.acknowledged.append((key, value, revision))
            self.state[key] = (value, revision)
        elif answer.deleted:
            self.acknowledged.append((key, None, revision))
            self.state.pop(key, None)
        elif key in self.state:
            self.errors.append(f"{key!r} was acknowledged and a delete did not find it")
        return True


class Watcher:
    """Follows every key, over restarts from the last revision seen."""

    def __init__(self):
        self.events: list[tuple[int, bytes, bytes | None]] = []
        self.last = 0
        self.errors: list[str] = []
        self.thread: threading.Thread | None = None

    def start(self, address: str) -> None:
        self.thread = threading.Thread(target=self._follow, args=(address,), daemon=True)
        self.thread.start()

    def join(self) -> None:
        self.thread.join(CALL_SECONDS_MAX * 2)

    def wait_for(self, revision: int) -> bool:
        """Whether events up to `revision` arrive in time."""
        deadline = time.monotonic() + CALL_SECONDS_MAX
        while self.last < revision and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.last >= revision

    def _follow(self, address: str) -> None:
        m = messages().rpc
        requests: queue.SimpleQueue = queue.SimpleQueue()
        requests.put(m.WatchRequest(create_request=m.WatchCreateRequest(
            key=b"\0", range_end=b"\0", start_revision=self.last + 1)))
        with Client(address) as client:
            try:
                for response in client.watch.Watch(iter(requests.get, None)):
                    self._take(response)
            except grpc.RpcError:
                pass  # the crash
            finally:
                requests.put(None)

    def _take(self, response) -> None:
        if response.canceled:
            self.errors.append(f"canceled: {response.cancel_reason} {response.compact_revision}")
        start = self.last
        for event in response.events:
            revision = event.kv.mod_revision
            if revision <= start or revision < self.last:
                self.errors.append(f"event of revision {revision} after {self.last}")
            self.events.append((revision, event.kv.key, None if event.type else event.kv.value))
            self.last = max(self.last, revision)

"""What raw RPC cases are made of: a recorder of answers, and the list of cases."""

import gzip
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable

import grpc
from google.protobuf import text_format
from harness.protos import Client, messages
from harness.server import Server
from normal import normalise

CALL_SECONDS_MAX = 10
STREAM_SECONDS_MAX = 30
IDLE_SECONDS = 0.3
ARRIVAL_SECONDS_MAX = 2
HALF_CLOSED_SECONDS = 2
Case = Callable[["Transcript"], None]
CASES: dict[str, tuple[Case, list[str]]] = {}


def case(*flags: str) -> Callable[[Case], Case]:
    """Registers a case; `flags` go to the server."""
    def register(function: Case) -> Case:
        CASES[function.__name__] = (function, list(flags))
        return function
    return register


class Transcript:
    """Makes calls on one server and writes down what came back, a line each."""

    def __init__(self, server: Server):
        self.server = server
        self.client = Client(server.address)
        self.m = messages()
        self.lines: list[str] = []

    def note(self, label: str, what: object) -> None:
        text = what if isinstance(what, str) else show(what)
        exact = {self.server.address: "<client>", str(self.server.home): "<home>",
                 f"127.0.0.1:{self.server.peer_port}": "<peer>"}
        self.lines += [f"{label}: {line}"
                       for line in normalise(text, exact, []).split("\n")]

    def call(self, label: str, method: Callable, request: object, details: bool = True,
             **options: object) -> object | None:
        """Notes the answer, or the status (with its text unless `details` is off)."""
        options.setdefault("timeout", CALL_SECONDS_MAX)
        try:
            answer = method(request, **options)
        except grpc.RpcError as error:
            text = f" {error.details()}" if details else ""
            self.note(label, f"{error.code().name}{text}")
            return None
        self.note(label, answer)
        return answer

    def raw(self, label: str, path: str, data: bytes, details: bool = True,
            **options: object) -> None:
        """A unary call with `data` as its message; notes the bytes of the answer."""
        method = self.client.channel.unary_unary(path)
        self.call(label, lambda request, **rest: repr(method(request, **rest)), data, details,
                  **options)

    def put(self, key: bytes, value: bytes = b"", **options: object) -> int:
        """A put that is not noted; gives its revision."""
        request = self.m.rpc.PutRequest(key=key, value=value, **options)
        return self.client.kv.Put(request, timeout=CALL_SECONDS_MAX).header.revision

    def stream(self, method: Callable, requests: Iterable[object] = ()) -> "Stream":
        return Stream(method, requests)


def until(condition: Callable[[], bool]) -> None:
    """Returns when it is so, or when that has taken too long: the answers will tell."""
    deadline = time.monotonic() + CALL_SECONDS_MAX
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


class Stream:
    """A bidirectional call: sends when told, collects what arrives."""

    def __init__(self, method: Callable, requests: Iterable[object], **options: object):
        self.requests: queue.SimpleQueue = queue.SimpleQueue()
        self.received: list = []
        self.status = ""
        for request in requests:
            self.requests.put(request)
        options.setdefault("timeout", STREAM_SECONDS_MAX)
        self.call = method(iter(self.requests.get, None), **options)
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self) -> None:
        try:
            for response in self.call:
                self.received.append(response)
            self.status = "OK"
        except grpc.RpcError as error:
            self.status = f"{error.code().name} {error.details()}"

    def send(self, *requests: object) -> None:
        for request in requests:
            self.requests.put(request)

    def settle(self, at_least: int = 1) -> list:
        """What has arrived, once nothing more comes for a while; waits for `at_least` first."""
        deadline = time.monotonic() + ARRIVAL_SECONDS_MAX
        while len(self.received) < at_least and time.monotonic() < deadline:
            time.sleep(0.01)
        count = -1
        while count != len(self.received):
            count = len(self.received)
            time.sleep(IDLE_SECONDS)
        return self.received

    def cancel(self) -> None:
        self.call.cancel()
        self.requests.put(None)

    def finish(self) -> str:
        """Ends our half; gives the status the server ends the call with, if it does."""
        self.requests.put(None)
        self.thread.join(HALF_CLOSED_SECONDS)
        if self.thread.is_alive():
            self.call.cancel()
            return "never ended"
        return self.status


def show(message: object) -> str:
    """One line, with the fields of every message in order of their numbers."""
    if isinstance(message, (dict, list, tuple, int, bool)):
        return json.dumps(message)
    return text_format.MessageToString(message, as_one_line=True)


def frame(message: bytes, compressed: bool = False) -> bytes:
    """A gRPC length-prefixed message."""
    data = gzip.compress(message) if compressed else message
    return bytes([compressed]) + len(data).to_bytes(4, "big") + data

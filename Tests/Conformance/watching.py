"""One stream of watches, and what each of its watches has told."""

import queue
import threading
import time
from collections.abc import Callable

import grpc
from google.protobuf.message import Message
from harness.protos import Client

STREAM_SECONDS_MAX = 300
ARRIVAL_SECONDS_MAX = 5
REFUSALS = ["etcdserver: permission denied", "etcdserver: user name is empty",
            "etcdserver: invalid auth token", "etcdserver: revision of auth store is old"]


class Stream:
    """Watches of one stream on one server: what arrived, by watch ID."""

    def __init__(self, client: Client, metadata: list[tuple[str, str]]):
        self.requests: queue.SimpleQueue = queue.SimpleQueue()
        self.responses: list[Message] = []
        self.status = ""
        self.creations = 0
        self.call = client.watch.Watch(
            iter(self.requests.get, None), timeout=STREAM_SECONDS_MAX, metadata=metadata)
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self) -> None:
        try:
            for response in self.call:
                self.responses.append(response)
            self.status = "OK"
        except grpc.RpcError as error:
            self.status = f"{error.code().name} {error.details()}"

    def create(self, request: Message) -> None:
        """Returns when it is answered."""
        self.creations += 1
        self.requests.put(request)
        self.wait(lambda: sum(each.created for each in self.responses) >= self.creations)

    def cancel(self, request: Message) -> None:
        """Returns when it has taken effect."""
        number = request.cancel_request.watch_id
        live = [each.created and not each.canceled for each in self.responses
                if each.watch_id == number and (each.created or each.canceled)]
        before = sum(each.canceled for each in self.responses)
        self.requests.put(request)
        if live and live[-1]:
            self.wait(lambda: sum(each.canceled for each in self.responses) > before)

    def wait(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + ARRIVAL_SECONDS_MAX
        while not is_done() and not self.status and time.monotonic() < deadline:
            time.sleep(0.001)

    def lines(self) -> list[str]:
        """Each watch's own story: which response an event came in is left out, but no revision is
        split, nor ahead of its response's header."""
        stories: dict[int, list[str]] = {}
        last: dict[int, int] = {}
        for response in list(self.responses):
            story = stories.setdefault(
                -1 if response.created and response.canceled else response.watch_id, [])
            if response.created and response.canceled:
                # The newest etcd 3.5 says why, and has another ID for it.
                reason = response.cancel_reason.partition("desc = ")[2]
                reason = reason or response.cancel_reason
                story.append(f"refused {'' if reason in REFUSALS else reason}")
            elif response.created or response.canceled or not response.events:
                reason = f" {response.cancel_reason}" if response.cancel_reason else ""
                story.append(f"created {response.created} canceled {response.canceled} "
                             f"compacted {response.compact_revision}{reason}")
            story += [str(event).replace("\n", " ") for event in response.events]
            if revisions := [event.kv.mod_revision for event in response.events]:
                if revisions[0] == last.get(response.watch_id):
                    story.append("split")
                if revisions[-1] > response.header.revision:
                    story.append("ahead of its header")
                last[response.watch_id] = 0 if response.fragment else revisions[-1]
        found = [f"{number}: {line}" for number in sorted(stories) for line in stories[number]]
        return found + ([f"ended {self.status}"] if self.status else [])

    def close(self) -> None:
        self.call.cancel()
        self.requests.put(None)
        self.thread.join(ARRIVAL_SECONDS_MAX)

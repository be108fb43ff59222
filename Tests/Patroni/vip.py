"""What vip-manager asks of its etcd: a Get, then a Watch that must end when the leader is lost."""

import threading

import grpc
from harness.protos import messages
from store import Store

METADATA = [("hasleader", "true")]
WAIT_SECONDS_MAX = 20


class LeaderWatch:
    """Follows one key from the revision at which it was read."""

    def __init__(self, store: Store, key: str):
        m, stubs = messages().rpc, messages().rpc_grpc
        self.channel = store.channel()
        metadata = METADATA + store.token(self.channel)
        name = key.encode()
        found = stubs.KVStub(self.channel).Range(m.RangeRequest(key=name), timeout=5,
                                                 metadata=metadata)
        self.seen = [found.kvs[0].value.decode()]
        self.error: grpc.RpcError | None = None
        self.changed = threading.Condition()
        create = m.WatchCreateRequest(key=name, start_revision=found.header.revision + 1)
        self.open = threading.Event()
        self.calls = stubs.WatchStub(self.channel).Watch(
            self._requests(m.WatchRequest(create_request=create)), metadata=metadata)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _requests(self, first: object):
        yield first
        self.open.wait()

    def _read(self) -> None:
        try:
            for answer in self.calls:
                with self.changed:
                    self.seen += [each.kv.value.decode() for each in answer.events]
                    self.changed.notify_all()
        except grpc.RpcError as error:
            self.error = error

    def wait_for(self, name: str) -> None:
        with self.changed:
            told = self.changed.wait_for(lambda: self.seen[-1] == name, WAIT_SECONDS_MAX)
        assert told, f"{self.seen} without {name}"

    def close(self) -> None:
        self.open.set()
        self.calls.cancel()
        self.thread.join()
        self.channel.close()

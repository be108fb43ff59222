"""SIGKILL at random moments under load: nothing acknowledged is lost, nothing goes back."""

import os
import random
import threading
from collections import Counter

from harness import paths
from harness.protos import Client, messages
from harness.server import Server
from load import Watcher, Writer

CRASHES = int(os.environ.get("CRASHES", "100"))
SEED = int(os.environ.get("SEED", "1"))
WRITERS = 4
WRITE_SECONDS = (0.02, 0.5)
COMPACT_EVERY = 10
LEASE_SECONDS = 100_000


def brief(state: tuple[bytes, int] | None) -> str:
    """The number that a value begins with, and its revision."""
    return f"value {state[0].split(b':')[0].decode()} at {state[1]}" if state else "nothing"


class History:
    """What must hold after each restart, with the state it is held against."""

    def __init__(self, writers: list[Writer], watcher: Watcher):
        self.writers = writers
        self.watcher = watcher
        self.revision = 0
        self.hash: tuple[int, int, int] | None = None  # revision, compact revision, hash
        self.resolved: list[tuple[bytes, bytes, int]] = []

    def check(self, client: Client) -> None:
        m = messages().rpc
        everything = client.kv.Range(m.RangeRequest(key=b"w", range_end=b"x"))
        self._check_revision(everything.header.revision)
        self._check_keys({each.key: each for each in everything.kvs})
        self._check_leases(client, {each.key: each.lease for each in everything.kvs})
        self._check_hash(client, everything.header.revision)

    def _check_revision(self, revision: int) -> None:
        promised = max((writer.acknowledged[-1][2] for writer in self.writers
                        if writer.acknowledged), default=0)
        assert revision >= max(promised, self.revision), "the revision went back"
        self.revision = revision

    def _check_keys(self, found: dict) -> None:
        for writer in self.writers:
            assert not writer.errors, writer.errors
            keys = {key for key in found if key.startswith(writer.prefix.encode())}
            for key in keys | set(writer.state):
                now = (found[key].value, found[key].mod_revision) if key in found else None
                if now == writer.state.get(key):
                    continue
                assert key in writer.pending, (
                    f"{key!r}: acknowledged {brief(writer.state.get(key))}, "
                    f"after the crash {brief(now)}")
                assert (now and now[0]) == writer.pending[key], f"{key!r}: a value never sent"
                if now:
                    writer.state[key] = now
                    self.resolved.append((key, *now))
                else:
                    writer.state.pop(key)

    def _check_leases(self, client: Client, leases: dict[bytes, int]) -> None:
        m = messages().rpc
        for writer in self.writers:
            expected = {key for key in writer.state if key.endswith(b"leased")}
            assert all(leases[key] == writer.lease for key in expected), "a key lost its lease"
            answer = client.lease.LeaseTimeToLive(
                m.LeaseTimeToLiveRequest(ID=writer.lease, keys=True))
            assert answer.TTL > LEASE_SECONDS / 2, "a lease is gone"
            assert set(answer.keys) == expected, "a lease lost a key"

    def _check_hash(self, client: Client, revision: int) -> None:
        m = messages().rpc
        if self.hash:
            before, compacted, value = self.hash
            answer = client.maintenance.HashKV(m.HashKVRequest(revision=before))
            if answer.compact_revision == compacted:
                assert answer.hash == value, f"HashKV at {before} changed over the restart"
        answer = client.maintenance.HashKV(m.HashKVRequest(revision=revision))
        self.hash = (revision, answer.compact_revision, answer.hash)

    def check_events(self) -> None:
        """The watcher saw each acknowledged change once, in order, and nothing invented."""
        assert not self.watcher.errors, self.watcher.errors
        seen = Counter((key, value, revision) for revision, key, value in self.watcher.events)
        assert max(seen.values()) == 1, "an event came twice"
        for writer in self.writers:
            missed = [each for each in writer.acknowledged if each not in seen]
            assert not missed, f"{len(missed)} events missed, first {missed[0]}"
        assert all(each in seen for each in self.resolved), "an unanswered put has no event"


def write_and_kill(server: Server, writers: list[Writer], seconds: float) -> None:
    """Lets the writers run for a while, then kills the server under them."""
    stop = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(server.address, stop))
               for writer in writers]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()


def test_kill_at_random_moments() -> None:
    m = messages().rpc
    chance = random.Random(SEED)
    writers = [Writer(n, SEED * 100 + n, lease=7000 + n) for n in range(WRITERS)]
    watcher = Watcher()
    history = History(writers, watcher)
    with Server(paths.MARTLET) as server:
        server.start()
        with Client(server.address) as client:
            for writer in writers:
                client.lease.LeaseGrant(m.LeaseGrantRequest(ID=writer.lease, TTL=LEASE_SECONDS))
        for crash in range(1, CRASHES + 1):
            watcher.start(server.address)
            write_and_kill(server, writers, chance.uniform(*WRITE_SECONDS))
            watcher.join()
            server.start()
            with Client(server.address) as client:
                history.check(client)
                if crash % COMPACT_EVERY == 0 and watcher.last:
                    client.kv.Compact(m.CompactionRequest(revision=watcher.last))
                    history.hash = None
        watcher.start(server.address)
        assert watcher.wait_for(history.revision), "the watcher never caught up"
        server.kill()
        watcher.join()
        history.check_events()
    total = sum(len(writer.acknowledged) for writer in writers)
    print(f"\n{CRASHES} crashes, {total} acknowledged changes, "
          f"{len(watcher.events)} events, revision {history.revision}, seed {SEED}")
    assert total > CRASHES, "hardly anything was written"

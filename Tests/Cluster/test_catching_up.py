"""A member far behind, on a slow disk, while there is load."""

import threading
from pathlib import Path

import preload
import pytest
from cluster import Cluster, Member, wait_until


def sent(member: Member) -> int:
    return member.log_text().count('"msg":"sent database snapshot"')


@pytest.mark.skipif(not preload.compiler(), reason="needs a C compiler")
def test_one_snapshot_is_enough(tmp_path: Path) -> None:
    """The log behind it is kept until its receiver, which takes seconds, has come that far."""
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            writer.put(f"load{number % 10}", "v")
            number += 1

    mark = tmp_path / "slow"
    flags = ["--snapshot-count=100", "--experimental-snapshot-catchup-entries=10"]
    with Cluster(["martlet"] * 3, flags=flags) as cluster:
        last = cluster[3]
        words = preload.prefix(preload.build(tmp_path), SLOW_MS="1500", SLOW_WHILE=str(mark))
        arguments = last.arguments
        last.arguments = lambda: [*words, *arguments()]
        cluster.start()
        if last.leads():
            cluster.move_leader(cluster[1])
        writer = cluster.leader()
        last.pause()
        for number in range(500):
            writer.put(f"k{number}", "v")
        thread = threading.Thread(target=write)
        thread.start()
        try:
            mark.touch()
            last.resume()
            wait_until(lambda: "applied snapshot" in last.log_text(), "a snapshot")
            # What it was sent before it was paused may have been another one.
            wait_until(lambda: last.get("k499", serializable=True) == "v", "the keys")
            before = sent(writer)
            mark.unlink()
            now = writer.status().raftAppliedIndex
            wait_until(lambda: last.status().raftAppliedIndex >= now, "all that followed")
            assert sent(writer) == before
        finally:
            over.set()
            thread.join()
        cluster.check_hashes()

"""A member far behind, on a slow disk, while there is load."""

import shutil
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


def test_a_member_whose_past_was_put_back_says_so_and_ends(tmp_path: Path) -> None:
    with Cluster(["martlet"] * 3) as cluster:
        cluster.start()
        last = cluster[3]
        cluster.move_leader(cluster[1])
        last.put("before", "v")
        last.stop()
        shutil.copytree(last.data_dir, tmp_path / "old")
        last.start()
        for number in range(50):
            last.put(f"k{number}", "v")
        last.stop()
        shutil.rmtree(last.data_dir)
        shutil.copytree(tmp_path / "old", last.data_dir)
        last.spawn()
        assert last.process.wait(20) == 1
        assert "the log has lost entries that this member had acknowledged" in last.log_tail()
        cluster[1].put("after", "v")

"""The first start works; how long it takes and how much it uses is printed, with wide bounds."""

import time

from harness import paths
from harness.server import Server

RSS_MIB_MAX = 100
IDLE_SECONDS = 1.0


def seconds_to_serving(server: Server) -> float:
    """From the start of the process until it is healthy, which takes a leader."""
    start = time.monotonic()
    server.spawn()
    server.wait_ready()
    return time.monotonic() - start


def test_start_on_an_empty_data_dir() -> None:
    taken = []
    for _ in range(5):
        with Server(paths.MARTLET) as server:
            taken.append(seconds_to_serving(server))
            time.sleep(IDLE_SECONDS)
            rss = server.rss_bytes() / 2**20
            assert server.stop() in (0, -15), server.log_tail()
    print(f"\nstart-up to serving: {sorted(taken)[2] * 1000:.0f} ms (median of 5), "
          f"idle RSS: {rss:.1f} MiB")
    assert rss < RSS_MIB_MAX


def test_a_single_voter_does_not_wait_for_its_election_timeout() -> None:
    flags = ["--heartbeat-interval", "5000", "--election-timeout", "50000"]
    with Server(paths.MARTLET, flags) as server:
        for _ in range(2):
            server.start()  # which waits less long than that
            server.stop()


def test_stop_and_start_again() -> None:
    with Server(paths.MARTLET) as server:
        server.start()
        server.stop()
        server.start()
        assert server.http("/health")[0] == 200

"""The first start works; how long it takes and how much it uses is printed, with wide bounds."""

import socket
import time

from harness import paths
from harness.server import Server

STARTUP_SECONDS_MAX = 5.0
RSS_MIB_MAX = 100
IDLE_SECONDS = 1.0


def seconds_to_serving(server: Server) -> float:
    """From the start of the process until the client port accepts."""
    start = time.monotonic()
    server.spawn()
    while time.monotonic() - start < STARTUP_SECONDS_MAX:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.client_port)) == 0:
                return time.monotonic() - start
        time.sleep(0.0005)
    raise AssertionError(server.log_tail())


def test_start_on_an_empty_data_dir() -> None:
    taken = []
    for _ in range(5):
        with Server(paths.MARTLET) as server:
            taken.append(seconds_to_serving(server))
            server.wait_ready()
            time.sleep(IDLE_SECONDS)
            rss = server.rss_bytes() / 2**20
            assert server.stop() in (0, -15), server.log_tail()
    print(f"\nstart-up to serving: {sorted(taken)[2] * 1000:.0f} ms (median of 5), "
          f"idle RSS: {rss:.1f} MiB")
    assert rss < RSS_MIB_MAX


def test_stop_and_start_again() -> None:
    with Server(paths.MARTLET) as server:
        server.start()
        server.stop()
        server.start()
        assert server.http("/health")[0] == 200

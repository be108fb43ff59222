"""Where members look for each other: more than one URL, more than one address."""

import contextlib
import http.server
import threading
from collections.abc import Iterator

import pytest
from cluster import BINARIES, Cluster, Member
from harness.server import free_ports


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Somebody else's server: 404 for everything."""

    def do_GET(self) -> None:  # noqa: N802
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def elsewhere(port: int) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def with_another_url(member: Member) -> int:
    """Gives it a first peer URL where something else listens: the port."""
    low, high = sorted([*free_ports(1), member.peer_port], key=str)
    member.peer_port = high
    member.peer_url = f"http://127.0.0.1:{high}"
    urls = [f"http://127.0.0.1:{low}", member.peer_url]
    member.initial = ",".join(f"{member.name}={url}" for url in urls)
    member.flags += ["--initial-advertise-peer-urls", ",".join(urls)]
    return low


@pytest.mark.parametrize("kind", list(BINARIES))
def test_a_url_that_is_somebody_elses_is_passed_over(kind: str) -> None:
    with Cluster([kind] * 3) as cluster, contextlib.ExitStack() as servers:
        for member in cluster.members:
            servers.enter_context(elsewhere(with_another_url(member)))
        initial = ",".join(member.initial for member in cluster.members)
        for member in cluster.members:
            member.initial = initial
        cluster.start()
        for member in cluster.members:
            member.put(f"k{member.number}", "v")
        assert all(member.get("k1") == "v" for member in cluster.members)

"""The gateway's connections: both versions of HTTP, bodies that take their time, clients that do
not read, clients that go, and listeners of their own."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from harness import paths
from harness.server import Server, free_ports

SECONDS_MAX = 10


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(paths.MARTLET) as server:
        yield server.start()


def ask(server: Server, path: str, body: object = None, method: str = "POST",
        address: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection(address or server.address, timeout=SECONDS_MAX)
    connection.request(method, path, None if body is None else json.dumps(body))
    response = connection.getresponse()
    return response.status, response.read().decode()


def curl(server: Server, path: str, *options: str) -> str:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "5", *options, server.endpoint + path],
        capture_output=True, text=True, check=False).stdout


def chunk(text: str) -> bytes:
    return f"{len(text.encode()):x}\r\n{text}\r\n".encode()


def opened(server: Server, path: str) -> socket.socket:
    """A connection with a request whose body follows in chunks."""
    client = socket.create_connection(("127.0.0.1", server.client_port), timeout=SECONDS_MAX)
    client.sendall(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    return client


def received(client: socket.socket, text: str) -> str:
    """What comes until `text` has come."""
    found = ""
    while text not in found:
        piece = client.recv(65536).decode()
        assert piece, f"closed after {found!r}"
        found += piece
    return found


def gauge(server: Server, name: str) -> float:
    return float(server.http("/metrics")[1].split(f"\n{name} ")[1].split("\n")[0])


def until_gauge(server: Server, name: str, value: float) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while gauge(server, name) != value:
        assert time.monotonic() < deadline, f"{name} is {gauge(server, name)}"
        time.sleep(0.05)


@pytest.mark.parametrize(("path", "body"), [
    ("/v3/kv/range", '{"key":"aw=="}'), ("/v3/kv/range", '{"key":'), ("/v3/kv/nothing", "{}"),
    ("/v3/lease/keepalive", '{"ID":"5"}{"ID":"6"}'), ("/v3/cluster/member/list", "{}"),
    ("/v3/watch", '{"create_request":{"key":5}}'), ("/version", None), ("/health", None),
    ("/readyz?verbose", None), ("/debug/vars/x", None)])
def test_http2_answers_as_http1_does(server: Server, path: str, body: str | None) -> None:
    data = [] if body is None else ["--data-binary", body]
    first, second = (curl(server, path, "--write-out", " %{http_code} %{content_type}", *data, how)
                     for how in ("--http1.1", "--http2-prior-knowledge"))
    assert first == second and first


def test_a_watch_over_http2_brings_events(server: Server) -> None:
    ask(server, "/v3/kv/put", {"key": b64(b"h2"), "value": b64(b"1")})
    body = json.dumps({"create_request": {"key": b64(b"h2"), "start_revision": "1"}})
    command = ["curl", "--silent", "--no-buffer", "--max-time", str(SECONDS_MAX),
               "--http2-prior-knowledge", "--data-binary", body, server.endpoint + "/v3/watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        lines = [watch.stdout.readline() for _ in range(2)]
        watch.kill()
    assert json.loads(lines[0])["result"]["created"]
    assert json.loads(lines[1])["result"]["events"][0]["kv"]["value"] == b64(b"1")


def test_a_stream_answers_before_its_body_ends(server: Server) -> None:
    client = opened(server, "/v3/watch")
    for name in ("a", "b"):
        request = json.dumps({"create_request": {"key": b64(name.encode())}})
        client.sendall(chunk(request[:9]))
        time.sleep(0.05)
        client.sendall(chunk(request[9:]))
        assert '"created":true' in received(client, "}}\n")
    ask(server, "/v3/kv/put", {"key": b64(b"b")})
    assert '"watch_id":"1"' in received(client, '"events"')
    client.sendall(b"0\r\n\r\n")
    ask(server, "/v3/kv/put", {"key": b64(b"a")})
    assert '"key":"YQ=="' in received(client, "}}\n"), "a watch outlives its body"
    client.close()
    until_gauge(server, "etcd_debugging_mvcc_watcher_total", 0)


def test_a_keepalive_ends_with_its_body(server: Server) -> None:
    ask(server, "/v3/lease/grant", {"TTL": 100, "ID": "9"})
    client = opened(server, "/v3/lease/keepalive")
    for _ in range(3):
        client.sendall(chunk('{"ID":"9"}'))
        assert '"TTL":"100"' in received(client, "}}\n")
    client.sendall(b"0\r\n\r\n")
    received(client, "0\r\n\r\n")
    client.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "etcdserver" in received(client, "}")


def test_clients_that_go_leave_nothing(server: Server) -> None:
    clients = []
    for _ in range(50):
        client = opened(server, "/v3/watch")
        client.sendall(chunk(json.dumps({"create_request": {"key": b64(b"gone")}})))
        clients.append(client)
    until_gauge(server, "etcd_debugging_mvcc_watcher_total", 50)
    for client in clients:
        client.close()
    until_gauge(server, "etcd_debugging_mvcc_watcher_total", 0)
    until_gauge(server, "etcd_debugging_mvcc_watch_stream_total", 0)


def test_a_lock_that_its_client_gave_up_is_free(server: Server) -> None:
    _, held = ask(server, "/v3/lock/lock", {"name": b64(b"l")})
    waiting = http.client.HTTPConnection(server.address)
    waiting.request("POST", "/v3/lock/lock", json.dumps({"name": b64(b"l")}))
    time.sleep(0.3)
    waiting.close()
    time.sleep(0.3)
    assert ask(server, "/v3/lock/unlock", {"key": json.loads(held)["key"]})[0] == 200
    assert ask(server, "/v3/lock/lock", {"name": b64(b"l")})[0] == 200


def test_a_watcher_that_does_not_read_costs_little(server: Server) -> None:
    client = opened(server, "/v3/watch")
    client.sendall(chunk(json.dumps({"create_request": {"key": b64(b"big")}})))
    received(client, "created")
    put = {"key": b64(b"big"), "value": b64(b"v" * 500_000)}
    for _ in range(10):
        ask(server, "/v3/kv/put", put)
    before = server.rss_bytes()
    for _ in range(60):
        ask(server, "/v3/kv/put", put)
    assert server.rss_bytes() - before < 60 << 20
    seen = 0
    client.settimeout(SECONDS_MAX)
    while seen < 70:
        piece = client.recv(1 << 20)
        assert piece
        seen += piece.count(b'"mod_revision"')
    client.close()


def test_a_slow_watcher_costs_no_more_than_what_waits_for_it(server: Server) -> None:
    """It never catches up, so that what waits for it is never all gone."""
    put = {"key": b64(b"slow"), "value": b64(b"v" * 500_000)}
    first = int(json.loads(ask(server, "/v3/kv/put", put)[1])["header"]["revision"])
    for _ in range(149):
        ask(server, "/v3/kv/put", put)
    client = opened(server, "/v3/watch")
    before = server.anonymous_bytes()
    client.sendall(chunk(json.dumps(
        {"create_request": {"key": b64(b"slow"), "start_revision": first}})))
    seen, grown = 0, 0
    while seen < 150:
        seen += client.recv(1 << 18).count(b'"mod_revision"')
        time.sleep(0.001)
        grown = max(grown, server.anonymous_bytes() - before)
    client.close()
    assert grown < 60 << 20


def test_a_snapshot_comes_whole_to_a_slow_reader(server: Server) -> None:
    for number in range(16):
        ask(server, "/v3/kv/put", {"key": b64(b"s%d" % number), "value": b64(os.urandom(300_000))})
    connection = http.client.HTTPConnection(server.address, timeout=SECONDS_MAX)
    connection.request("POST", "/v3/maintenance/snapshot", "{}")
    response = connection.getresponse()
    assert response.status == 200
    time.sleep(0.5)
    messages = [json.loads(line)["result"] for line in response]
    data = b"".join(base64.b64decode(message["blob"]) for message in messages)
    assert len(data) > 16 * 300_000
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    assert int(messages[0]["remaining_bytes"]) + len(base64.b64decode(messages[0]["blob"])) \
        == len(data) - 32


def test_large_values_fit_and_larger_ones_do_not(server: Server) -> None:
    value = b"\xff" * 1_500_000
    assert ask(server, "/v3/kv/put", {"key": b64(b"large"), "value": b64(value)})[0] == 200
    found = json.loads(ask(server, "/v3/kv/range", {"key": b64(b"large")})[1])
    assert base64.b64decode(found["kvs"][0]["value"]) == value
    status, body = ask(server, "/v3/kv/put", {"key": b64(b"x"), "value": b64(value + value[:99999])})
    assert (status, json.loads(body)["error"]) == (400, "etcdserver: request is too large")
    assert flooded(server, "/v3/kv/put").startswith("HTTP/1.1 413 ")


def test_a_document_without_end_is_refused(server: Server) -> None:
    before = server.rss_bytes()
    assert "the document is too large" in flooded(server, "/v3/watch")
    assert server.rss_bytes() - before < 40 << 20


def flooded(server: Server, path: str) -> str:
    """What a client is told that sends 20 MB of one value, and is then hung up on."""
    client = opened(server, path)
    found = b""
    try:
        client.sendall(chunk('{"create_request":{"key":"'))
        for _ in range(320):
            client.sendall(chunk("A" * 65000))
        while piece := client.recv(65536):
            found += piece
    except (BrokenPipeError, ConnectionResetError):
        pass
    client.close()
    return found.decode()


def test_health_checks_say_what_is_wrong() -> None:
    with Server(paths.MARTLET) as server:
        server.start()
        member = json.loads(ask(server, "/v3/maintenance/status", {})[1])["header"]["member_id"]
        assert ask(server, "/livez", method="GET") == (200, "ok\n")
        for alarm in ("NOSPACE", "CORRUPT"):
            request = {"action": "ACTIVATE", "alarm": alarm, "memberID": member}
            ask(server, "/v3/maintenance/alarm", request)
            assert ask(server, "/health", method="GET") == (
                503, f'{{"health":"false","reason":"ALARM {alarm}"}}\n')
            assert ask(server, f"/health?exclude={alarm}", method="GET")[0] == 200
            assert ask(server, "/livez", method="GET")[0] == 200
            status, report = ask(server, "/readyz", method="GET")
            if alarm == "CORRUPT":
                assert status == 503
                assert "[-]data_corruption failed: alarm activated: CORRUPT" in report
                assert "[+]linearizable_read ok" in report
                assert ask(server, "/readyz?exclude=data_corruption", method="GET")[0] == 200
            else:
                assert (status, report) == (200, "ok\n")
            ask(server, "/v3/maintenance/alarm", request | {"action": "DEACTIVATE"})
        page = server.http("/metrics")[1]
        assert 'etcd_server_healthcheck{name="data_corruption",type="readyz"} 0' in page
        assert ask(server, "/readyz/serializable_read", method="GET") == (200, "ok\n")


def test_listeners_of_their_own_serve_their_part() -> None:
    metrics, plain = free_ports(2)
    flags = ["--listen-metrics-urls", f"http://127.0.0.1:{metrics}",
             "--listen-client-http-urls", f"http://127.0.0.1:{plain}", "--enable-pprof"]
    with Server(paths.MARTLET, flags) as server:
        server.spawn()
        for_metrics, for_http = f"127.0.0.1:{metrics}", f"127.0.0.1:{plain}"
        deadline = time.monotonic() + SECONDS_MAX
        is_healthy = False
        while not is_healthy:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            with contextlib.suppress(ConnectionRefusedError):
                is_healthy = ask(server, "/health", method="GET", address=for_metrics)[0] == 200
        assert "etcd_server_has_leader 1" in ask(server, "/metrics", None, "GET", for_metrics)[1]
        assert ask(server, "/version", None, "GET", for_metrics)[0] == 404
        assert ask(server, "/v3/kv/range", {"key": "aw=="}, "POST", for_metrics)[0] == 404
        assert ask(server, "/v3/kv/range", {"key": "aw=="}, "POST", for_http)[0] == 200
        status, text = ask(server, "/debug/pprof/heap", None, "GET", for_http)
        assert status == 501 and "not written in Go" in text
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(server, "/version", None, "GET")
        status = subprocess.run(
            [paths.ETCDCTL, "--endpoints", server.address, "put", "k", "v"], check=False,
            capture_output=True, text=True, timeout=SECONDS_MAX)
        assert status.stdout == "OK\n"

"""The JSON gateway and plain HTTP, request by request."""

import base64
import http.client
import json
import re
import socket

from rpc import Transcript, case

SECONDS_MAX = 10
FIELDS = ("Content-Type", "Allow", "X-Content-Type-Options", "Access-Control-Allow-Origin",
          "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
          "Grpc-Metadata-Content-Type", "Transfer-Encoding")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Web:
    """Plain requests on one connection, noted in a transcript."""

    def __init__(self, t: Transcript):
        self.t = t
        self.connection = http.client.HTTPConnection(t.server.address, timeout=SECONDS_MAX)

    def ask(self, path: str, body: object = None, method: str = "POST",
            headers: dict[str, str] | None = None, label: str = "") -> object:
        """Sends a request (a body that is no text as JSON), notes the answer, gives its JSON."""
        label = label or f"{method} {path} {body if body is not None else ''}".strip()
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        self.connection.request(method, path, text, headers or {})
        response = self.connection.getresponse()
        data = response.read().decode()
        if token := re.search(r'"token":"([^"]+)"', data):
            self.t.note(label, f"a token of {len(token[1].split('.'))} parts")
            found, data = json.loads(data), data.replace(token[1], "<token>")
        fields = [f"{name}: {response.headers[name]}" for name in FIELDS if name in response.headers]
        self.t.note(label, f"{response.status} {response.reason} | {' | '.join(fields)}")
        self.t.note(label, data)
        if token:
            return found
        try:
            return json.loads(data)
        except ValueError:
            return None

    def stream(self, path: str, body: object, messages: int) -> tuple[list[dict],
                                                                       http.client.HTTPResponse]:
        """Opens a stream on a connection of its own, notes the first messages and gives them."""
        connection = http.client.HTTPConnection(self.t.server.address, timeout=SECONDS_MAX)
        connection.request("POST", path, body if isinstance(body, str) else json.dumps(body))
        response = connection.getresponse()
        found = []
        for _ in range(messages):
            line = response.readline().decode()
            self.t.note(f"{path} {response.status}", line)
            found.append(json.loads(line))
        response.connection = connection
        return found, response


@case()
def gateway_kv(t: Transcript) -> None:
    web = Web(t)
    key, other = b64("key"), b64("other")
    web.ask("/v3/kv/range", {"key": key})
    web.ask("/v3/kv/put", {"key": key, "value": b64("<v>&")})
    web.ask("/v3/kv/put", {"key": key, "value": b64("w"), "prev_kv": True})
    web.ask("/v3/kv/put", {"key": key, "ignoreValue": True, "lease": "77"})
    web.ask("/v3/kv/put", {"key": key, "value": key, "ignore_value": True})
    web.ask("/v3/kv/put", {"key": other, "lease": "0", "nothing": [1, {"x": None}]})
    web.ask("/v3beta/kv/range", {"key": key})
    web.ask("/v3/kv/range", {"key": b64("a"), "range_end": "AA==", "sort_order": "DESCEND",
                             "sortTarget": "KEY", "limit": "1", "serializable": True})
    web.ask("/v3/kv/range", {"key": "AA==", "rangeEnd": "AA==", "keysOnly": True, "revision": "3"})
    web.ask("/v3/kv/range", {"key": "AA==", "range_end": "AA==", "count_only": True})
    web.ask("/v3/kv/range", {"key": key, "revision": 99})
    web.ask("/v3/kv/txn", {
        "compare": [{"key": key, "target": "CREATE", "create_revision": "0"},
                    {"key": key, "target": 3, "value": key, "result": "NOT_EQUAL"}],
        "success": [{"request_put": {"key": key, "value": key}}],
        "failure": [{"request_range": {"key": key}},
                    {"request_txn": {"success": [{"requestRange": {"key": other}}]}}]})
    web.ask("/v3/kv/txn", {
        "compare": [{"key": key, "target": "MOD", "mod_revision": "3"},
                    {"key": key, "target": "VERSION", "version": 2}],
        "success": [{"request_put": {"key": key, "value": other}},
                    {"request_delete_range": {"key": other, "prev_kv": True}}]})
    web.ask("/v3/kv/txn", {"success": [{"request_put": {"key": key}}] * 2})
    web.ask("/v3/kv/deleterange", {"key": "AA==", "range_end": "AA==", "prev_kv": True})
    web.ask("/v3/kv/compaction", {"revision": "4"})
    web.ask("/v3/kv/compaction", {"revision": "4"})
    web.ask("/v3/kv/compaction", {"revision": "400"})
    web.ask("/v3/kv/range", {"key": key, "revision": "2"})


@case()
def gateway_malformed(t: Transcript) -> None:
    web = Web(t)
    for body in ("", " ", "null", "{", '{"key"', '{"key":', '{"key":"a', "hello", "[]", "5", '"x"',
                 '{"key":5}', '{"key":[]}', '{"key":[102,300]}', '{"key":[102,111]}',
                 '{"key":null}', '{"key":"Zm9v"}trailing', '{"key":"%"}',
                 '{"key":"Zm9v","limit":"x"}', '{"key":"Zm9v","limit":1.5}', '{"limit":""}',
                 '{"limit":1e2}', '{"limit":99999999999999999999}', '{"limit":true}',
                 '{"limit":null,"key":"Zm9v"}', '{"key":"Zm9v","sort_order":"FOO"}',
                 '{"key":"Zm9v","sort_order":99}', '{"key":"Zm9v","sort_order":{}}',
                 '{"key":"Zm9v","serializable":"true"}', '{"key":"Zm9v","serializable":1}',
                 "{key:1}", '{"a" 1}', '{"a":1 "b":2}', '{"a":[1 2]}', '{"a":tru}', '{"a":nul1}',
                 '{"a":01}', '{"a":-}', '{"a":1.}', '{"a":1e}', '{"a":"\\q"}', '{"a":"\\u12g4"}',
                 '{"a":"\x01"}', "{'a':1}", '{"a":1,}', "[1,]", "\x00", "é"):
        web.ask("/v3/kv/range", body.encode(), label=f"range {body!r}")
    for body in ({"compare": {}}, {"compare": [5]}, {"compare": [None]}, {"success": [{}]},
                 {"success": [{"request_put": 5}]}, {"success": [{"request_put": None}]}):
        web.ask("/v3/kv/txn", body)
    web.ask("/v3/cluster/member/add", {"peerURLs": [1]})
    web.ask("/v3/kv/range", {"key": b64("k")}, headers={"Grpc-Timeout": "abc"})
    web.ask("/v3/kv/range", {"key": b64("k")}, headers={"Grpc-Timeout": "5S"})
    web.ask("/v3/kv/range", {"key": b64("k")}, headers={"Content-Type": "text/plain"})


@case()
def gateway_paths(t: Transcript) -> None:
    web = Web(t)
    for path in ("/v3/kv/range", "/v3/watch", "/v3/nothing", "/v3/", "/v3beta/kv/nothing",
                 "/v3alpha/kv/range", "/v2/keys", "/", "/version", "/health", "/metrics/x",
                 "/debug/pprof/", "/livez/x", "/v3/kv/range/", "//v3/kv/range"):
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            if not (path == "//v3/kv/range" or path == "/health" and method == "GET"):
                web.ask(path, method=method)
    for path in ("/v3/nothing", "/version", "/health", "/debug/vars"):
        web.ask(path, {})
    web.ask("/health", method="GET")
    web.ask("/health?serializable=true&exclude=NOSPACE", method="GET")


@case()
def gateway_leases(t: Transcript) -> None:
    web = Web(t)
    web.ask("/v3/lease/grant", {"TTL": 600, "ID": 1234})
    web.ask("/v3/lease/grant", {"TTL": "600", "ID": "1234"})
    web.ask("/v3/lease/grant", {"TTL": 99999999999})
    for prefix in ("/v3/lease", "/v3/kv/lease"):
        web.ask(f"{prefix}/timetolive", {"ID": "1234", "keys": True})
        web.ask(f"{prefix}/leases", {})
    for body in ('{"ID":"1234"}', '{"ID":1235}', '{"ID":"1234"} {"ID":"1234"}\n', "",
                 '{"ID":"1234"', '{"ID":"x"}', "nonsense"):
        web.ask("/v3/lease/keepalive", body, label=f"keepalive {body!r}")
    web.ask("/v3/kv/lease/revoke", {"ID": "1234"})
    web.ask("/v3/lease/revoke", {"ID": "1234"})
    web.ask("/v3/lease/timetolive", {"ID": "1234"})


@case()
def gateway_watches(t: Transcript) -> None:
    web = Web(t)
    key = b64("k")
    create = {"create_request": {"key": key, "start_revision": "1", "prev_kv": True}}
    _, past = web.stream("/v3/watch", create, 1)
    web.ask("/v3/kv/put", {"key": key, "value": b64("1")})
    t.note("event", past.readline().decode())
    web.ask("/v3/kv/deleterange", {"key": key})
    t.note("event", past.readline().decode())
    past.connection.close()
    both = json.dumps({"create_request": {"key": key, "filters": ["NOPUT"], "watch_id": "5"}}) \
        + json.dumps({"create_request": {"key": key, "filters": [1]}})
    _, filtered = web.stream("/v3/watch", both, 2)
    web.ask("/v3/kv/put", {"key": key, "value": b64("2")})
    t.note("event", filtered.readline().decode())
    filtered.connection.close()
    _, gone = web.stream("/v3/watch", json.dumps({"create_request": {"key": key}})
                         + json.dumps({"cancel_request": {"watch_id": "0"}}), 2)
    gone.connection.close()
    web.ask("/v3/kv/compaction", {"revision": "3"})
    _, late = web.stream("/v3/watch", create, 2)
    late.connection.close()
    web.ask("/v3/watch", '{"create_request":{"key":5}}')
    web.ask("/v3/watch", "nonsense")


@case()
def gateway_others(t: Transcript) -> None:
    web = Web(t)
    web.ask("/v3/cluster/member/list", {})
    web.ask("/v3/cluster/member/remove", {"ID": "5"})
    web.ask("/v3/maintenance/alarm", {"action": "GET"})
    web.ask("/v3/maintenance/alarm", {"action": 1, "alarm": "NOSPACE"})
    web.ask("/v3/maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE"})
    web.ask("/v3/maintenance/defragment", {})
    web.ask("/v3/maintenance/transfer-leadership", {"targetID": "5"})
    web.ask("/v3/maintenance/downgrade", {"action": "VALIDATE", "version": "3.3.0"})
    web.ask("/v3/auth/status", {})
    web.ask("/v3/auth/authenticate", {"name": "a", "password": "b"})
    web.ask("/v3/election/leader", {"name": b64("e")})
    web.ask("/v3/lease/grant", {"TTL": 600, "ID": 7})
    won = web.ask("/v3/election/campaign", {"name": b64("e"), "value": b64("v"), "lease": "7"})
    web.ask("/v3/election/leader", {"name": b64("e")})
    _, observer = web.stream("/v3/election/observe", {"name": b64("e")}, 1)
    web.ask("/v3/election/proclaim", {"leader": won["leader"], "value": b64("w")})
    t.note("observed", observer.readline().decode())
    observer.connection.close()
    web.ask("/v3/election/resign", {"leader": won["leader"]})
    locked = web.ask("/v3/lock/lock", {"name": b64("l"), "lease": "7"})
    web.ask("/v3/lock/unlock", {"key": locked["key"]})


@case("--cors", "http://a:1,http://b:2", "--host-whitelist", "good,127.0.0.1")
def gateway_access(t: Transcript) -> None:
    web = Web(t)
    for headers in ({}, {"Origin": "http://b:2"}, {"Origin": "http://c"}, {"Host": "bad"},
                    {"Host": "good:99"}, {"Host": "bad:99", "Origin": "http://a:1"}):
        web.ask("/v3/kv/range", {"key": b64("k")}, headers=headers, label=f"post {headers}")
        web.ask("/version", method="OPTIONS", headers=headers, label=f"options {headers}")


class Socket:
    """A websocket, with just what is needed of RFC 6455."""

    def __init__(self, t: Transcript, path: str):
        self.t = t
        self.socket = socket.create_connection(("127.0.0.1", t.server.client_port), SECONDS_MAX)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {t.server.address}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        lines = iter(lambda: self.file.readline().decode().strip(), "")
        t.note(path, " | ".join(line for line in lines if not line.startswith("Date")))

    def send(self, text: str, code: int = 1) -> None:
        data = text.encode()
        assert len(data) < 126
        masked = bytes(byte ^ b"mask"[place & 3] for place, byte in enumerate(data))
        self.socket.sendall(bytes([0x80 | code, 0x80 | len(data)]) + b"mask" + masked)

    def frame(self) -> None:
        """Notes the next frame."""
        code, size = self.file.read(2)
        if size == 126:
            size = int.from_bytes(self.file.read(2), "big")
        data = self.file.read(size)
        self.t.note(f"frame {code & 15}", repr(data) if code & 15 != 1 else data.decode().strip())


@case()
def gateway_websockets(t: Transcript) -> None:
    web = Web(t)
    watch = Socket(t, "/v3/watch")
    watch.send(json.dumps({"create_request": {"key": b64("w")}}))
    watch.frame()
    web.ask("/v3/kv/put", {"key": b64("w"), "value": b64("1")})
    watch.frame()
    watch.send("hello", code=9)
    watch.frame()
    watch.send(json.dumps({"cancel_request": {"watch_id": "0"}}))
    watch.frame()
    watch.socket.close()
    web.ask("/v3/lease/grant", {"TTL": 600, "ID": 5})
    alive = Socket(t, "/v3/lease/keepalive")
    for _ in range(2):
        alive.send('{"ID":"5"}')
        alive.frame()
    alive.socket.close()
    web.ask("/v3/kv/range", {"key": b64("w")})


@case("--bcrypt-cost", "4")
def gateway_auth(t: Transcript) -> None:
    web = Web(t)
    for user, role in [("root", "root"), ("u", "r")]:
        web.ask("/v3/auth/user/add", {"name": user, "password": f"{user}-secret"})
        web.ask("/v3/auth/role/add", {"name": role})
        web.ask("/v3/auth/user/grant", {"user": user, "role": role})
    web.ask("/v3/auth/role/grant", {"name": "r", "perm": {
        "permType": "READWRITE", "key": b64("a"), "range_end": b64("b")}})
    web.ask("/v3/auth/role/get", {"role": "r"})
    web.ask("/v3/auth/user/add", {"name": "", "password": "x"})
    web.ask("/v3/auth/enable", {})
    web.ask("/v3/auth/status", {})
    web.ask("/v3/kv/range", {"key": b64("a")}, label="nobody")
    web.ask("/v3/kv/range", {"key": b64("a")}, headers={"Authorization": "nonsense"},
            label="nonsense")
    web.ask("/v3/auth/authenticate", {"name": "u", "password": "wrong"})
    web.ask("/v3/auth/authenticate", {"name": "nobody", "password": "wrong"})
    token = web.ask("/v3/auth/authenticate", {"name": "u", "password": "u-secret"})["token"]
    for headers in ({"Authorization": token}, {"Grpc-Metadata-Token": token}):
        label = f"as u by {list(headers)}"
        web.ask("/v3/kv/put", {"key": b64("a1"), "value": "dg=="}, headers=headers, label=label)
        web.ask("/v3/kv/range", {"key": b64("a1")}, headers=headers, label=label)
        web.ask("/v3/kv/put", {"key": b64("c")}, headers=headers, label=label)
        web.ask("/v3/kv/range", {"key": b64("c")}, headers=headers, label=label)
        web.ask("/v3/auth/user/list", {}, headers=headers, label=label)
        web.ask("/v3/cluster/member/list", {}, headers=headers, label=label)
    web.ask("/health", method="GET")
    web.ask("/v3/auth/disable", {}, headers={"Authorization": token}, label="u disables")
    root = web.ask("/v3/auth/authenticate", {"name": "root", "password": "root-secret"})["token"]
    web.ask("/v3/auth/user/list", {}, headers={"Authorization": root}, label="root lists")
    web.ask("/v3/auth/disable", {}, headers={"Authorization": root}, label="root disables")


@case("--enable-grpc-gateway=false")
def gateway_off(t: Transcript) -> None:
    web = Web(t)
    web.ask("/v3/kv/range", {"key": b64("k")})
    web.ask("/health", method="GET")


@case()
def patroni_dialogue(t: Transcript) -> None:
    """What Patroni 4 says to its DCS in the life of a leader, as its etcd3 client writes it."""
    web = Web(t)

    def key(name: str) -> str:
        return b64(f"/service/batman/{name}")

    web.ask("/version", method="GET")
    web.ask("/v3/cluster/member/list", {})
    web.ask("/v3/auth/authenticate", {"name": "patroni", "password": "secret"})
    web.ask("/v3/kv/range", {"key": key(""), "range_end": b64("/service/batman0"),
                             "serializable": False})
    web.ask("/v3/lease/grant", {"TTL": 30, "ID": 4711})
    web.ask("/v3/lease/keepalive", {"ID": "4711"})
    web.ask("/v3/kv/put", {"key": key("members/pg1"), "value": b64('{"state":"running"}'),
                           "lease": "4711"})
    web.ask("/v3/kv/txn", {
        "compare": [{"key": key("initialize"), "target": "CREATE", "create_revision": "0"}],
        "success": [{"request_put": {"key": key("initialize"), "value": b64("70001")}}]})
    leader = {"request_put": {"key": key("leader"), "value": b64("pg1"), "lease": "4711"}}
    for _ in range(2):
        web.ask("/v3/kv/txn", {
            "compare": [{"key": key("leader"), "target": "CREATE", "create_revision": "0"}],
            "success": [leader], "failure": []})
    web.ask("/v3/kv/txn", {
        "compare": [{"key": key("leader"), "target": "CREATE", "create_revision": "0"}],
        "success": [leader],
        "failure": [{"request_txn": {
            "compare": [{"key": key("leader"), "target": "VALUE", "value": b64("pg1")}],
            "success": [leader], "failure": []}}]})
    found = web.ask("/v3/kv/range", {"key": key(""), "range_end": b64("/service/batman0")})
    web.ask("/v3/kv/txn", {
        "compare": [{"key": key("status"), "target": "MOD", "mod_revision": "0"}],
        "success": [{"request_put": {"key": key("status"), "value": b64('{"optime":1}')}}]})
    _, watch = web.stream("/v3/watch", {"create_request": {
        "key": key("leader"), "range_end": "", "filters": [],
        "start_revision": str(int(found["header"]["revision"]) + 1)}}, 1)
    web.ask("/v3/kv/txn", {
        "compare": [{"key": key("leader"), "target": "VALUE", "value": b64("pg1")}],
        "success": [{"request_delete_range": {"key": key("leader")}}]})
    t.note("watch", watch.readline().decode())
    watch.connection.close()
    web.ask("/v3/lease/keepalive", {"ID": "4712"})
    web.ask("/v3/kv/put", {"key": key("x"), "lease": "4712"})
    web.ask("/v3/kv/deleterange", {"key": key(""), "range_end": b64("/service/batman0")})

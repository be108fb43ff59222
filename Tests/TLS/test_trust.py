"""Who is let in, who is not, and what changes while the server runs."""

import os
import select
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import paths
from harness.server import free_ports
from pki import Authority, Pair
from secure import SecureServer, etcdctl, eventually, server_flags, works


@pytest.fixture(scope="module", autouse=True)
def silent(server: SecureServer) -> Iterator[tuple[socket.socket, float]]:
    """A client that connects before all others and never says a word."""
    with socket.create_connection(("127.0.0.1", server.client_port), 30) as connection:
        yield connection, time.monotonic()


def test_a_client_with_a_certificate_works(
        server: SecureServer, authority: Authority, client_pair: Pair) -> None:
    for binary in (paths.ETCDCTL, paths.ETCDCTL_34):
        put = etcdctl(server, "put", "k", "v", ca=authority.ca, client=client_pair, binary=binary)
        assert put.stdout == "OK\n", put.stderr
        get = etcdctl(server, "get", "k", ca=authority.ca, client=client_pair, binary=binary)
        assert get.stdout == "k\nv\n", get.stderr


def test_without_a_certificate_nobody_gets_in(server: SecureServer, authority: Authority) -> None:
    assert not works(etcdctl(server, "get", "k", ca=authority.ca))
    server.await_log("rejected connection on client endpoint")


def test_a_certificate_of_another_authority_is_refused(
        server: SecureServer, authority: Authority, own_folder: Path) -> None:
    stranger = Authority(own_folder, "ec").issue("client")
    assert not server.answers(stranger)
    assert eventually(lambda: "certificate refused" in server.log_text())


def test_a_client_checks_the_servers_name(authority: Authority, client_pair: Pair) -> None:
    pair = authority.issue("elsewhere", "DNS:elsewhere.example,IP:10.9.9.9")
    with SecureServer(authority, client_pair, server_flags(authority, pair)) as server:
        server.spawn()
        assert eventually(lambda: "ready to serve" in server.log_text()
                          or socket_answers(server))
        result = etcdctl(server, "get", "k", ca=authority.ca, client=client_pair)
        assert not works(result) and "valid for" in result.stderr


def socket_answers(server: SecureServer) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.client_port)) == 0


@pytest.mark.parametrize("offers,chosen", [
    (["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), ([], None),
])
def test_alpn(server: SecureServer, offers: list[str], chosen: str | None) -> None:
    context = server.context()
    if offers:
        context.set_alpn_protocols(offers)
    with context.wrap_socket(socket.create_connection(("127.0.0.1", server.client_port), 5),
                             server_hostname="localhost") as connection:
        assert connection.selected_alpn_protocol() == chosen
        if chosen != "h2":
            connection.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            pieces = []
            while piece := connection.recv(4096):
                pieces.append(piece)
            assert b'"etcdserver"' in b"".join(pieces)


def test_large_values_travel_whole(
        server: SecureServer, authority: Authority, client_pair: Pair) -> None:
    value = "x" * 100_000
    for number in range(8):
        assert works(etcdctl(server, "put", f"large/{number}", value, ca=authority.ca,
                             client=client_pair))
    get = etcdctl(server, "get", "--prefix", "large/", ca=authority.ca, client=client_pair)
    assert get.stdout.count(value) == 8


# What goes wrong on a port


def test_plain_text_on_a_port_with_tls(server: SecureServer) -> None:
    for request in (b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.client_port), 5) as connection:
            connection.sendall(request)
            assert connection.recv(100) == b""
    assert eventually(lambda: "does not speak TLS" in server.log_text())
    assert server.http("/health")[0] == 200


def test_the_log_of_refused_clients_stays_short(server: SecureServer) -> None:
    before = server.log_text().count("does not speak TLS")
    start = time.monotonic()
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", server.client_port), 5) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            connection.recv(100)
    seconds = time.monotonic() - start
    lines = server.log_text().count("does not speak TLS") - before
    assert lines <= 5 * (seconds + 2)


def test_tls_on_a_port_in_clear_text(authority: Authority, server_pair: Pair) -> None:
    (plain,) = free_ports(1)
    flags = server_flags(authority, server_pair, demands=False)
    with SecureServer(authority, None, flags) as server:
        server.flags += ["--listen-client-urls", f"{server.endpoint},http://127.0.0.1:{plain}"]
        server.start()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server.context().wrap_socket(
                socket.create_connection(("127.0.0.1", plain), 5), server_hostname="localhost")
        assert eventually(lambda: "speaks TLS and this listener does not" in server.log_text())
        assert works(etcdctl(server, "put", "a", "b", endpoint=f"http://127.0.0.1:{plain}"))
        assert etcdctl(server, "get", "a", ca=authority.ca).stdout == "a\nb\n"


# What files say, and what they come to say


@pytest.fixture
def files(authority: Authority, server_pair: Pair, tmp_path: Path) -> Pair:
    """Copies of the server's certificate and key that a test may change."""
    for source, name in ((server_pair.crt, "s.crt"), (server_pair.key, "s.key"),
                         (authority.ca, "ca.crt")):
        shutil.copy(source, tmp_path / name)
    return Pair(str(tmp_path / "s.crt"), str(tmp_path / "s.key"))


def serial(server: SecureServer) -> str:
    with server.context().wrap_socket(
            socket.create_connection(("127.0.0.1", server.client_port), 5),
            server_hostname="localhost") as connection:
        return connection.getpeercert()["serialNumber"]


def replace(path: str, source: str) -> None:
    shutil.copy(source, path + ".new")
    os.rename(path + ".new", path)


def test_certificates_are_read_again(
        authority: Authority, client_pair: Pair, files: Pair) -> None:
    with SecureServer(authority, client_pair, server_flags(authority, files)) as server:
        first = serial(server.start())
        with server.context().wrap_socket(
                socket.create_connection(("127.0.0.1", server.client_port), 5),
                server_hostname="localhost") as kept:
            fresh = authority.issue("fresh", "DNS:localhost,IP:127.0.0.1")
            # Half a change cannot be used: certificate and key do not belong together.
            replace(files.crt, fresh.crt)
            assert eventually(lambda: "cannot be used; the old ones" in server.log_text())
            assert serial(server) == first
            replace(files.key, fresh.key)
            assert eventually(lambda: serial(server) != first, 5)
            kept.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"etcdserver" in kept.recv(4096)
        Path(files.crt).write_text("nonsense")
        assert eventually(lambda: server.log_text().count("the old ones go on serving") == 2)
        assert server.http("/health")[0] == 200


def test_authorities_are_read_again(
        authority: Authority, server_pair: Pair, client_pair: Pair, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "ec")
    newcomer = other.issue("client")
    trusted = str(tmp_path / "trusted.crt")
    shutil.copy(authority.ca, trusted)
    flags = ["--cert-file", server_pair.crt, "--key-file", server_pair.key,
             "--trusted-ca-file", trusted]
    with SecureServer(authority, client_pair, flags) as server:
        server.start()
        assert not server.answers(newcomer)
        both = Path(authority.ca).read_text() + Path(other.ca).read_text()
        Path(trusted + ".new").write_text(both)
        os.rename(trusted + ".new", trusted)
        assert eventually(lambda: server.answers(newcomer), 5)
        assert server.answers(client_pair)


def test_a_revoked_client_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "ec")
    pair = authority.issue("server", "DNS:localhost,IP:127.0.0.1")
    kept, lost, early = (authority.issue(name) for name in ("kept", "lost", "early"))
    authority.revoke("early")
    flags = server_flags(authority, pair) + ["--client-crl-file", authority.crl]
    with SecureServer(authority, kept, flags) as server:
        server.start()
        assert not server.answers(early)
        assert server.answers(lost)
        authority.revoke("lost")
        assert eventually(lambda: not server.answers(lost), 5)
        assert eventually(lambda: "is revoked" in server.log_text())
        assert not works(etcdctl(server, "get", "k", ca=authority.ca, client=lost))
        assert works(etcdctl(server, "get", "k", ca=authority.ca, client=kept))


def test_client_names_that_are_allowed(authority: Authority, server_pair: Pair) -> None:
    allowed = authority.issue("allowed", "DNS:patroni.example")
    other = authority.issue("other", "DNS:other.example")
    flags = server_flags(authority, server_pair)
    flags += ["--client-cert-allowed-hostname", "patroni.example,second.example"]
    with SecureServer(authority, allowed, flags) as server:
        server.start()
        assert server.answers(allowed)
        assert not server.answers(other)


def test_a_certificate_stands_for_a_user(
        authority: Authority, server_pair: Pair, client_pair: Pair) -> None:
    """The common name, over gRPC, with --client-cert-auth; a gateway's caller needs a token."""
    root = authority.issue("root")
    stranger = authority.issue("stranger")
    with SecureServer(authority, client_pair, server_flags(authority, server_pair)) as server:
        server.start()
        for line in ("user add root:secret", "role add own", "user add patroni --no-password",
                     "role grant-permission own readwrite k", "user grant-role patroni own",
                     "user grant-role root root", "auth enable"):
            result = etcdctl(server, *line.split(), ca=authority.ca, client=root)
            assert works(result), line + result.stderr
        put = etcdctl(server, "put", "k", "v", ca=authority.ca, client=client_pair)
        assert put.stdout == "OK\n", put.stderr
        other = etcdctl(server, "put", "other", "v", ca=authority.ca, client=client_pair)
        assert "permission denied" in other.stderr
        assert works(etcdctl(server, "put", "other", "v", ca=authority.ca, client=root))
        denied = etcdctl(server, "get", "k", ca=authority.ca, client=stranger)
        assert not works(denied)
        request = urllib.request.Request(
            server.endpoint + "/v3/kv/range", data=b'{"key":"aw=="}', method="POST")
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, context=server.context(), timeout=5)
        assert b"CommonName of client sending a request against gateway" in refusal.value.read()


@pytest.mark.parametrize("flags,version,is_served", [
    (["--tls-min-version", "TLS1.3"], ssl.TLSVersion.TLSv1_2, False),
    (["--tls-max-version", "TLS1.2"], ssl.TLSVersion.TLSv1_2, True),
    (["--tls-max-version", "TLS1.2"], ssl.TLSVersion.TLSv1_3, False),
    (["--cipher-suites", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"], ssl.TLSVersion.TLSv1_2, True),
])
def test_versions_and_suites(authority: Authority, server_pair: Pair, flags: list[str],
                             version: ssl.TLSVersion, is_served: bool) -> None:
    flags = server_flags(authority, server_pair, demands=False) + flags
    with SecureServer(authority, None, flags) as server:
        server.start()
        context = server.context()
        context.minimum_version = context.maximum_version = version
        try:
            with context.wrap_socket(
                    socket.create_connection(("127.0.0.1", server.client_port), 5),
                    server_hostname="localhost") as connection:
                served, suite = True, connection.cipher()[0]
        except ssl.SSLError:
            served, suite = False, ""
        assert served == is_served
        if "--cipher-suites" in flags:
            assert suite == "ECDHE-RSA-AES256-GCM-SHA384"


def test_a_client_that_says_nothing_is_sent_away(
        server: SecureServer, silent: tuple[socket.socket, float]) -> None:
    connection, since = silent
    if time.monotonic() - since < 8:
        assert not select.select([connection], [], [], 0)[0]
    assert connection.recv(100) == b""
    assert time.monotonic() - since > 8
    server.await_log("handshake timed out")

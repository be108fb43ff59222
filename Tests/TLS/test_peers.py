"""TLS between members: of both kinds, and with whom not."""

import base64
import json
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import paths
from members import Member, cluster
from pki import Authority, Pair
from secure import etcdctl, eventually, works

NAMES = "DNS:localhost,IP:127.0.0.1"


@pytest.fixture(scope="module", name="ca")
def peer_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("peers") / "ca", "ec")


@pytest.fixture(scope="module", name="client")
def etcdctl_pair(ca: Authority) -> Pair:
    return ca.issue("etcdctl")


def put(member: Member, key: str, value: str) -> bool:
    return works(etcdctl(member, "put", key, value, ca=member.authority.ca, client=member.client))


def post(member: Member, key: str, value: str) -> None:
    """A put over the gateway, which costs no process."""
    def text(word: str) -> str:
        return base64.b64encode(word.encode()).decode()

    body = json.dumps({"key": text(key), "value": text(value)}).encode()
    request = urllib.request.Request(f"{member.endpoint}/v3/kv/put", data=body, method="POST")
    with urllib.request.urlopen(request, context=member.context(), timeout=5) as answer:
        assert answer.status == 200


def get(member: Member, key: str) -> str:
    return etcdctl(member, "get", key, "--print-value-only", ca=member.authority.ca,
                   client=member.client).stdout.strip()


@pytest.mark.parametrize("kinds", [
    [paths.MARTLET, paths.MARTLET, paths.ETCD], [paths.ETCD, paths.ETCD, paths.MARTLET],
], ids=["one-etcd", "two-etcd"])
def test_members_of_both_kinds(kinds: list[str], ca: Authority, client: Pair) -> None:
    pairs = [ca.issue(f"both{number}", NAMES) for number in range(3)]
    members = [Member(ca, pair, client, f"m{number}", kind)
               for number, (pair, kind) in enumerate(zip(pairs, kinds))]
    with cluster(members):
        for number, member in enumerate(members):
            assert put(member, f"k{number}", f"v{number}"), member.log_tail()
        for member in members:
            assert [get(member, f"k{number}") for number in range(3)] == ["v0", "v1", "v2"]
        members[0].stop()
        assert eventually(lambda: put(members[1], "later", "v"), 20)
        members[0].start()
        assert eventually(lambda: get(members[0], "later") == "v", 20)


@pytest.fixture(name="misnamed")
def cluster_with_a_wrong_certificate(ca: Authority, client: Pair) -> Iterator[list[Member]]:
    """The last member's port is found in order; what it calls with is not."""
    good = [ca.issue(f"good{number}", NAMES) for number in range(2)]
    bad = ca.issue("bad", "DNS:elsewhere.invalid,IP:10.9.9.9")
    members = [Member(ca, pair, client, f"m{number}")
               for number, pair in enumerate([*good, good[0]])]
    members[2].flags = ["--peer-client-cert-file", bad.crt, "--peer-client-key-file", bad.key]
    with cluster(members):
        yield members


def test_a_member_whose_certificate_names_another_address(misnamed: list[Member]) -> None:
    """Two of three agree; nobody takes the third's calls."""
    assert put(misnamed[0], "k", "v")
    assert eventually(lambda: "rejected connection on peer endpoint" in misnamed[0].log_text()
                      and "does not match any of its DNS names" in misnamed[0].log_text(), 20)


def test_a_leader_that_may_not_open_streams(misnamed: list[Member]) -> None:
    """What the others send it goes by single requests: all of them take puts."""
    def status(member: Member) -> dict:
        answer = etcdctl(member, "endpoint", "status", "-w", "json", ca=member.authority.ca,
                         client=member.client)
        return json.loads(answer.stdout)[0]["Status"]

    last = status(misnamed[2])["header"]["member_id"]
    leads = {status(member)["header"]["member_id"]: member for member in misnamed}
    leader = leads[status(misnamed[0])["leader"]]
    if leader is not misnamed[2]:
        assert works(etcdctl(leader, "move-leader", f"{last:x}", ca=leader.authority.ca,
                             client=leader.client))
    for number, member in enumerate(misnamed):
        assert put(member, f"k{number}", "v"), member.log_tail()
        assert status(member)["leader"] == last
    for member in misnamed:
        assert [get(member, f"k{number}") for number in range(3)] == ["v"] * 3


def test_a_member_of_another_authority(ca: Authority, client: Pair, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "ec")
    pairs = [ca.issue(f"own{number}", NAMES) for number in range(2)]
    members = [Member(ca, pair, client, f"m{number}") for number, pair in enumerate(pairs)]
    stranger = Member(ca, pairs[0], client, "m2")
    pair = other.issue("stranger", NAMES)
    stranger.flags = ["--peer-cert-file", pair.crt, "--peer-key-file", pair.key,
                      "--peer-trusted-ca-file", other.ca]
    with cluster([*members, stranger], waits=False):
        for member in members:
            member.wait_ready()
        assert put(members[0], "k", "v")
        assert eventually(lambda: "rejected connection on peer endpoint" in members[0].log_text())


@pytest.mark.parametrize("allowed,works_out", [("member", True), ("nobody", False)])
def test_common_names_that_peers_must_have(
        allowed: str, works_out: bool, ca: Authority, client: Pair) -> None:
    pairs = [ca.issue(f"named{number}", NAMES, common_name="member") for number in range(3)]
    members = [Member(ca, pair, client, f"m{number}", flags=["--peer-cert-allowed-cn", allowed])
               for number, pair in enumerate(pairs)]
    with cluster(members, waits=works_out):
        if works_out:
            assert put(members[0], "k", "v")
        else:
            assert eventually(lambda: "is not allowed" in members[0].log_text(), 20)


def test_members_with_certificates_of_their_own_making(ca: Authority, client: Pair) -> None:
    pair = ca.issue("port", NAMES)
    members = [Member(ca, pair, client, f"m{number}") for number in range(3)]
    for member in members:
        line = member.arguments

        def arguments(line=line) -> list[str]:
            words = line()
            return [*words[:words.index("--peer-client-cert-auth")], "--peer-auto-tls"]

        member.arguments = arguments
    with cluster(members):
        assert put(members[1], "k", "v")
        assert get(members[2], "k") == "v"


def test_the_peer_port_speaks_http1_alone(ca: Authority, client: Pair) -> None:
    pair = ca.issue("single", NAMES)
    with cluster([Member(ca, pair, client, "m0")]) as (member,):
        context = member.context(client)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with context.wrap_socket(
                socket.create_connection(("127.0.0.1", member.peer_port), 5),
                server_hostname="localhost") as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"
            connection.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"etcdserver" in connection.recv(4096)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            without = ssl.create_default_context(cafile=ca.ca)
            with without.wrap_socket(
                    socket.create_connection(("127.0.0.1", member.peer_port), 5),
                    server_hostname="localhost") as connection:
                connection.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
                if not connection.recv(4096):
                    raise ConnectionError


def test_a_snapshot_travels_over_tls(ca: Authority, client: Pair) -> None:
    """A member that was away longer than the log reaches back."""
    pairs = [ca.issue(f"snap{number}", NAMES) for number in range(3)]
    flags = ["--snapshot-count=20", "--experimental-snapshot-catchup-entries=5"]
    members = [Member(ca, pair, client, f"m{number}", flags=flags)
               for number, pair in enumerate(pairs)]
    with cluster(members):
        members[2].stop()
        value = "x" * 10_000
        for number in range(60):
            post(members[0], f"k{number}", value)
        members[2].start()
        assert eventually(lambda: get(members[2], "k59") == value, 20), members[2].log_tail()
        assert eventually(lambda: any(
            "sent database snapshot" in member.log_text() for member in members[:2]))

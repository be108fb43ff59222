"""Members that speak TLS with each other, of either kind."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from harness.protos import messages
from pki import Authority, Pair
from secure import eventually

sys.path.append(str(Path(__file__).parent.parent / "Cluster"))
from cluster import Cluster, Member, wait_until  # noqa: E402

NAMES = "DNS:localhost,IP:127.0.0.1"
ENTRIES = 5300  # more than the 5000 that a leader keeps behind a snapshot


def secure(member: Member, flags: list[str]) -> Member:
    """Its peer URL is https from now on."""
    member.peer_url = member.peer_url.replace("http:", "https:")
    member.initial = f"{member.name}={member.peer_url}"
    member.flags += flags
    return member


def peer_flags(authority: Authority, pair: Pair) -> list[str]:
    return ["--peer-cert-file", pair.crt, "--peer-key-file", pair.key,
            "--peer-client-cert-auth", "--peer-trusted-ca-file", authority.ca]


def secured(kinds: list[str], flags: list[list[str]], more: list[str] | None = None) -> Cluster:
    """`flags`: each member's own."""
    cluster = Cluster(kinds, flags=more)
    for member, own in zip(cluster.members, flags):
        secure(member, own)
    initial = ",".join(member.initial for member in cluster.members)
    for member in cluster.members:
        member.initial = initial
    return cluster


def add(cluster: Cluster, kind: str, number: int, flags: list[str]) -> Member:
    member = secure(Member(kind, number, None, list(cluster.flags)), flags)
    request = messages().rpc.MemberAddRequest(peerURLs=[member.peer_url])
    cluster.change(lambda each: each.client.cluster.MemberAdd(request, timeout=10))
    cluster.members.append(member)
    member.initial = ",".join(f"{each.name}={each.peer_url}" for each in cluster.members)
    member.state = "existing"
    member.spawn()
    return member


def fill(member: Member, count: int) -> None:
    m = messages().rpc
    for start in range(0, count, 500):
        flying = [member.client.kv.Put.future(
            m.PutRequest(key=f"f{n % 500}".encode(), value=b"v" * 50), timeout=30)
            for n in range(start, min(start + 500, count))]
        for each in flying:
            each.result()


def lines(member: Member, text: str) -> list[dict]:
    return [json.loads(line) for line in member.log_text().splitlines()
            if text in line and line.startswith("{")]


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> Iterator[list[Pair]]:
    yield [authority.issue(f"m{n}", NAMES, common_name="etcd-peer") for n in range(1, 4)]


def test_certificates_that_the_members_make() -> None:
    """--peer-auto-tls: what is made names no authority and is not looked at."""
    with secured(["martlet"] * 3, [["--auto-tls", "--peer-auto-tls"]] * 3) as cluster:
        cluster.start()
        for member in cluster.members:
            member.put(member.name, "v")
            cluster.move_leader(member)
        cluster.check_hashes()


@pytest.mark.parametrize("kinds", [["martlet", "martlet", "etcd"], ["etcd", "etcd", "martlet"]],
                         ids="-".join)
def test_members_of_both_kinds(authority: Authority, pairs: list[Pair], kinds: list[str]) -> None:
    with secured(kinds, [peer_flags(authority, pair) for pair in pairs]) as cluster:
        cluster.start()
        for leader in cluster.members:
            cluster.move_leader(leader)
            for member in cluster.members:
                member.put(f"{leader.name}-{member.name}", "v" * 100_000)
        cluster.check_hashes()
        victim = cluster.members[0]
        victim.stop()
        cluster.leader()
        cluster.running()[0].put("meanwhile", "v")
        victim.start()
        cluster.check_hashes()
        assert victim.get("meanwhile") == "v"


@pytest.mark.parametrize("first,second", [
    ("martlet", "martlet"), ("martlet", "etcd"), ("etcd", "martlet")])
def test_snapshots_between_members(
        authority: Authority, pairs: list[Pair], first: str, second: str) -> None:
    """A member joins that the log no longer reaches back for: its state comes by TLS."""
    with secured([first], [peer_flags(authority, pairs[0])], ["--snapshot-count=200"]) as cluster:
        cluster.start()
        fill(cluster.members[0], ENTRIES)
        new = add(cluster, second, 2, peer_flags(authority, pairs[1]))
        new.wait_ready()
        if second == "martlet":
            new.await_log("received and saved database snapshot")
        else:
            cluster.members[0].await_log("sent database snapshot")
        cluster.check_hashes()
        new.put("after", "v")
        cluster.check_hashes()


@pytest.mark.parametrize("kind", ["martlet", "etcd"])
def test_a_member_with_another_common_name(
        authority: Authority, pairs: list[Pair], kind: str) -> None:
    """It is kept out, the others go on, and the log says why without flooding."""
    wrong = authority.issue(f"wrong-{kind}", NAMES, common_name="stranger")
    allowed = ["--peer-cert-allowed-cn", "etcd-peer"]
    own = [peer_flags(authority, pairs[0]) + allowed, peer_flags(authority, pairs[1]) + allowed,
           peer_flags(authority, wrong)]
    with secured(["martlet", "martlet", kind], own) as cluster:
        for member in cluster.members:
            member.spawn()
        for member in cluster.members[:2]:
            member.wait_ready()
        good = cluster.members[0]
        good.put("a", "b")
        said = "rejected connection on peer endpoint"
        assert eventually(lambda: any(
            'the common name "stranger" is not allowed' in line["error"]
            for line in lines(good, said))), good.log_tail()
        time.sleep(3)
        assert len(lines(good, said)) <= 6
        with pytest.raises(grpc.RpcError):
            cluster.members[2].put("c", "d", timeout=1)


def test_a_name_that_is_not_the_callers(authority: Authority, pairs: list[Pair]) -> None:
    """Its certificate is good, but for another address."""
    elsewhere = authority.issue("elsewhere", "IP:192.0.2.1")
    own = [peer_flags(authority, pairs[0]), peer_flags(authority, pairs[1]),
           peer_flags(authority, pairs[2])
           + ["--peer-client-cert-file", elsewhere.crt, "--peer-client-key-file", elsewhere.key]]
    with secured(["martlet"] * 3, own) as cluster:
        for member in cluster.members:
            member.spawn()
        for member in cluster.members[:2]:
            member.wait_ready()
        assert eventually(lambda: any(
            "valid for 192.0.2.1, not 127.0.0.1" in line["error"] for line in
            lines(cluster.members[0], "rejected connection on peer endpoint")))


def test_a_dialled_host_that_its_certificate_does_not_name(
        authority: Authority, pairs: list[Pair]) -> None:
    elsewhere = authority.issue("elsewhere2", "IP:192.0.2.1")
    # A certificate of its own for calls, so that only the one it serves with is wrong.
    own = [peer_flags(authority, pairs[0]), peer_flags(authority, pairs[1]),
           peer_flags(authority, elsewhere)
           + ["--peer-client-cert-file", pairs[2].crt, "--peer-client-key-file", pairs[2].key]]
    with secured(["martlet"] * 3, own) as cluster:
        for member in cluster.members:
            member.spawn()
        for member in cluster.members[:2]:
            member.wait_ready()
        first, last = cluster.members[0], cluster.members[2]
        assert eventually(lambda: any(
            "IP address mismatch" in line["error"] and line["url"] == last.peer_url
            for line in lines(first, "a peer cannot be called over TLS")))
        time.sleep(3)
        assert len(lines(first, "a peer cannot be called over TLS")) <= 6


def test_renewal_and_revocation(pairs: list[Pair], tmp_path: Path) -> None:
    """The files are read again; a member whose certificate is revoked stays out when it comes."""
    authority = Authority(tmp_path / "ca")
    own = [authority.issue(f"m{n}", NAMES) for n in range(1, 4)]
    authority.revoke()
    flags = [[*peer_flags(authority, pair), "--peer-crl-file", authority.crl] for pair in own]
    with secured(["martlet"] * 3, flags) as cluster:
        cluster.start()
        before = Path(own[0].crt).read_text()
        authority.issue("m1", NAMES)
        assert Path(own[0].crt).read_text() != before
        first, last = cluster.members[0], cluster.members[2]
        said = "TLS files were read again"
        assert eventually(lambda: said in first.log_text())
        count = first.log_text().count(said)
        authority.revoke("m3")
        assert eventually(lambda: first.log_text().count(said) > count)
        shown = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{first.peer_port}", "-cert",
             own[1].crt, "-key", own[1].key], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=10).stdout
        assert Path(own[0].crt).read_text().strip() in shown
        last.stop()
        last.spawn()
        assert eventually(lambda: any("is revoked" in line["error"] for line in lines(
            first, "rejected connection on peer endpoint")))
        cluster.leader([first, cluster.members[1]])
        first.put("a", "b")


def test_plain_and_secure_members_do_not_mix(authority: Authority, pairs: list[Pair]) -> None:
    """Each side says what is wrong, a few times."""
    with secured(["martlet"] * 2, [peer_flags(authority, pair) for pair in pairs[:2]]) as cluster:
        cluster.start()
        member = cluster.members[0]
        address = f"127.0.0.1:{member.peer_port}"
        for _ in range(20):
            subprocess.run(["curl", "--silent", "--max-time", "2", f"http://{address}/version"],
                           capture_output=True)
        said = lines(member, "the other side does not speak TLS")
        assert 1 <= len(said) <= 6 and said[0]["msg"] == "rejected connection on peer endpoint"
        assert said[0]["remote-addr"].startswith("127.0.0.1:")
        pair = pairs[2]
        answer = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "5", "--cacert", authority.ca,
             "--cert", pair.crt, "--key", pair.key, f"https://{address}/members"],
            capture_output=True, text=True)
        assert len(json.loads(answer.stdout)) == 2, answer.stderr
    with Cluster(["martlet"]) as cluster:
        cluster.start()
        member = cluster.members[0]
        for _ in range(20):
            subprocess.run(["curl", "--silent", "--insecure", "--max-time", "2",
                            f"https://127.0.0.1:{member.peer_port}/version"], capture_output=True)
        said = lines(member, "the member speaks TLS and this listener does not")
        assert 1 <= len(said) <= 6


@pytest.mark.parametrize("kinds", [["martlet"] * 3, ["martlet", "martlet", "etcd"]], ids="-".join)
@pytest.mark.parametrize("scheme", ["unix", "unixs"])
def test_members_on_unix_sockets(
        authority: Authority, pairs: list[Pair], scheme: str, kinds: list[str],
        tmp_path: Path) -> None:
    """Their names are those of files in the directory that the members run in."""
    flags = [peer_flags(authority, pair) for pair in pairs]
    with secured(kinds, flags if scheme == "unixs" else [[]] * 3) as cluster:
        for member in cluster.members:
            member.peer_url = f"{scheme}://localhost:{member.peer_port}"
        initial = ",".join(f"{each.name}={each.peer_url}" for each in cluster.members)
        for member in cluster.members:
            member.initial = initial
            # All in one directory: that of the first.
            shutil.rmtree(member.home, ignore_errors=True)
            member.home = tmp_path
            member.log = tmp_path / f"{member.name}.log"
            member.data_dir = tmp_path / member.name
        cluster.start()
        for member in cluster.members:
            cluster.move_leader(member)
            member.put(member.name, "v")
        cluster.check_hashes()


def test_silence_on_a_peer_port_ends(authority: Authority, pairs: list[Pair]) -> None:
    with secured(["martlet"], [peer_flags(authority, pairs[0])]) as cluster:
        cluster.start()
        member = cluster.members[0]
        with socket.create_connection(("127.0.0.1", member.peer_port)) as silent:
            silent.settimeout(13)
            assert silent.recv(1) == b""
        member.await_log("TLS handshake timed out")
        wait_until(member.leads, "it serves")

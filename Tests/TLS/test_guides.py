"""Set-ups as guides tell operators to make them, with the very commands."""

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import paths
from harness.server import Server, clean_environment, free_ports
from members import Member, cluster
from pki import Authority, Pair
from secure import SecureServer, etcdctl, eventually, works


def test_three_members_over_tls_from_flags(tmp_path: Path) -> None:
    """RSA-4096 certificates with IP and DNS names, one for each member and one for etcdctl."""
    authority = Authority(tmp_path / "ca", "rsa:4096")
    names = ["etcd-1", "etcd-2", "etcd-3"]
    wanted = {name: f"DNS:{name},DNS:localhost,IP:127.0.0.1" for name in names}
    *pairs, client = authority.issue_all(wanted | {"etcdctl": ""})
    members = [Member(authority, pair, client, name) for name, pair in zip(names, pairs)]
    with cluster(members):
        endpoints = ",".join(member.endpoint for member in members)
        health = etcdctl(members[0], "endpoint", "health", ca=authority.ca, client=client,
                         endpoint=endpoints)
        assert health.returncode == 0, health.stderr
        assert (health.stdout + health.stderr).count("is healthy") == 3
        table = etcdctl(members[0], "member", "list", "--write-out=table", ca=authority.ca,
                        client=client, endpoint=endpoints).stdout
        for member in members:
            assert re.search(rf"started \|\s+{member.name} \| {member.peer_url} \| "
                             rf"{member.endpoint} ", table), table


def test_certificates_that_the_server_makes(tmp_path: Path) -> None:
    """--auto-tls --peer-auto-tls with https and http listeners side by side."""
    secure, plain, peer = free_ports(3)
    line = [
        paths.MARTLET, "--name", "m1", "--data-dir", str(tmp_path / "data"), "--auto-tls",
        "--peer-auto-tls", "--self-signed-cert-validity=2",
        "--listen-client-urls", f"https://127.0.0.1:{secure},http://127.0.0.1:{plain}",
        "--advertise-client-urls", f"https://127.0.0.1:{secure}",
        "--listen-peer-urls", f"https://127.0.0.1:{peer}",
        "--initial-advertise-peer-urls", f"https://127.0.0.1:{peer}",
        "--initial-cluster", f"m1=https://127.0.0.1:{peer}",
    ]
    certificate = tmp_path / "data" / "fixtures" / "client" / "cert.pem"
    made = []
    for _ in range(2):
        with Server(paths.MARTLET) as server:
            server.arguments = lambda: line
            server.client_port = plain
            server.start()
            https = etcdctl(server, "--insecure-transport=false", "--insecure-skip-tls-verify", "put",
                            "a", "b", endpoint=f"https://127.0.0.1:{secure}")
            assert https.stdout == "OK\n", https.stderr
            assert etcdctl(server, "get", "a").stdout == "a\nb\n"
            server.stop()
        made.append(certificate.read_text())
    assert made[0] == made[1], "the certificate was made anew"
    assert (certificate.parent / "key.pem").stat().st_mode & 0o777 == 0o600
    text = subprocess.run(["openssl", "x509", "-noout", "-text", "-in", str(certificate)],
                          capture_output=True, text=True, check=True).stdout
    assert "IP Address:127.0.0.1" in text and "O = etcd" in text and "secp521r1" in text
    assert (tmp_path / "data" / "fixtures" / "peer" / "cert.pem").exists()


CONFIG = """
name: '{name}'
data-dir: {data}
wal-dir: ''
initial-cluster: '{name}=https://127.0.0.1:{peer}'
initial-cluster-state: 'new'
initial-cluster-token: 'etcd-meta'
listen-peer-urls: https://127.0.0.1:{peer}
initial-advertise-peer-urls: https://127.0.0.1:{peer}
listen-client-urls: https://127.0.0.1:{client}
advertise-client-urls: https://127.0.0.1:{client}

client-transport-security:
  cert-file: {pair.crt}
  key-file: {pair.key}
  client-cert-auth: true
  trusted-ca-file: {ca}
  auto-tls: false
peer-transport-security:
  cert-file: {pair.crt}
  key-file: {pair.key}
  client-cert-auth: true
  trusted-ca-file: {ca}
  auto-tls: false

heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 17179869184
auto-compaction-mode: {mode}
auto-compaction-retention: "{retention}"
snapshot-count: 100000
log-level: info
log-outputs: [stderr]
enable-v2: false
strict-reconfig-check: false
max-snapshots: 5
max-wals: 5
"""


class ConfiguredServer(SecureServer):
    """Everything from one file."""

    def __init__(self, authority: Authority, pair: Pair, client: Pair, mode: str, retention: str):
        super().__init__(authority, client)
        (self.home / "etcd.conf").write_text(CONFIG.format(
            name=self.name, data=self.data_dir, peer=self.peer_port, client=self.client_port,
            pair=pair, ca=authority.ca, mode=mode, retention=retention))

    def arguments(self) -> list[str]:
        return [self.binary, f"--config-file={self.home / 'etcd.conf'}"]


def run(server: SecureServer, *arguments: str) -> subprocess.CompletedProcess:
    """etcdctl with everything from the environment."""
    environment = clean_environment() | {
        "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": server.endpoint,
        "ETCDCTL_CACERT": server.authority.ca, "ETCDCTL_CERT": server.client.crt,
        "ETCDCTL_KEY": server.client.key,
    }
    return subprocess.run([paths.ETCDCTL, *arguments], capture_output=True, text=True, timeout=10,
                          env=environment)


def test_a_config_file_with_periodic_compaction(
        authority: Authority, server_pair: Pair, client_pair: Pair) -> None:
    with ConfiguredServer(authority, server_pair, client_pair, "periodic", "2s") as server:
        server.start()
        assert works(run(server, "endpoint", "health"))
        assert "etcd_server_quota_backend_bytes 17179869184" in server.http("/metrics")[1]
        first = int(re.search(r'"revision":(\d+)', run(server, "put", "k", "0", "-w", "json").stdout)[1])

        def is_compacted() -> bool:
            run(server, "put", "k", str(time.monotonic()))
            return "has been compacted" in run(server, "get", "k", f"--rev={first}").stderr

        assert eventually(is_compacted, 15), server.log_tail()
        assert "starting auto periodic compaction" in server.log_text()


def test_a_config_file_with_compaction_by_revision(
        authority: Authority, server_pair: Pair, client_pair: Pair) -> None:
    """It looks every five minutes, as etcd does: here only that it starts and serves."""
    with ConfiguredServer(authority, server_pair, client_pair, "revision", "1000") as server:
        server.start()
        for command in (["put", "a", "b"], ["endpoint", "status", "-w", "table"],
                        ["member", "list"], ["alarm", "list"]):
            assert works(run(server, *command)), command


GROWING = """
name: '{name}'
initial-cluster-token: PostgreSQL_HA_Cluster_1
initial-cluster-state: {state}
initial-cluster: {cluster}
data-dir: {data}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
listen-peer-urls: http://127.0.0.1:{peer}
advertise-client-urls: http://127.0.0.1:{client}
listen-client-urls: http://127.0.0.1:{client}
"""


class GrowingServer(Server):
    """A member whose file names those that were there before it."""

    def configure(self, state: str, cluster: str) -> None:
        (self.home / "etcd.conf.yaml").write_text(GROWING.format(
            name=self.name, state=state, cluster=cluster, data=self.data_dir,
            peer=self.peer_port, client=self.client_port))

    def arguments(self) -> list[str]:
        return [self.binary, "--config-file", str(self.home / "etcd.conf.yaml")]


def test_growing_from_one_member_to_three_by_config_files() -> None:
    """`member add` prints what the next member's file has to say."""
    servers = [GrowingServer(paths.MARTLET, name=f"node{number}", own_peer_url=True)
               for number in (1, 2, 3)]
    first = servers[0]
    try:
        first.configure("new", f"node1={first.peer_url}")
        first.start()
        for server in servers[1:]:
            # As in etcd, nobody is added until all have been connected for five seconds.
            line = ["member", "add", server.name, f"--peer-urls={server.peer_url}"]
            answers = []
            assert eventually(lambda: works(answers.append(etcdctl(first, *line)) or answers[-1]))
            added = answers[-1]
            printed = dict(re.findall(r'(ETCD_\w+)="(.*)"', added.stdout))
            server.configure(printed["ETCD_INITIAL_CLUSTER_STATE"],
                             printed["ETCD_INITIAL_CLUSTER"])
            server.start()
        listed = etcdctl(first, "member", "list").stdout
        assert listed.count("started") == 3, listed
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Server.close, servers))

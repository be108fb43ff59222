"""Set-ups as guides tell operators to make them, with the very commands."""

import os
import re
import shlex
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import paths
from harness.server import STARTUP_SECONDS_MAX, Server, clean_environment, free_ports
from pki import Authority, Pair
from secure import SecureServer, etcdctl, eventually, works


PKI = """
openssl genrsa -out ca.key 4096 &
for name in etcd-1 etcd-2 etcd-3 client; do openssl genrsa -out $name.key 4096 & done
wait
openssl req -x509 -new -nodes -key ca.key -sha256 -days 3650 -subj "/CN=etcd-ca" -out ca.crt
for name in etcd-1 etcd-2 etcd-3; do
  cat > $name.cnf <<EOF
[req]
distinguished_name = dn
req_extensions = v3_req
prompt = no
[dn]
CN = $name
[v3_req]
keyUsage = keyEncipherment, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = @alt_names
[alt_names]
DNS.1 = $name
DNS.2 = localhost
IP.1 = 127.0.0.1
EOF
  openssl req -new -key $name.key -config $name.cnf -out $name.csr
  openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days 365 \\
    -extensions v3_req -extfile $name.cnf -out $name.crt
done
openssl req -new -key client.key -subj "/CN=client" -out client.csr
openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days 365 \\
  -out client.crt
"""

UNIT = """
[Unit]
Description=etcd
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart={pki}/etcd \\
  --name {name} \\
  --data-dir {data} \\
  --initial-advertise-peer-urls https://127.0.0.1:{peer} \\
  --listen-peer-urls https://127.0.0.1:{peer} \\
  --advertise-client-urls https://127.0.0.1:{client} \\
  --listen-client-urls https://127.0.0.1:{client} \\
  --initial-cluster-token etcd-cluster-1 \\
  --initial-cluster {cluster} \\
  --initial-cluster-state new \\
  --client-cert-auth \\
  --trusted-ca-file {pki}/ca.crt \\
  --cert-file {pki}/{name}.crt \\
  --key-file {pki}/{name}.key \\
  --peer-client-cert-auth \\
  --peer-trusted-ca-file {pki}/ca.crt \\
  --peer-cert-file {pki}/{name}.crt \\
  --peer-key-file {pki}/{name}.key
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""

LOOK = """
FLAGS="--cacert=ca.crt --cert=client.crt --key=client.key"
etcdctl --endpoints=$ENDPOINTS $FLAGS endpoint health
etcdctl --endpoints=$ENDPOINTS $FLAGS endpoint status --write-out=table
etcdctl --endpoints=$ENDPOINTS $FLAGS member list --write-out=table
"""


class UnitServer(Server):
    """What a unit file starts; the binary is called `etcd` there."""

    def __init__(self, pki: Path, name: str):
        super().__init__(paths.MARTLET, name=name)
        self.pki = pki
        self.peer_url = f"https://127.0.0.1:{self.peer_port}"
        self.cluster = ""

    @property
    def endpoint(self) -> str:
        return f"https://{self.address}"

    def arguments(self) -> list[str]:
        unit = UNIT.format(pki=self.pki, name=self.name, data=self.data_dir, peer=self.peer_port,
                           client=self.client_port, cluster=self.cluster)
        return shlex.split(re.search(r"ExecStart=(.*)", unit.replace("\\\n", " "))[1])


def shell(script: str, folder: Path, **environment: str) -> str:
    """Runs a guide's commands; gives what they print."""
    tool = folder / "etcdctl"
    if not tool.exists():
        tool.symlink_to(shutil.which(paths.ETCDCTL))
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, text=True, timeout=240,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=clean_environment() | environment | {"PATH": f"{folder}:{os.environ['PATH']}"})
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_three_members_over_tls_from_a_unit_file(tmp_path: Path) -> None:
    """RSA-4096 certificates with IP and DNS names, one for each member and one for etcdctl."""
    shell(PKI, tmp_path)
    (tmp_path / "etcd").symlink_to(Path(paths.MARTLET).resolve())
    members = [UnitServer(tmp_path, f"etcd-{number}") for number in (1, 2, 3)]
    try:
        for member in members:
            member.cluster = ",".join(f"{each.name}={each.peer_url}" for each in members)
            member.spawn()
        for member in members:
            assert eventually(lambda: "ready to serve client requests" in member.log_text(),
                              STARTUP_SECONDS_MAX), member.log_tail()
        endpoints = ",".join(member.endpoint for member in members)
        printed = shell(LOOK, tmp_path, ENDPOINTS=endpoints, ETCDCTL_API="3")
        assert printed.count("is healthy") == 3
        assert len(re.findall(r"\|\s+true \|\s+false \|", printed)) == 1, printed
        for member in members:
            assert re.search(rf"started \|\s+{member.name} \| {member.peer_url} \| "
                             rf"{member.endpoint} ", printed), printed
    finally:
        for member in members:
            member.close()


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


PIGSTY = """
name: {name}
data-dir: {data}
initial-cluster-token: "etcd"
initial-cluster-state: "new"
initial-cluster: "{name}=https://127.0.0.1:{peer}"
initial-advertise-peer-urls: "https://127.0.0.1:{peer}"
listen-peer-urls: "https://127.0.0.1:{peer}"
listen-client-urls: "https://127.0.0.2:{client},https://127.0.0.1:{client}"
advertise-client-urls: "https://127.0.0.1:{client}"
election-timeout: 1000
heartbeat-interval: 100
quota-backend-bytes: 17179869184
auto-compaction-mode: {mode}
auto-compaction-retention: "{retention}"
client-transport-security:
  cert-file: "{pair.crt}"
  key-file:  "{pair.key}"
  trusted-ca-file: "{ca}"
peer-transport-security:
  cert-file: "{pair.crt}"
  key-file:  "{pair.key}"
  trusted-ca-file: "{ca}"
logger: zap
log-level: info
log-format: json
log-outputs:
  - "{data}.log"
enable-log-rotation: true
log-rotation-config-json: '{{"maxsize": 100, "maxage": 14, "maxbackups": 0, "compress": true}}'
"""


class ConfiguredServer(SecureServer):
    """Everything from one file."""

    def __init__(self, authority: Authority, pair: Pair, client: Pair, mode: str, retention: str,
                 config: str = CONFIG):
        super().__init__(authority, client)
        (self.home / "etcd.conf").write_text(config.format(
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
        server.await_log("starting auto periodic compaction")


def test_a_config_file_with_compaction_by_revision(
        authority: Authority, server_pair: Pair, client_pair: Pair) -> None:
    """It looks every five minutes, as etcd does: here only that it starts and serves."""
    with ConfiguredServer(authority, server_pair, client_pair, "revision", "1000") as server:
        server.start()
        for command in (["put", "a", "b"], ["endpoint", "status", "-w", "table"],
                        ["member", "list"], ["alarm", "list"]):
            assert works(run(server, *command)), command


def test_the_config_file_of_pigsty(authority: Authority, client_pair: Pair) -> None:
    """The authorities' file is enough for certificates to be demanded."""
    pair = authority.issue("etcd-1", "DNS:etcd-1,DNS:localhost,IP:127.0.0.1,IP:127.0.0.2")
    with ConfiguredServer(authority, pair, client_pair, "periodic", "24h", PIGSTY) as server:
        server.start()
        both = f"https://127.0.0.2:{server.client_port},{server.endpoint}"
        health = etcdctl(server, "endpoint", "health", ca=authority.ca, client=client_pair,
                         endpoint=both)
        assert (health.stdout + health.stderr).count("is healthy") == 2, health
        for command in (["endpoint", "health"], ["put", "a", "b"], ["get", "a"],
                        ["endpoint", "status", "-w", "table"], ["member", "list", "-w", "table"]):
            assert works(run(server, *command)), command
        assert not works(etcdctl(server, "get", "a", ca=authority.ca))
        assert "etcd_server_quota_backend_bytes 17179869184" in server.http("/metrics")[1]
        log = Path(f"{server.data_dir}.log").read_text()
        assert "ready to serve client requests" in log


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
        endpoints = ",".join(server.endpoint for server in servers)
        status = etcdctl(first, "endpoint", "status", "--write-out=table", endpoint=endpoints)
        assert all(f" {server.endpoint} " in status.stdout for server in servers), status
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Server.close, servers))

"""Flags, variables and files: what is refused, as etcd refuses it, and what a service manager
sees."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from harness import paths
from harness.server import Server, clean_environment, free_ports
from pki import Authority, Pair
from secure import SecureServer, server_flags

URL = "https://127.0.0.1:{port}"
PEER = ["--listen-peer-urls=http://127.0.0.1:{peer}",
        "--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        "--initial-cluster=default=http://127.0.0.1:{peer}"]
SECURE = [*PEER, "--listen-client-urls", URL, "--advertise-client-urls", URL]
PLAIN = [each.replace("https", "http") for each in SECURE]
GIVEN = ["--cert-file", "{crt}", "--key-file", "{key}"]

# Arguments and environment, exit code, and what both servers say.
REFUSALS = [
    (["--nonsense"], {}, 2, "flag provided but not defined: -nonsense"),
    (["---name"], {}, 2, "bad flag syntax: ---name"),
    (["stray"], {}, 1, "'stray' is not a valid flag"),
    (["--pre-vote", "false"], {}, 1, "'false' is not a valid flag"),
    (["--name"], {}, 2, "flag needs an argument: -name"),
    (["--max-wals", "many"], {}, 2, 'invalid value "many" for flag -max-wals: parse error'),
    (["--max-wals=-5"], {}, 2, 'invalid value "-5" for flag -max-wals: parse error'),
    (["--pre-vote=x"], {}, 2, 'invalid boolean value "x" for -pre-vote: parse error'),
    (["--quota-backend-bytes=1.5"], {}, 2, 'invalid value "1.5" for flag'),
    (["--grpc-keepalive-min-time=5"], {}, 2, 'invalid value "5" for flag'),
    (["--initial-cluster-state=old"], {}, 2, 'initial-cluster-state: invalid value'),
    (["--proxy=x"], {}, 2, 'invalid value "x" for flag -proxy: invalid value'),
    (["--listen-client-urls=nonsense"], {}, 2,
     "flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: nonsense"),
    (["--listen-client-urls=http://127.0.0.1:1/x"], {}, 2,
     "URL must not contain a path: http://127.0.0.1:1/x"),
    (["--listen-client-urls=http://127.0.0.1:1"], {}, 1,
     "--advertise-client-urls is required when --listen-client-urls is set explicitly"),
    (["--listen-peer-urls=http://example.com:1"], {}, 1, "expected IP in URL for binding"),
    (["--advertise-client-urls=http://:2379"], {}, 1, "unexpected empty host"),
    (["--heartbeat-interval=500"], {}, 1, r"--election-timeout\[1000ms\] should be at least as 5"),
    (["--election-timeout=60000"], {}, 1, r"--election-timeout\[60000ms\] is too long"),
    (["--logger=x"], {}, 1, 'unknown logger option .?"x'),
    (["--log-level=x"], {}, 2, 'unrecognized level: "x"'),
    (["--auto-compaction-mode=x"], {}, 1, 'unknown auto-compaction-mode .?"x'),
    (["--discovery=http://a", "--initial-cluster=default=http://localhost:2380"], {}, 1,
     "multiple discovery or bootstrap flags are set"),
    ([], {"ETCD_HEARTBEAT_INTERVAL": "abc"}, 1,
     'invalid value .?"abc.?" for ETCD_HEARTBEAT_INTERVAL: parse error'),
    (["--config-file=/nonexistent"], {}, 1, "open /nonexistent: no such file"),
    (SECURE, {}, 1, r"TLS key/cert \(--cert-file, --key-file\) must be provided for client url"),
    (SECURE + ["--cert-file=c"], {}, 1,
     r"KeyFile and CertFile must both be present\[key: , cert: c\]"),
    (SECURE + ["--cert-file=/no.crt", "--key-file=/no.key"], {}, 1, "open /no.crt: no such file"),
    (SECURE + ["--cert-file={crt}", "--key-file={other}"], {}, 1,
     "private key does not match public key"),
    (SECURE + GIVEN + ["--trusted-ca-file=/no.ca"], {}, 1, "open /no.ca: no such file"),
    (SECURE + GIVEN + ["--client-cert-file={crt}"], {}, 1,
     "ClientKeyFile and ClientCertFile must both be present or both absent"),
    (SECURE + GIVEN + ["--cipher-suites=x"], {}, 1, 'unexpected TLS cipher suite .?"x'),
    (SECURE + ["--auto-tls", "--self-signed-cert-validity=0"], {}, 1,
     "selfSignedCertValidity is invalid,it should be greater than 0"),
    (PLAIN + ["--peer-cert-file={crt}", "--peer-key-file={key}", "--peer-cert-allowed-cn=a",
             "--peer-cert-allowed-hostname=b"], {}, 1, "are mutually exclusive"),
]

# In a configuration file; etcd's words are Go's, ours name the key.
FILES = [
    ("name: [a\n", r"line \d+: did not find expected ',' or '\]'"),
    ("snapshot-count: abc\n", "snapshot-count"),
    ("log-outputs: {a: b}\n", "log-outputs"),
    ("name: x\nlisten-client-urls: foo\n", "listen-client-urls: URL scheme must be"),
    ("client-transport-security:\n  client-cert-auth: maybe\n", "client-cert-auth"),
    ("initial-cluster-state: foo\n", "foo"),
]


def start(binary: str, arguments: list[str], environment: dict[str, str], folder: Path
          ) -> tuple[int, str]:
    """Exit code and output of a server that is expected to refuse."""
    client, peer = free_ports(2)
    filled = [each.replace("{port}", str(client)).replace("{peer}", str(peer))
              for each in arguments]
    result = subprocess.run(
        [binary, *filled], capture_output=True, text=True, timeout=10, cwd=folder,
        stdin=subprocess.DEVNULL, env=clean_environment() | environment)
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module")
def other_key(authority: Authority) -> str:
    return authority.issue("unrelated").key


@pytest.mark.parametrize("arguments,environment,code,message", REFUSALS,
                         ids=lambda value: " ".join(value) if isinstance(value, list) else "")
@pytest.mark.parametrize("binary", [paths.MARTLET, paths.ETCD], ids=["martlet", "etcd"])
def test_what_is_refused(binary: str, arguments: list[str], environment: dict[str, str], code: int,
                         message: str, server_pair: Pair, other_key: str, tmp_path: Path) -> None:
    filled = [each.replace("{crt}", server_pair.crt).replace("{key}", server_pair.key)
              .replace("{other}", other_key) for each in arguments]
    found, text = start(binary, filled, environment, tmp_path)
    assert found == code, text
    assert re.search(message, text, re.IGNORECASE), text
    if binary == paths.MARTLET:
        assert len(text.splitlines()) <= 6, text
        assert not list(tmp_path.rglob("*.wal")), "a log was begun"


@pytest.mark.parametrize("content,message", FILES, ids=lambda value: value.split(":")[0])
@pytest.mark.parametrize("binary", [paths.MARTLET, paths.ETCD], ids=["martlet", "etcd"])
def test_what_is_refused_in_a_file(binary: str, content: str, message: str, tmp_path: Path
                                   ) -> None:
    (tmp_path / "c.yml").write_text(content)
    found, text = start(binary, [f"--config-file={tmp_path / 'c.yml'}"], {}, tmp_path)
    assert found == 1, text
    assert re.search(message, text, re.IGNORECASE), text


# etcd 3.5.1 does not have these flags yet.
@pytest.mark.parametrize("arguments,message", [
    (["--tls-min-version=TLS1.1"], 'unexpected TLS version "TLS1.1"'),
    (["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], "is greater than max version"),
    (["--tls-min-version=TLS1.3", "--cipher-suites=x"], "cipher suites cannot be configured"),
])
def test_versions_that_do_not_fit(arguments: list[str], message: str, tmp_path: Path) -> None:
    found, text = start(paths.MARTLET, arguments, {}, tmp_path)
    assert found == 1 and message in text, text


def test_every_flag_of_etcd_is_known() -> None:
    def flags(binary: str) -> set[str]:
        text = subprocess.run([binary, "--help"], capture_output=True, text=True).stdout
        return set(re.findall(r"^  --([a-z0-9-]+)", text, re.MULTILINE))

    assert flags(paths.ETCD) - flags(paths.MARTLET) == set()


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_arguments_are_known_without_proc() -> None:
    found = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" --version',
         paths.MARTLET], capture_output=True, text=True, timeout=20)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("etcd Version: 3.5."), found.stdout


def test_help_and_version(tmp_path: Path) -> None:
    link = tmp_path / "etcd"
    link.symlink_to(paths.MARTLET)
    version = subprocess.run([str(link), "--version"], capture_output=True, text=True)
    assert version.returncode == 0
    assert re.match(r"etcd Version: 3\.5\.\d+\nMartlet Version: ", version.stdout)
    usage = subprocess.run([str(link), "--help"], capture_output=True, text=True)
    assert usage.returncode == 0
    for group in ("Member", "Clustering", "Security", "Auth", "Profiling and Monitoring",
                  "Logging", "Unsafe feature"):
        assert f"\n{group}:\n" in usage.stdout


def test_what_does_nothing_is_named() -> None:
    with Server(paths.MARTLET, ["--experimental-memory-mlock", "--v"]) as server:
        server.start()
        for text in ("does nothing here", "--experimental-memory-mlock", "means nothing any more"):
            server.await_log(text)


def test_a_flag_wins_over_the_environment_and_a_file_stands_alone(
        authority: Authority, server_pair: Pair) -> None:
    flags = server_flags(authority, server_pair, demands=False)
    with SecureServer(authority, None, flags) as server:
        with open(server.log, "ab") as log:
            server.process = subprocess.Popen(
                server.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=server.home,
                env=clean_environment() | {"ETCD_NAME": "other", "ETCD_MAX_TXN_OPS": "7"})
        server.wait_ready()
        server.await_log("ETCD_NAME")
        assert "ETCD_MAX_TXN_OPS" not in server.log_text()


def test_the_service_manager_is_told() -> None:
    """Type=notify: READY=1 once clients are served, STOPPING=1 at SIGTERM, exit code 0."""
    with Server(paths.MARTLET) as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        path = str(server.home / "notify")
        told.bind(path)
        told.settimeout(10)
        with open(server.log, "ab") as log:
            server.process = subprocess.Popen(
                server.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=server.home, env=clean_environment() | {"NOTIFY_SOCKET": path})
        assert told.recv(100) == b"READY=1"
        server.wait_ready()
        assert server.stop() == 0
        assert told.recv(100) == b"STOPPING=1"

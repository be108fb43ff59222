"""`martlet snapshot save` from servers with TLS, with etcdctl's flags and variables."""

import os
import pty
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import paths
from harness.server import Server, clean_environment
from pki import Authority, Pair
from secure import SecureServer, etcdctl, server_flags, works

SECONDS_MAX = 20
USERS = ["user add root:secret", "user grant-role root root", "auth enable"]


def run(path: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess:
    """Saves to `path`; the result, with nothing left behind that is not whole."""
    done = subprocess.run(
        [paths.MARTLET, "snapshot", "save", str(path), *flags], capture_output=True, text=True,
        timeout=SECONDS_MAX, env=clean_environment() | variables)
    assert path.exists() == (done.returncode == 0), done.stderr
    assert not Path(f"{path}.part").exists()
    if path.exists():
        subprocess.run([paths.ETCDUTL, "snapshot", "status", str(path)], check=True,
                       timeout=SECONDS_MAX, capture_output=True)
        path.unlink()
    return done


def shown(pair: Pair) -> list[str]:
    return ["--cert", pair.crt, "--key", pair.key]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture(scope="module")
def member(authority: Authority, server_pair: Pair, client_pair: Pair) -> Iterator[SecureServer]:
    """Demands client certificates, and has users besides."""
    with SecureServer(authority, client_pair, server_flags(authority, server_pair)) as server:
        server.start()
        for line in ["put k v", *USERS]:
            assert works(etcdctl(server, *line.split(), ca=authority.ca, client=client_pair))
        yield server


def test_from_a_server_that_demands_certificates(
        server: SecureServer, authority: Authority, client_pair: Pair, path: Path) -> None:
    files = ["--cacert", authority.ca, *shown(client_pair)]
    for endpoint in [server.endpoint, server.address, f"https://localhost:{server.client_port}"]:
        done = run(path, "--endpoints", endpoint, *files)
        assert works(done), done.stderr
    # Here etcdctl shows that it verifies: the flags stand for what they say.
    done = run(path, "--endpoints", server.endpoint, "--insecure-skip-tls-verify",
               *shown(client_pair))
    assert works(done), done.stderr


@pytest.mark.parametrize("name, flags, text", [
    ("nobody trusts its authority", [], "certificate refused"),
    ("no certificate", ["--cacert", "{ca}"], "certificate required"),
    ("another authority", ["--cacert", "{other}", "--cert", "{crt}", "--key", "{key}"],
     "certificate refused"),
    ("in clear", ["--endpoints", "http://{address}"], "is it one with TLS?"),
    ("in clear without a scheme", ["--endpoints", "{address}"], "is it one with TLS?"),
    ("TLS by the flag alone", ["--endpoints", "{address}", "--insecure-transport=false"],
     "certificate refused"),
], ids=lambda value: value if isinstance(value, str) and " " in value else "")
def test_what_tls_refuses(
        server: SecureServer, authority: Authority, client_pair: Pair, tmp_path: Path, path: Path,
        name: str, flags: list[str], text: str) -> None:
    other = Authority(tmp_path / "other").ca if "{other}" in flags else ""
    words = [flag.format(ca=authority.ca, other=other, crt=client_pair.crt, key=client_pair.key,
                         address=server.address) for flag in flags]
    if "--endpoints" not in words:
        words += ["--endpoints", server.endpoint]
    done = run(path, *words)
    assert done.returncode == 5 and text in done.stderr, done.stderr


@pytest.mark.parametrize("flags, status, text", [
    (["--cert", "{crt}"], 128, "KeyFile and CertFile must both be present"),
    (["--cert="], 128, "empty string is passed to --cert option"),
    (["--cacert", "/no.crt"], 128, "open /no.crt: no such file or directory"),
    (["--cacert", "{key}"], 128, "no certificate in PEM"),
    (["--cert", "{crt}", "--key", "{other}"], 128, "private key does not match public key"),
    (["--endpoints", "127.0.0.1"], 128, "host:port"),
    (["--dial-timeout", "5"], 128, "--dial-timeout"),
    (["--insecure-transport=maybe"], 128, "--insecure-transport"),
    (["--user", "root"], 128, "--password"),
    (["--nonsense"], 1, "unknown flag: --nonsense"),
])
def test_lines_that_cannot_be_used(
        server_pair: Pair, client_pair: Pair, path: Path, flags: list[str], status: int,
        text: str) -> None:
    words = [flag.format(crt=client_pair.crt, key=client_pair.key, other=server_pair.key)
             for flag in flags]
    done = run(path, *words)
    assert done.returncode == status and text in done.stderr, done.stderr


def test_variables_stand_for_flags(
        member: SecureServer, authority: Authority, client_pair: Pair, path: Path) -> None:
    variables = {"ETCDCTL_ENDPOINTS": member.endpoint, "ETCDCTL_CACERT": authority.ca,
                 "ETCDCTL_CERT": client_pair.crt, "ETCDCTL_KEY": client_pair.key,
                 "ETCDCTL_USER": "root", "ETCDCTL_PASSWORD": "secret", "ETCDCTL_API": "3",
                 "ETCDCTL_DIAL_TIMEOUT": "3s", "ETCDCTL_NONSENSE": "1", "ETCDCTL_COMMAND_TIMEOUT": ""}
    done = run(path, **variables)
    assert works(done), done.stderr
    assert done.stderr.splitlines() == ["unrecognized environment variable ETCDCTL_NONSENSE"]
    done = run(path, "--user", "root:secret", **variables)
    assert done.returncode == 1 and "ETCDCTL_USER" in done.stderr, done.stderr
    conflict = etcdctl_with(variables, "--user", "root:secret", "get", "k")
    assert conflict.returncode == 1 and "conflicting environment variable" in conflict.stderr


def etcdctl_with(variables: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([paths.ETCDCTL, *words], capture_output=True, text=True,
                          timeout=SECONDS_MAX, env=clean_environment() | variables)


def test_users_save_over_tls(
        member: SecureServer, authority: Authority, client_pair: Pair, path: Path) -> None:
    to = ["--endpoints", member.endpoint, "--cacert", authority.ca, *shown(client_pair)]
    for flags in (["--user", "root:secret"], ["--user", "root", "--password", "secret"]):
        assert works(run(path, *to, *flags))
    for flags, text in (
            (["--user", "root:wrong"], "etcdserver: authentication failed"),
            # The certificate's name is that of no user.
            ([], "user not found"),
            (["--user", "root:secret", "--password", "secret"], "etcdserver: authentication")):
        done = run(path, *to, *flags)
        assert done.returncode == 5 and text in done.stderr, done.stderr


def test_a_user_where_there_are_none(path: Path) -> None:
    """As etcdctl: the password is not looked at."""
    with Server(paths.MARTLET) as server:
        flags = ["--endpoints", server.start().address, "--user", "root:any"]
        assert works(etcdctl_with({}, *flags, "snapshot", "save", str(path)))
        path.unlink()
        assert works(run(path, *flags))


def test_a_password_is_asked_for_at_a_terminal(
        member: SecureServer, authority: Authority, client_pair: Pair, path: Path) -> None:
    ours, theirs = pty.openpty()
    line = [paths.MARTLET, "snapshot", "save", str(path), "--endpoints", member.endpoint,
            "--cacert", authority.ca, *shown(client_pair), "--user", "root"]
    run = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs,
                           env=clean_environment(), start_new_session=True)
    os.close(theirs)
    seen = b""
    while b"Password: " not in seen:
        seen += os.read(ours, 1024)
    os.write(ours, b"secret\n")
    while b"Snapshot saved" not in seen:
        seen += os.read(ours, 1024)
    assert run.wait(SECONDS_MAX) == 0
    assert b"secret" not in seen
    os.close(ours)


def test_a_plain_server_that_is_taken_for_one_with_tls(
        authority: Authority, path: Path) -> None:
    with Server(paths.MARTLET) as server:
        server.start()
        for flags in (["--endpoints", f"https://{server.address}", "--cacert", authority.ca],
                      ["--endpoints", server.address, "--cacert", authority.ca]):
            done = run(path, *flags)
            assert done.returncode == 5 and "one without TLS?" in done.stderr, done.stderr
        # As etcdctl, http leaves the files aside.
        assert works(run(path, "--endpoints", server.endpoint, "--cacert", authority.ca))


class Silent(threading.Thread):
    """Takes connections and says nothing, or only the beginning of an answer."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.kept: list[socket.socket] = []

    def run(self) -> None:
        while True:
            try:
                self.kept.append(self.listener.accept()[0])
            except OSError:
                return

    def __enter__(self) -> str:
        self.start()
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for each in self.kept:
            each.close()


def test_time_limits(authority: Authority, path: Path) -> None:
    with Silent() as address:
        done = run(path, "--endpoints", address, "--command-timeout", "200ms")
        assert done.returncode == 5 and "context deadline exceeded" in done.stderr
        done = run(path, "--endpoints", f"https://{address}", "--cacert", authority.ca,
                   "--dial-timeout", "200ms")
        assert done.returncode == 5 and "timed out" in done.stderr
        done = run(path, "--endpoints", address, "--user", "root:x", "--dial-timeout", "200ms")
        assert done.returncode == 5 and "context deadline exceeded" in done.stderr

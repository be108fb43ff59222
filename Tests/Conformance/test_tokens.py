"""Tokens on etcd 3.5.1 and the server under test: what one signs, the other takes."""

import base64
import json
import subprocess
import threading
import time
from pathlib import Path

import grpc
import pytest
from harness import paths
from harness.protos import Client, messages
from harness.server import Server, StartupFailure

METHODS = ["RS256", "RS512", "PS384", "ES256", "ES384", "HS256"]
CURVES = {"ES256": "P-256", "ES384": "P-384"}


def make_keys(method: str, folder: Path) -> tuple[Path, Path]:
    """Private and public key of a method, in files."""
    private, public = folder / "private.pem", folder / "public.pem"
    if method.startswith("HS"):
        private.write_bytes(b"a secret that both servers share")
        return private, public
    kind = (["-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{CURVES[method]}"]
            if method in CURVES else ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
    subprocess.run(["openssl", "genpkey", *kind, "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True,
                   capture_output=True)
    return private, public


def option(method: str, folder: Path, ttl: str = "5m") -> list[str]:
    private, public = make_keys(method, folder)
    given = f"jwt,priv-key={private},sign-method={method},ttl={ttl}"
    if public.exists():
        given += f",pub-key={public}"
    return ["--auth-token", given, "--bcrypt-cost", "4"]


def switch_on(client: Client) -> None:
    """Users root and alice, who may read `a`; then checks are on."""
    m = messages()
    client.kv.Put(m.rpc.PutRequest(key=b"a", value=b"1"))
    for name in ("root", "alice"):
        client.auth.UserAdd(m.rpc.AuthUserAddRequest(name=name, password=name + "pw"))
    client.auth.UserGrantRole(m.rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    client.auth.RoleAdd(m.rpc.AuthRoleAddRequest(name="reader"))
    client.auth.RoleGrantPermission(m.rpc.AuthRoleGrantPermissionRequest(
        name="reader", perm=m.auth.Permission(key=b"a")))
    client.auth.UserGrantRole(m.rpc.AuthUserGrantRoleRequest(user="alice", role="reader"))
    client.auth.AuthEnable(m.rpc.AuthEnableRequest())


def login(client: Client, name: str) -> str:
    request = messages().rpc.AuthenticateRequest(name=name, password=name + "pw")
    return client.auth.Authenticate(request, timeout=60).token


def read(client: Client, token: str, key: bytes = b"a", header: str = "token") -> str:
    """`OK`, or the code and the text of the refusal."""
    request = messages().rpc.RangeRequest(key=key)
    try:
        client.kv.Range(request, metadata=[(header, token)], timeout=10)
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"
    return "OK"


INVALID = "UNAUTHENTICATED etcdserver: invalid auth token"


@pytest.mark.parametrize("method", METHODS)
def test_signed_tokens_are_taken_by_both(method: str, tmp_path: Path) -> None:
    flags = option(method, tmp_path)
    with Server(paths.ETCD, flags) as reference, Server(paths.MARTLET, flags) as tested:
        with Client(reference.start().address) as theirs, Client(tested.start().address) as ours:
            switch_on(theirs)
            switch_on(ours)
            tokens = [login(theirs, "alice"), login(ours, "alice")]
            for token in tokens:
                for client in (theirs, ours):
                    assert read(client, token) == "OK"
                    assert read(client, token, header="authorization") == "OK"
                    assert read(client, token, b"b").startswith("PERMISSION_DENIED")
                    assert read(client, token[:-6] + "AAAAAA") == INVALID
            parts = [[json.loads(base64.urlsafe_b64decode(part + "==")) for part in
                      token.split(".")[:2]] for token in tokens]
            assert parts[0][0] == parts[1][0]
            assert {**parts[0][1], "exp": 0} == {**parts[1][1], "exp": 0}
            assert abs(parts[0][1]["exp"] - parts[1][1]["exp"]) < 30
            assert read(ours, "Bearer " + tokens[1]) == "OK"


def test_forged_tokens_are_refused(tmp_path: Path) -> None:
    flags = option("RS256", tmp_path, ttl="2s")
    with Server(paths.MARTLET, flags) as server, Client(server.start().address) as client:
        switch_on(client)
        token = login(client, "root")
        assert read(client, token, b"z") == "OK"
        header, claims, signature = token.split(".")

        def encoded(document: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

        known = json.loads(base64.urlsafe_b64decode(claims + "=="))
        later = encoded({**known, "exp": known["exp"] + 1000})
        for forged in (
                f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}.",
                f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{claims}.{signature}",
                f"{header}.{later}.{signature}", f"{header}.{claims}", f"{header}.{claims}.",
                f"{token}.x", "..", "." * 1000, "x"):
            assert read(client, forged, b"z") == INVALID, forged
        time.sleep(3.2)
        assert read(client, token, b"z") == INVALID


def test_a_public_key_alone_checks_and_does_not_sign(tmp_path: Path) -> None:
    signing = option("RS256", tmp_path)
    checking = ["--auth-token",
                f"jwt,pub-key={tmp_path / 'public.pem'},sign-method=RS256", "--bcrypt-cost", "4"]
    with Server(paths.MARTLET, signing) as signer, Server(paths.MARTLET, checking) as checker:
        with Client(signer.start().address) as one, Client(checker.start().address) as other:
            switch_on(one)
            switch_on(other)
            assert read(other, login(one, "alice")) == "OK"
            with pytest.raises(grpc.RpcError) as refusal:
                login(other, "alice")
            assert refusal.value.details() == (
                "auth: token signing attempted with verify-only key")


@pytest.mark.parametrize("value", [
    "jwt", "jwt,sign-method=RS256", "jwt,sign-method=XX,priv-key=/dev/null",
    "jwt,sign-method=RS256,priv-key=/nowhere", "jwt,sign-method", "nonsense",
    "jwt,sign-method=RS256,sign-method=RS256"])
def test_what_is_no_token_option_is_refused_at_start(value: str) -> None:
    for binary in (paths.ETCD, paths.MARTLET):
        with Server(binary, ["--auth-token", value]) as server:
            with pytest.raises(StartupFailure) as refusal:
                server.start()
            assert "exit code" in str(refusal.value)
            if binary == paths.MARTLET:
                assert "--auth-token" in str(refusal.value)


def test_simple_tokens_live_from_their_last_use_on() -> None:
    flags = ["--auth-token-ttl", "2", "--bcrypt-cost", "4"]
    with Server(paths.MARTLET, flags) as server, Client(server.start().address) as client:
        switch_on(client)
        used, unused = login(client, "alice"), login(client, "alice")
        for _ in range(12):
            time.sleep(0.5)
            assert read(client, used) == "OK"
        assert read(client, unused) == INVALID


def test_hashing_passwords_holds_nobody_up() -> None:
    with Server(paths.MARTLET, ["--bcrypt-cost", "12"]) as server:
        with Client(server.start().address) as client:
            switch_on(client)
            token = login(client, "root")
            tokens: list[str] = []
            threads = [threading.Thread(target=lambda: tokens.append(login(client, "alice")))
                       for _ in range(8)]
            for thread in threads:
                thread.start()
            slowest, count = 0.0, 0
            while any(thread.is_alive() for thread in threads):
                start = time.monotonic()
                client.kv.Put(messages().rpc.PutRequest(key=b"k"), metadata=[("token", token)])
                slowest, count = max(slowest, time.monotonic() - start), count + 1
            assert len(tokens) == 8
            assert count > 50, "logins were over at once"
            assert slowest < 0.5

"""A certificate authority, run with the `openssl` command as operators do."""

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

CA_SETTINGS = """
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
default_md = sha256
default_crl_days = 30
"""


@dataclass
class Pair:
    """A certificate and its key."""

    crt: str
    key: str


class Authority:
    """Keeps its files in `folder`; `kind` as openssl's `-newkey` takes it, `ec` for P-256."""

    def __init__(self, folder: Path, kind: str = "rsa:2048"):
        self.folder = folder
        self.key = ["-newkey", kind]
        if kind == "ec":
            self.key += ["-pkeyopt", "ec_paramgen_curve:P-256"]
        folder.mkdir(parents=True)
        (folder / "ca.cnf").write_text(CA_SETTINGS)
        (folder / "index").touch()
        self.run("req", "-x509", *self.key, "-nodes", "-days", "365", "-subj", "/CN=etcd-ca",
                 "-keyout", "ca.key", "-out", "ca.crt")

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.crt")

    @property
    def crl(self) -> str:
        return str(self.folder / "crl.pem")

    def run(self, *arguments: str) -> str:
        return subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, text=True,
                              capture_output=True).stdout

    def issue(self, name: str, names: str = "", common_name: str = "", days: int = 365) -> Pair:
        """`names` as openssl has them: `DNS:a,IP:127.0.0.1`."""
        self.run("req", *self.key, "-nodes", "-subj", f"/CN={common_name or name}",
                 "-keyout", f"{name}.key", "-out", f"{name}.csr")
        extension = []
        if names:
            (self.folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
            extension = ["-extfile", f"{name}.ext"]
        self.run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                 "-set_serial", str(secrets.randbits(120)), "-days", str(days), "-out", f"{name}.crt",
                 *extension)
        return Pair(str(self.folder / f"{name}.crt"), str(self.folder / f"{name}.key"))

    def revoke(self, *names: str) -> None:
        """Brings the list of what is revoked up to date."""
        for name in names:
            self.run("ca", "-config", "ca.cnf", "-revoke", f"{name}.crt")
        self.run("ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.new")
        (self.folder / "crl.new").rename(self.crl)

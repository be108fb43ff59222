"""What lies in packaging/ is whole."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import paths

PACKAGING = paths.ROOT / "packaging"
RELEASE = paths.ROOT / ".build" / "release" / "martlet"


def is_release() -> bool:
    """Whether there is a binary that holds Swift's libraries itself."""
    if not RELEASE.exists() or not shutil.which("dpkg-shlibdeps"):
        return False
    linked = subprocess.run(["ldd", RELEASE], capture_output=True, text=True).stdout
    return "libswiftCore" not in linked


@pytest.mark.skipif(not is_release(), reason="needs `make build` and dpkg-dev")
def test_the_debian_package(tmp_path: Path) -> None:
    built = subprocess.run([PACKAGING / "build-deb", tmp_path], capture_output=True, text=True,
                           umask=0)
    assert built.returncode == 0, built.stderr
    (package,) = tmp_path.glob("martlet_*.deb")

    def ask(option: str) -> str:
        return subprocess.run(["dpkg-deb", option, package], check=True, capture_output=True,
                              text=True).stdout

    fields = ask("--field")
    depends = re.search("^Depends: (.*)$", fields, re.MULTILINE).group(1)
    names = {each.split()[0] for each in depends.split(", ")}
    assert {"libssl3", "libnghttp2-14", "liblmdb0", "libprotobuf-c1", "libyaml-0-2"} <= names
    # It can be installed where the newest fixes are not.
    assert "libssl3 (>= 3.0.0)" in depends, depends
    contents = ask("--contents")
    for path in ("./usr/bin/martlet", "./lib/systemd/system/martlet.service",
                 "./usr/lib/sysusers.d/martlet.conf", "./etc/default/martlet"):
        assert path in contents, contents
    unpacked = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "--extract", package, unpacked], check=True)
    version = subprocess.run([unpacked / "usr/bin/martlet", "--version"], check=True,
                             capture_output=True, text=True).stdout
    assert version.startswith("etcd Version: 3.5.")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_the_unit(tmp_path: Path) -> None:
    text = (PACKAGING / "martlet.service").read_text()
    unit = tmp_path / "martlet.service"
    unit.write_text(text.replace("/usr/bin/martlet", "/bin/true"))
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True,
                            text=True)
    assert "martlet.service" not in result.stderr, result.stderr
    assert "Type=notify" in text


def test_the_dashboard_asks_for_etcds_metrics() -> None:
    dashboard = json.loads((PACKAGING / "grafana" / "martlet.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) > 15
    for expression in asked:
        names = re.findall(r"\b(?:etcd|process|up)_?\w*", expression)
        assert any(re.match(r"(etcd|process)_\w+|up$", name) for name in names), expression


def test_the_images_libraries_are_those_of_the_setup_script() -> None:
    """The image installs, to build, what scripts/setup does."""
    setup = set(re.findall(r"\blib[\w-]+-dev\b", (paths.ROOT / "scripts" / "setup").read_text()))
    image = set(re.findall(r"\blib[\w-]+-dev\b", (PACKAGING / "Containerfile").read_text()))
    assert setup == image

"""Where a restore or an export was killed, no new cluster begins in its place."""

from pathlib import Path

import pytest

from harness import paths
from harness.server import Server, StartupFailure


@pytest.mark.parametrize("left,work", [("member.restoring", "a restore"),
                                       ("member.exporting", "an export")])
def test_what_was_left_is_no_member(left: str, work: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / left / "snap").mkdir(parents=True)
    with Server(paths.MARTLET, data_dir=folder) as server:
        with pytest.raises(StartupFailure, match=f"{left} is left of {work} that did not"):
            server.start()
    assert sorted(path.name for path in folder.rglob("*")) == sorted([left, "snap"])

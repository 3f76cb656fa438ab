"""A plugin's own packages: before ours, after the standard library, and nothing of them runs before its time."""

import sys
from pathlib import Path

import pytest

from workers import venv
from workers.sdk import PluginError

TAIL = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment's packages, in the order of `sys.path` of a worker."""
    (tmp_path / TAIL).mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path.startswith(sys.base_prefix) or ".venv" in path])
    return tmp_path / TAIL


def test_its_packages_come_before_ours_and_after_the_library(own: Path) -> None:
    """A plugin's pandas shadows ours; nothing shadows `json`."""
    before = [*sys.path]
    venv.enter(str(own.parents[2]))
    index = sys.path.index(str(own))
    assert [*sys.path[:index], *sys.path[index + 1 :]] == before
    assert all("site-packages" not in path for path in sys.path[:index])
    assert any("site-packages" in path for path in sys.path[index + 1 :])
    assert sys.path[:index]


def test_directories_of_pth_files_count_and_their_imports_wait(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`import` lines are code: they run when the plugin's may."""
    (own / "beside").mkdir()
    (own / "extra.pth").write_text("beside\n# a comment\n\nabsent\nimport sys; print('hook ran')\n")
    venv.enter(str(own.parents[2]))
    at = sys.path.index(str(own))
    assert sys.path[at + 1] == str(own / "beside")
    assert "hook ran" not in capfd.readouterr().out
    venv.run_hooks(str(own.parents[2]))
    assert "hook ran" in capfd.readouterr().out
    assert sys.path.count(str(own / "beside")) == 1


def test_one_of_another_python_is_refused(tmp_path: Path) -> None:
    """What it holds was compiled for that one; the remedy is named."""
    (tmp_path / "lib/python2.7/site-packages").mkdir(parents=True)
    with pytest.raises(PluginError, match=r"has no lib/python3\.\d+/site-packages.*python = '.*/bin/python'"):
        venv.enter(str(tmp_path))

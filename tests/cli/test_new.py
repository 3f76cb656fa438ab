"""`runnerctl new`: what it writes runs, and it overwrites nothing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from runnerd.cli.exits import ExitCode
from runnerd.cli.new import class_name_of
from tests.cli.configs import write_config
from tests.cli.running import DEADLINE_S, invoke, run_process


@pytest.mark.integration
@pytest.mark.parametrize("name", ["range-maker", "_1.x"])
def test_the_test_of_a_new_plugin_passes(tmp_path: Path, name: str) -> None:
    """With pytest, in its directory, as its README says; warnings are errors there too."""
    assert run_process("new", name, cwd=tmp_path).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path / name, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_what_it_prints_can_be_pasted_into_the_configuration(tmp_path: Path, short_dir: Path) -> None:
    """stdout is TOML and nothing else; with it the configuration is fine."""
    odd = tmp_path / 'o"d\\d'
    result = invoke("new", "range-maker", "--dir", str(odd), "--vault", "main")
    assert result.exit_code == ExitCode.DONE
    assert tomllib.loads(result.stdout)["plugins"]["range-maker"] == {
        "vault": "main",
        "path": str(odd / "range-maker/plugin.py"),
    }
    file = write_config(short_dir)
    file.write_text(file.read_text() + result.stdout)
    assert invoke("--config", str(file), "check").exit_code == ExitCode.DONE
    assert "range-maker" in (odd / "range-maker/README.md").read_text()


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    """An existing directory is refused, empty or not, and stays as it is."""
    (tmp_path / "alpha").mkdir()
    (tmp_path / "alpha/plugin.py").write_text("mine")
    result = invoke("new", "alpha", "--dir", str(tmp_path))
    assert result.exit_code == ExitCode.ATTENTION
    assert f"{tmp_path}/alpha exists and is not touched" in result.stderr
    assert [path.name for path in (tmp_path / "alpha").iterdir()] == ["plugin.py"]
    assert (tmp_path / "alpha/plugin.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["../evil", "a/b", "1st", "", "a" * 65, "a\x1b[31m", "ä"])
def test_what_cannot_be_a_plugins_name_is_refused(tmp_path: Path, name: str) -> None:
    """The rule of the configuration, before anything is written."""
    result = invoke("new", name, "--dir", str(tmp_path / "d"))
    assert result.exit_code == ExitCode.USAGE
    assert "cannot be a name; allowed: 1 to 64 letters, digits or _ . -" in result.stderr
    assert "\x1b" not in result.stderr
    assert not (tmp_path / "d").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """One line, no traceback."""
    (tmp_path / "file").touch()
    result = invoke("new", "alpha", "--dir", str(tmp_path / "file/below"))
    assert result.exit_code == ExitCode.ATTENTION
    assert "cannot be written: Not a directory" in result.stderr


@pytest.mark.parametrize(
    "plugin,name",
    [
        ("range-maker", "RangeMaker"),
        ("usdcETH", "UsdcETH"),
        ("_1.x", "Plugin1X"),
        ("noop", "NoopPlugin"),
        ("_", "Plugin"),
    ],
)
def test_the_class_has_a_name_that_python_takes(plugin: str, name: str) -> None:
    """Never one that the template imports itself."""
    assert class_name_of(plugin) == name

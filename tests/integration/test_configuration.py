"""A configuration that cannot be used: the daemon says why in the operator's words, and starts nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def test_a_configuration_error_exits_78_with_file_key_and_what_is_allowed(tmp_path: Path) -> None:
    """All problems at once, before anything is started: no directory, no process, no connection."""
    (tmp_path / "operator.json").write_text("{}")
    file = tmp_path / "runnerd.toml"
    file.write_text(
        'data_dir = "data"\nlog_levle = "info"\n[http]\nport = "x"\n'
        '[wallets.operator]\nkeystore = "missing.json"\n[plugins.p]\nvault = "demo"\npath = "p.py"\nqueue = 0\n'
    )
    done = subprocess.run(
        [str(Path(sys.executable).with_name("runnerd")), "--config", str(file)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert done.returncode == 78
    for part in (f"{file}: log_levle: unknown key; did you mean log_level?", f"{file}: http.port: ",
                 f"{file}: plugins.p.queue: "):  # fmt: skip
        assert part in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_missing_configuration_exits_78_and_names_it(tmp_path: Path) -> None:
    """A wrong --config is not a traceback."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("runnerd")), "--config", str(tmp_path / "absent.toml")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
    assert f"{tmp_path}/absent.toml: cannot be read: No such file or directory" in done.stderr

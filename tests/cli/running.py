"""Runs `runnerctl` for tests: in this process through click's runner, or as the process that a user starts."""

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from runnerd.cli.ctl import main

RUNNERCTL = (str(Path(sys.executable).with_name("runnerctl")),)
DEADLINE_S = 60.0


def invoke(*args: str, columns: int = 120, env: dict[str, str | None] | None = None) -> Result:
    """Run in this process. `stdout` and `stderr` are apart; it is no terminal, but has `columns`."""
    result = CliRunner().invoke(main, args, env={"COLUMNS": str(columns), **(env or {})})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def run_process(
    *args: str, columns: int | None = 120, env: dict[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run as a process of its own, without a terminal."""
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(env or {})}
    if columns is not None:
        environment["COLUMNS"] = str(columns)
    return subprocess.run(
        [*RUNNERCTL, *args],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
    )

"""Runs `runnerctl` for tests: in this process through click's runner, or as the process that a user starts."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from click.testing import CliRunner, Result

from runnerd.cli.ctl import main

SPY = """
import ctypes, resource, sys
from runnerd.cli.ctl import main

def state():  # PR_GET_DUMPABLE
    return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE)

def look(event, details):
    if event == "open" and str(details[0]) in secrets:
        print("SPY", str(details[0]), *state(), file=sys.stderr)

secrets = sys.argv[1].split(":")
assert state()[0] == 1  # or it would say nothing
del sys.argv[1]
sys.addaudithook(look)
main()
"""
RUNNERCTL = (str(Path(sys.executable).with_name("runnerctl")),)
DEADLINE_S = 60.0
NOBODY = 65_534
T = TypeVar("T")


def invoke(*args: str, columns: int = 120, env: dict[str, str | None] | None = None) -> Result:
    """Run in this process. `stdout` and `stderr` are apart; it is no terminal, but has `columns`."""
    result = CliRunner().invoke(main, args, env={"COLUMNS": str(columns), **(env or {})})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def as_stranger(work: Callable[[], T]) -> T:
    """What `work` returns in a fork of this process, as a user who owns nothing. What it needs must be imported."""
    forking = multiprocessing.get_context("fork")
    receive, send = forking.Pipe(duplex=False)
    process = forking.Process(target=_work_as_stranger, args=(work, send))
    process.start()
    send.close()
    with receive:
        try:
            assert receive.poll(DEADLINE_S)
            result: T = receive.recv()
        finally:
            process.join(DEADLINE_S)
    return result


def _work_as_stranger(work: Callable[[], object], send: Connection) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    send.send(work())


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


def run_spied(*args: str, secrets: Sequence[Path]) -> dict[str, bool]:
    """Run as a process of its own. For each of these files that it opened: whether its memory was protected by then."""
    named = ":".join(map(str, secrets))
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-c", SPY, named, *args],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    found: dict[str, bool] = {}
    for line in done.stderr.splitlines():
        if line.startswith("SPY "):
            _, path, *state = line.split(" ")
            found[path] = found.get(path, True) and state == ["0", "0", "0"]
    return found

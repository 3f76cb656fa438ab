"""`runnerctl drain`: what is asked, and that it comes back when the process is gone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runnerd.cli.exits import ExitCode
from runnerd.control.messages import Done, Reply, Request
from runnerd.control.service_messages import Drain
from runnerd.control.status_messages import GetStatus
from tests.cli.running import invoke
from tests.cli.samples import status
from tests.support.fake_daemon import FakeDaemon, fake_daemon


@contextmanager
def draining(short_dir: Path, *, ends: bool) -> Iterator[FakeDaemon]:
    """A daemon with a process of its own, which ends when it is told to drain, or does not."""

    def answer(request: Request) -> Reply:
        if isinstance(request, GetStatus):
            return status(pid=process.pid)
        if ends:
            process.communicate(b"\n")
        return Done(text="runnerd drains")

    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process,
        fake_daemon(short_dir / "control.sock", answer) as daemon,
    ):
        try:
            yield daemon
        finally:
            process.kill()


def test_it_comes_back_when_the_process_is_gone(short_dir: Path) -> None:
    """And passes on how long to wait for transactions."""
    with draining(short_dir, ends=True) as daemon:
        result = invoke("--socket", str(daemon.path), "drain", "--transactions", "90")
        assert daemon.requests[-1] == Drain(transactions_s=90.0)
    assert (result.exit_code, result.stdout) == (ExitCode.DONE, "runnerd drains\nrunnerd has ended\n")


def test_it_says_when_the_process_does_not_end_in_time(short_dir: Path) -> None:
    """3, as of everything that is still under way."""
    with draining(short_dir, ends=False) as daemon:
        result = invoke("--socket", str(daemon.path), "drain", "--hurry", "--timeout", "0.05")
        assert daemon.requests[-1] == Drain(is_hurried=True)
    assert result.exit_code == ExitCode.PENDING
    assert "has not ended after 0.05 s" in result.stderr


def test_it_does_not_wait_if_it_is_told_so(short_dir: Path) -> None:
    """For a script that has other things to do."""
    with draining(short_dir, ends=False) as daemon:
        result = invoke("--socket", str(daemon.path), "drain", "--timeout", "0")
    assert (result.exit_code, result.stdout) == (ExitCode.DONE, "runnerd drains\n")


def test_of_a_daemon_in_another_pid_namespace_the_end_is_not_claimed(short_dir: Path) -> None:
    """Its number says nothing here."""

    def answer(request: Request) -> Reply:
        return status(pid=2**22 - 1) if isinstance(request, GetStatus) else Done(text="runnerd drains")

    assert not Path(f"/proc/{2**22 - 1}").exists()
    with fake_daemon(short_dir / "control.sock", answer) as daemon:
        result = invoke("--socket", str(daemon.path), "drain")
    assert (result.exit_code, result.stdout) == (ExitCode.PENDING, "runnerd drains\n")

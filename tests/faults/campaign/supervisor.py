"""The daemon under attack: `tests.support.crashing_daemon`, forked and started again.

Plays the part of systemd with `Restart=always`: whoever ends the daemon, `keep` starts the next.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.crash_page import CrashPage
from tests.support.leaks import find_descendants
from tests.support.preloaded import Forked, Preloaded, preloaded

PROGRAM = "tests.support.crashing_daemon"
MAX_LOG_BYTES = 64 << 20
TAIL_BYTES = 1 << 18
NOISE = ('"level": "info"', '"action": "call_finished"')
STOP_DEADLINE_S = 45.0


class Supervisor:
    """Made by `supervisor`. `unexpected` are ends that nobody here caused, `stalls` when it ran and did nothing."""

    def __init__(self, python: Preloaded, directory: Path, page: CrashPage, arguments: tuple[str, ...]) -> None:
        self.directory = directory
        self.page = page
        self.log = directory / "runnerd.log"
        self.starts = 0
        self.unexpected: list[str] = []
        self.stalls: list[str] = []
        self._python = python
        self._arguments = arguments
        self._process: Forked | None = None
        self._is_ours = False

    @property
    def pid(self) -> int:
        """Its process; only while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def control_socket(self) -> Path:
        """Where it takes commands."""
        return self.directory / "data/control.sock"

    @property
    def is_running(self) -> bool:
        """Whether the last one started has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait_end(self, timeout_s: float) -> bool:
        """Until it has ended, whoever did it; False if it did not in time."""
        try:
            if self._process is not None:
                self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def keep(self) -> bool:
        """Start one unless it runs. Whether one was started."""
        if self.is_running:
            return False
        self._judge_end()
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.rename(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as sink:
            fds = {1: sink.fileno(), 2: sink.fileno()}
            self._process = self._python.start(PROGRAM, *self._arguments, fds=fds)
        self._is_ours = False
        self.starts += 1
        return True

    def expect_end(self) -> None:
        """It will end, and that is our doing."""
        self._is_ours = True

    def kill(self) -> None:
        """`kill -9`, and wait for its end."""
        self.signal(signal.SIGKILL)
        self.wait_end(STOP_DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        if not self.wait_end(STOP_DEADLINE_S):
            self.kill()
        return self._judge_end() or 0

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Those that end it make that end ours."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._is_ours = True
        if self._process is not None:
            self._process.send_signal(number)

    def processes(self, title: str) -> list[int]:
        """Its processes whose title contains `title`, oldest first."""
        return sorted(pid for pid, command in find_descendants(self.pid).items() if title in command)

    def log_tail(self, lines: int = 30) -> str:
        """The last warnings and errors that it logged, and whatever is no record."""
        if not self.log.exists():
            return "(no log)"
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            told = file.read().decode(errors="replace").splitlines()[1:]
        return "\n".join([line for line in told if not any(noise in line for noise in NOISE)][-lines:])

    def _judge_end(self) -> int | None:
        if self._process is None:
            return None
        code = self._process.wait()
        self._process = None
        if not self._is_ours:
            self.unexpected.append(f"exit code {code}: {self.log_tail(3)}")
        return code


@contextmanager
def supervisor(
    directory: Path, page_path: Path, page: CrashPage, *, broken: str | None, node_url: str
) -> Iterator[Supervisor]:
    """A daemon to be started, for the length of the block; killed at its end if it still runs."""
    breaking = () if broken is None else ("--break", broken, "--node", node_url)
    arguments = ("--config", str(directory / "runnerd.toml"), "--page", str(page_path), *breaking)
    with preloaded() as python:
        daemon = Supervisor(python, directory, page, arguments)
        try:
            yield daemon
        finally:
            daemon.kill()

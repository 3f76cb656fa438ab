"""The daemon under attack: forked by `tests.support.crashing_daemon --serve`, watched by a pidfd, started again.

Plays the part of systemd with `Restart=always`: whoever ends the daemon, `keep` starts the next.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.crash_page import CrashPage
from tests.support.leaks import find_descendants

REPOSITORY = Path(__file__).resolve().parents[3]
MAX_LOG_BYTES = 64 << 20
TAIL_BYTES = 1 << 18
NOISE = ('"level": "info"', '"action": "call_finished"')
STOP_DEADLINE_S = 45.0


class Supervisor:
    """Made by `supervisor`. `unexpected` are ends that nobody here caused, `stalls` when it ran and did nothing."""

    def __init__(
        self, nursery: "subprocess.Popen[str]", directory: Path, page: CrashPage, order: dict[str, str]
    ) -> None:
        self.directory = directory
        self.page = page
        self.log = directory / "runnerd.log"
        self.starts = 0
        self.unexpected: list[str] = []
        self.stalls: list[str] = []
        self._nursery = nursery
        self._order = order
        self._pid = 0
        self._pidfd: int | None = None
        self._is_ours = False

    @property
    def pid(self) -> int:
        """Its process; only while it runs."""
        return self._pid

    @property
    def control_socket(self) -> Path:
        """Where it takes commands."""
        return self.directory / "data/control.sock"

    @property
    def is_running(self) -> bool:
        """Whether the last one started has not ended."""
        return self._pidfd is not None and not self.wait_end(0)

    def wait_end(self, timeout_s: float) -> bool:
        """Until it has ended, whoever did it; False if it did not in time."""
        if self._pidfd is None:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def keep(self) -> bool:
        """Start one unless it runs. Whether one was started."""
        if self.is_running:
            return False
        self._bury()
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.rename(self.log.with_suffix(".log.1"))
        self._pid = self._ask(self._order)
        self._pidfd = os.pidfd_open(self._pid)
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
            return -signal.SIGKILL
        return self._bury() or 0

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Those that end it make that end ours."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._is_ours = True
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def processes(self, title: str) -> list[int]:
        """Its processes whose title contains `title`, oldest first."""
        return sorted(pid for pid, command in find_descendants(self._pid).items() if title in command)

    def log_tail(self, lines: int = 30) -> str:
        """The last warnings and errors that it logged, and whatever is no record."""
        if not self.log.exists():
            return "(no log)"
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            told = file.read().decode(errors="replace").splitlines()[1:]
        return "\n".join([line for line in told if not any(noise in line for noise in NOISE)][-lines:])

    def _bury(self) -> int | None:
        if self._pidfd is None:
            return None
        os.close(self._pidfd)
        self._pidfd = None
        code = self._ask({"wait": self._pid})
        if not self._is_ours:
            self.unexpected.append(f"exit code {code}: {self.log_tail(3)}")
        return code

    def _ask(self, order: "dict[str, str] | dict[str, int]") -> int:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        return int(self._nursery.stdout.readline())


@contextmanager
def supervisor(
    directory: Path, page_path: Path, page: CrashPage, *, broken: str | None, node_url: str
) -> Iterator[Supervisor]:
    """A daemon to be started, for the length of the block; killed at its end if it still runs."""
    order = {"config": str(directory / "runnerd.toml"), "page": str(page_path), "log": str(directory / "runnerd.log")}
    if broken is not None:
        order |= {"break": broken, "node": node_url}
    command = [sys.executable, "-m", "tests.support.crashing_daemon", "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True
    ) as nursery:
        daemon = Supervisor(nursery, directory, page, order)
        try:
            yield daemon
        finally:
            if daemon.is_running:
                daemon.kill()
            daemon.expect_end()
            daemon._bury()
            assert nursery.stdin is not None
            nursery.stdin.close()
            nursery.wait(10)

"""Restart after `kill -9` with 100 processes alive: ours beside circus, supervisord, and a plain subprocess.

Theirs is a bare `python -c` that says when its first line runs: no sandbox, no plugin, no handshake. Ours is ready when
the supervisor has accepted the Hello of a locked-in worker with its plugin imported.
"""

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.crowd import RESTARTS, Start, measure_start
from tests.bench.figures import Figure, percentile, spread
from tests.support.short_dir import make_short_dir

RIVALS = Path(__file__).resolve().parents[2] / ".tools/rivals/bin"
ALIVE = 100
FEW = 5
"""Restarts of who takes seconds for each."""
DEADLINE_S = 60.0
END_DEADLINE_S = 20.0
PAUSE_S = (0.05, 0.35)
"""Between two kills, at random: some of these look at their processes at fixed times only."""
START_S, RESTART_S = 0.008, 0.010

CODE = (
    "import os, time; "
    "os.write(os.open('{fifo}', os.O_WRONLY), (str(os.getpid()) + ' ' + str(time.time()) + chr(10)).encode()); "
    "time.sleep(1000000)"
)
CIRCUS = """
[circus]
endpoint = ipc://{directory}/endpoint
pubsub_endpoint = ipc://{directory}/pubsub
statsd = False
{tuned}

[watcher:bare]
cmd = {python} -c "{code}"
numprocesses = {alive}
warmup_delay = 0
copy_env = True
"""
SUPERVISORD = """
[supervisord]
nodaemon = true
logfile = /dev/null
logfile_maxbytes = 0
pidfile = {directory}/pid

[program:bare]
command = {python} -c "{code}"
numprocs = {alive}
process_name = bare%(process_num)s
autorestart = true
stdout_logfile = NONE
stderr_logfile = NONE
"""


class Births:
    """A pipe with a name, into which each process writes its pid and when its first line ran."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def read(self, count: int) -> list[tuple[int, float]]:
        """Wait for so many. Raises TimeoutError."""
        until = time.monotonic() + DEADLINE_S
        births: list[tuple[int, float]] = []
        while len(births) < count:
            if not select.select([self._fd], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"{len(births)} of {count} processes within {DEADLINE_S:g} s")
            *lines, self._rest = (self._rest + os.read(self._fd, 1 << 16)).split(b"\n")
            births += [(int(pid), float(at)) for pid, at in map(bytes.split, lines)]
        return births

    def close(self) -> None:
        os.close(self._fd)


def measure_rivals(ours: Start | None = None) -> Iterator[Figure]:
    """Ours, which may be measured already, then theirs with the ratio to it."""
    ours = ours or measure_start(ALIVE)
    start, restart = percentile(ours.start_s, 50), percentile(ours.restart_s, 50)
    yield Figure(f"start -> ready, {ours.size} alive", spread(ours.start_s), "p50 <= 8 ms", start <= START_S)
    yield Figure(
        f"kill -9 -> ready again, {ours.size} alive", spread(ours.restart_s), "p50 <= 10 ms", restart <= RESTART_S
    )
    starts, restarts = _by_subprocess()
    yield Figure("  subprocess: Popen -> first line", f"{spread(starts)}: {percentile(starts, 50) / start:.1f} x ours")
    rivals: dict[str, Callable[[], Sequence[float]]] = {
        "subprocess: kill -9 -> first line": lambda: restarts,
        "circus, check_delay 0.1: the same": lambda: _by_circus("check_delay = 0.1", RESTARTS),
        "circus as it comes: the same": lambda: _by_circus("", FEW),
        "supervisord: the same": lambda: _by_supervisord(RESTARTS // 2),
    }
    for name, measure in rivals.items():
        took = measure()
        yield Figure(f"  {name}", f"{spread(took)}: {percentile(took, 50) / restart:.1f} x ours")


def _by_subprocess() -> tuple[list[float], list[float]]:
    """Seconds from Popen, and from `kill -9` of a process that is waited for, until the first line of a new one."""
    with make_short_dir() as directory, _births(directory) as births:
        command = [sys.executable, "-c", CODE.format(fifo=births.path)]
        alive = [subprocess.Popen(command) for _ in range(ALIVE)]
        try:
            births.read(ALIVE)
            starts, restarts = [], []
            for number in range(RESTARTS):
                began = time.time()
                extra = subprocess.Popen(command)
                starts.append(births.read(1)[0][1] - began)
                extra.kill()
                extra.wait()
                killed = time.time()
                alive[number].kill()
                alive[number].wait()
                alive[number] = subprocess.Popen(command)
                restarts.append(births.read(1)[0][1] - killed)
            return starts, restarts
        finally:
            for process in alive:
                process.kill()
                process.wait()


def _by_circus(tuned: str, restarts: int) -> list[float]:
    return _restarts_under("circusd", CIRCUS, ["{file}"], tuned, restarts)


def _by_supervisord(restarts: int) -> list[float]:
    return _restarts_under("supervisord", SUPERVISORD, ["-n", "-c", "{file}"], "", restarts)


def _restarts_under(program: str, text: str, arguments: Sequence[str], tuned: str, restarts: int) -> list[float]:
    """Seconds from `kill -9` of one of its processes until the first line of the one that takes its place."""
    with make_short_dir() as directory, _births(directory) as births:
        file = directory / "rival.ini"
        code = CODE.format(fifo=births.path)
        file.write_text(text.format(directory=directory, python=sys.executable, code=code, alive=ALIVE, tuned=tuned))
        with _running([str(RIVALS / program), *(argument.format(file=file) for argument in arguments)], directory):
            pids = [pid for pid, _ in births.read(ALIVE)]
            time.sleep(2)  # supervisord takes a process that ends within its first second for one that never started
            took = []
            for pid in pids[:restarts]:
                time.sleep(random.uniform(*PAUSE_S))  # so that no kill keeps step with a rival's own rounds
                killed = time.time()
                os.kill(pid, signal.SIGKILL)
                took.append(births.read(1)[0][1] - killed)
            return took


@contextmanager
def _births(directory: Path) -> Iterator[Births]:
    births = Births(directory / "births")
    try:
        yield births
    finally:
        births.close()


@contextmanager
def _running(command: Sequence[str], directory: Path) -> Iterator[None]:
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory, start_new_session=True
        )
        try:
            yield
        except TimeoutError as error:
            error.add_note((directory / "output").read_text()[-2_000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(END_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # Its children are in sessions of their own; they write to a pipe that nobody reads, and sleep.
            _end_orphans(directory)


def _end_orphans(directory: Path) -> None:
    mark = str(directory).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                is_ours = mark in (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if is_ours and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)


if __name__ == "__main__":
    for figure in measure_rivals():
        print(figure, flush=True)

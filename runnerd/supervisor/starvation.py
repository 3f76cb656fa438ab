"""How much a process wanted the CPU and did not get it, from the kernel's books of its threads.

`starved_share` is a pure function of two looks; `Watch` is the shell that reads /proc. Used by `patience`: workers have
only idle time of the CPU, and on a busy host the slowest of them may be waiting for their turn, not hanging.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

MAX_THREADS = 64
"""More are not looked at: what a look costs is bounded, and a plugin gains nothing by having more."""
FRESH_S = 0.05
"""A look is shared by all deadlines of a worker that fall into this time: it may have a thousand calls."""
STAT_BYTES = 1_024
NS = 1e-9


@dataclass(frozen=True, slots=True)
class ThreadTimes:
    """One thread's books: seconds on a CPU, seconds in a run queue, and whether it is on one of both now.

    The kernel enters a wait only when it is over: a thread that has not run since the last look has waited all along.
    """

    ran_s: float
    waited_s: float
    is_runnable: bool


@dataclass(frozen=True, slots=True)
class Look:
    """The threads of a process by id, at a moment (monotonic seconds). None: it is gone, or hidden (`hidepid`)."""

    at: float
    threads: Mapping[int, ThreadTimes]


class Watch:
    """Looks at process `pid`; 0 while there is none."""

    def __init__(self, pid: int = 0) -> None:
        self.pid = pid
        self._last: Look | None = None

    def look(self) -> Look:
        """How it is now, or was a moment ago."""
        now = monotonic()
        if self._last is None or now - self._last.at >= FRESH_S:
            self._last = Look(now, read_threads(self.pid))
        return self._last


def read_threads(pid: int) -> dict[int, ThreadTimes]:
    """The books of a process. About 10 µs for each thread."""
    found: dict[int, ThreadTimes] = {}
    if pid > 0:
        with suppress(OSError):
            for thread in sorted(map(int, os.listdir(f"/proc/{pid}/task")))[:MAX_THREADS]:  # noqa: PTH208  # half the time
                with suppress(OSError, ValueError, IndexError):  # that thread has just ended
                    ran, waited, _ = _read(f"/proc/{pid}/task/{thread}/schedstat").split()
                    state = _read(f"/proc/{pid}/task/{thread}/stat").rpartition(b")")[2].split(None, 1)[0]
                    found[thread] = ThreadTimes(int(ran) * NS, int(waited) * NS, state == b"R")
    return found


def starved_share(before: Look | None, after: Look) -> float:
    """The part (0 to 1) of the time between two looks in which the process waited for a CPU that others had.

    That of its hungriest thread. Who had half a CPU or more for itself is not starved: its threads wait for each other.
    """
    if before is None or after.at <= before.at:
        return 0.0
    took_s = after.at - before.at
    both = [(before.threads[thread], after.threads[thread]) for thread in before.threads.keys() & after.threads.keys()]
    if sum(new.ran_s - old.ran_s for old, new in both) >= took_s / 2:
        return 0.0
    return min(1.0, max((_waited_s(old, new, took_s) for old, new in both), default=0.0) / took_s)


def _waited_s(old: ThreadTimes, new: ThreadTimes, took_s: float) -> float:
    booked_s = new.waited_s - old.waited_s
    if old.is_runnable and new.is_runnable:
        return max(booked_s, took_s - (new.ran_s - old.ran_s))
    return booked_s


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, STAT_BYTES)
    finally:
        os.close(fd)

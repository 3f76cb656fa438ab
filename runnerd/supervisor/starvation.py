"""How much a process wanted the CPU and did not get it, from the kernel's books of its threads.

`starved_share` is a pure function of two looks; `look` is the shell that reads /proc. Used by `patience`: workers have
only idle time of the CPU, and on a busy host the slowest of them may be waiting for their turn, not hanging.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAX_THREADS = 64
"""More are not looked at: what a look costs is bounded, and a plugin gains nothing by having more."""
NS = 1e-9


@dataclass(frozen=True, slots=True)
class ThreadTimes:
    """One thread's books: seconds on a CPU, seconds in a run queue, and whether it is on one of both now.

    The kernel enters a wait only when it is over: a thread that has not run since the last look has waited all along.
    """

    ran_s: float
    waited_s: float
    is_runnable: bool


Look = Mapping[int, ThreadTimes]


def look(pid: int) -> Look:
    """The threads of a process by id; none when it is gone, or when this host hides other processes (`hidepid`)."""
    found: dict[int, ThreadTimes] = {}
    if pid <= 0:
        return found
    with suppress(OSError):
        for thread in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name))[:MAX_THREADS]:
            with suppress(OSError, ValueError, IndexError):  # that thread has just ended
                ran, waited, _ = (thread / "schedstat").read_text("ascii").split()
                state = (thread / "stat").read_bytes().rpartition(b")")[2].split()[0]
                found[int(thread.name)] = ThreadTimes(int(ran) * NS, int(waited) * NS, state == b"R")
    return found


def starved_share(before: Look, after: Look, took_s: float) -> float:
    """The part (0 to 1) of the time between two looks in which the process waited for a CPU that others had.

    That of its hungriest thread. Who had half a CPU or more for itself is not starved: its threads wait for each other.
    """
    if took_s <= 0:
        return 0.0
    both = [(before[thread], after[thread]) for thread in before.keys() & after.keys()]
    if sum(new.ran_s - old.ran_s for old, new in both) >= took_s / 2:
        return 0.0
    return min(1.0, max((_waited_s(old, new, took_s) for old, new in both), default=0.0) / took_s)


def _waited_s(old: ThreadTimes, new: ThreadTimes, took_s: float) -> float:
    booked_s = new.waited_s - old.waited_s
    if old.is_runnable and new.is_runnable:
        return max(booked_s, took_s - (new.ran_s - old.ran_s))
    return booked_s

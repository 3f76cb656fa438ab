"""Looks at what workers use, and tells the owner of one that is over a limit. Owns the looking; `limits` is the rule.

One timer for all workers, and a bounded number of looks in each turn: with a few workers each is looked at ten times a
second, with a thousand every five seconds. What a worker can do between two looks ends at the walls (`limits`).
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from runnerd.supervisor.limits import CpuShare, Limits, Usage, find_excess

LOOK_EVERY_S: Final = 0.1
LOOKS_PER_TURN: Final = 20
"""A look takes 27 µs of CPU: a turn of the loop spends half a millisecond on them, ten times a second."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_READ_BYTES: Final = 4_096


@dataclass(slots=True, eq=False)
class Watch:
    """One worker that is looked at, until `close`. `on_over` is called once, with the reason."""

    pid: int
    limits: Limits
    on_over: Callable[[str], None]
    cpu: CpuShare | None
    is_open: bool = field(default=True)

    def close(self) -> None:
        """Look no more. Safe to call twice."""
        self.is_open = False


class Monitor:
    """Looks for as long as it has something to look at. `read` is what it looks with."""

    def __init__(self, read: Callable[[int], Usage | None] | None = None) -> None:
        self._read = read or read_usage
        self._queue: deque[Watch] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, pid: int, limits: Limits, on_over: Callable[[str], None]) -> Watch:
        """Look at a process, which the caller keeps from being reaped unseen: it closes the watch at its end."""
        cpu = CpuShare(limits.cpus) if limits.cpus is not None else None
        watch = Watch(pid=pid, limits=limits, on_over=on_over, cpu=cpu)
        self._queue.append(watch)
        self._arm()
        return watch

    def _arm(self) -> None:
        if self._timer is None and self._queue:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for _ in range(min(LOOKS_PER_TURN, len(self._queue))):
            watch = self._queue.popleft()
            excess = self._look(watch, now) if watch.is_open else None
            if excess is not None:
                watch.close()
                watch.on_over(excess)
            if watch.is_open:
                self._queue.append(watch)
        self._arm()

    def _look(self, watch: Watch, now: float) -> str | None:
        usage = self._read(watch.pid)
        if usage is None:
            return None
        excess = find_excess(usage, watch.limits)
        if excess is None and watch.cpu is not None:
            excess = watch.cpu.find_excess(usage.cpu_s, now)
        return excess


def read_usage(pid: int) -> Usage | None:
    """What a process uses now; None if it has ended. Needs no privilege: /proc shows these to everybody."""
    try:
        statm = _read(f"/proc/{pid}/statm").split()
        stat = _read(f"/proc/{pid}/stat")
        files = os.stat(f"/proc/{pid}/fd").st_size  # noqa: PTH116  # as cheap as it gets: 1,000 workers, for ever
    except OSError:
        return None
    # The name in the middle is the plugin's choice: it may hold spaces and parentheses.
    rest = stat[stat.rindex(b")") + 2 :].split()
    return Usage(
        memory_bytes=(int(statm[1]) - int(statm[2])) * _PAGE_BYTES,
        threads=int(rest[17]),
        files=files,
        cpu_s=(int(rest[11]) + int(rest[12])) / _TICKS_PER_S,
    )


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _READ_BYTES)
    finally:
        os.close(fd)

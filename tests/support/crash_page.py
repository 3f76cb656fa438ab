"""Eight-byte cells in a file that a test and its daemon both map: which crash point kills, and how wrong the clock is.

Written by the campaign at any time, read by the daemon at each crash point: a system call for neither. It outlives the
daemon, so it also counts how often each point was reached, over all lives.
"""

import mmap
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runnerd.crash_points import CRASH_POINTS

NOTHING = -1
_CELL = struct.Struct("<q")
_CLOCK, _ARMED, _LEFT, _KILLED, _COUNTS = 0, 1, 2, 3, 4
_SIZE = _CELL.size * (_COUNTS + len(CRASH_POINTS))
_INDEX = {name: index for index, name in enumerate(CRASH_POINTS)}
_MS = 1_000


class CrashPage:
    """One mapping of the file. Both sides have their own."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def arm(self, point: str, count: int) -> None:
        """The process that reaches `point` for the `count`-th time from now on kills itself."""
        self._write(_ARMED, NOTHING)  # never half armed
        self._write(_LEFT, count)
        self._write(_KILLED, NOTHING)
        self._write(_ARMED, _INDEX[point])

    def disarm(self) -> None:
        """Nobody kills himself."""
        self._write(_ARMED, NOTHING)

    @property
    def killed_at(self) -> str | None:
        """The armed point, once it has killed."""
        index = self._read(_KILLED)
        return None if index == NOTHING else CRASH_POINTS[index]

    @property
    def counts(self) -> dict[str, int]:
        """How often each point was reached."""
        return {name: self._read(_COUNTS + index) for name, index in _INDEX.items()}

    @property
    def clock_offset_s(self) -> float:
        """What the daemon's wall clock is ahead of the true one."""
        return self._read(_CLOCK) / _MS

    @clock_offset_s.setter
    def clock_offset_s(self, offset_s: float) -> None:
        self._write(_CLOCK, round(offset_s * _MS))

    def reached(self, name: str) -> None:
        """In the daemon: count, and die if it is time to."""
        index = _INDEX[name]
        self._write(_COUNTS + index, self._read(_COUNTS + index) + 1)
        if self._read(_ARMED) == index:
            left = self._read(_LEFT) - 1
            self._write(_LEFT, left)
            if left == 0:
                self._write(_ARMED, NOTHING)
                self._write(_KILLED, index)
                os.kill(os.getpid(), signal.SIGKILL)

    def _read(self, cell: int) -> int:
        value: int = _CELL.unpack_from(self._memory, cell * _CELL.size)[0]
        return value

    def _write(self, cell: int, value: int) -> None:
        _CELL.pack_into(self._memory, cell * _CELL.size, value)


def create_page(path: Path) -> None:
    """A page on which nothing is armed and the clock is right."""
    path.write_bytes(bytes(_SIZE))
    with open_page(path) as page:
        page.disarm()
        page._write(_KILLED, NOTHING)


@contextmanager
def open_page(path: Path) -> Iterator[CrashPage]:
    """Map the page for the length of the block."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), _SIZE) as memory:
        yield CrashPage(memory)

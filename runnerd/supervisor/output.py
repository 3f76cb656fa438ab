"""A worker's stdout and stderr, read line by line and bounded, so that a pipe never fills and a flood never spreads.

Plugins choose this text: it is decoded loosely, cut, and rate limited before anyone logs it. Beyond the limit lines are
only counted, and the pipe is read ten times a second: then it fills, and the plugin waits instead of the supervisor.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable

from protocol.limits import LOG_BURST, MAX_LOG_MESSAGE_LENGTH, MAX_LOG_RECORDS_PER_S
from runnerd.supervisor.rate import RateLimit

READ_BYTES = 65_536
TURN_BYTES = 512
"""Read in one turn of the loop while nothing is cut: to log a line takes 30 µs."""
TAIL_LINES = 60
LOG_BURST_S = LOG_BURST // MAX_LOG_RECORDS_PER_S
PAUSE_S = 0.1
"""After a read that the limit cut. Counting the lines of a full pipe takes about 0.1 ms."""


def log_limit(lines_per_s: int = MAX_LOG_RECORDS_PER_S) -> RateLimit:
    """What one worker may log, on all ways together."""
    return RateLimit(lines_per_s, lines_per_s * LOG_BURST_S)


class Output:
    """One pipe. `on_line` gets each line that the limit lets through; `tail` keeps the last of all."""

    def __init__(self, fd: int, limit: RateLimit, on_line: Callable[[str], None]) -> None:
        self._fd = fd
        self._limit = limit
        self._on_line = on_line
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self._pause: asyncio.TimerHandle | None = None
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Take what is still in the pipe, then close it."""
        if self._is_open:
            self._read(READ_BYTES, TAIL_LINES)
        if self._is_open:
            self._end()

    def _read(self, size: int = TURN_BYTES, most: int = READ_BYTES) -> None:
        """Read once, and let at most so many lines through."""
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return
        if not data:
            self._end()
            return
        text = self._rest + data
        start = 0
        while most and (end := text.find(b"\n", start)) >= 0:
            most = most - 1 if self._take(text[start:end]) else 0
            start = end + 1
        if not most:
            self._skip(text[start:])
            return
        self._rest = text[start:]
        # A line without an end must not grow without one.
        if len(self._rest) > MAX_LOG_MESSAGE_LENGTH and not self._take(self._cut_rest()):
            self._skip(b"")

    def _skip(self, text: bytes) -> None:
        """The limit is reached: count lines instead of reading them, keep the last, and let the pipe push back."""
        self._limit.refuse(text.count(b"\n"))
        *lines, self._rest = text.rsplit(b"\n", TAIL_LINES + 1)  # the first has all that was not split
        self.tail.extend(shown for line in lines[-TAIL_LINES:] if (shown := _shown(line)))
        if len(self._rest) > MAX_LOG_MESSAGE_LENGTH:
            self._limit.refuse(1)
            self.tail.append(_shown(self._cut_rest()))
        if self._pause is None:
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._read)
        self._read(READ_BYTES)  # the limit has room for few lines now; what is more is counted

    def _cut_rest(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest

    def _end(self) -> None:
        self._is_open = False
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        if self._rest:
            self._take(self._rest)

    def _take(self, line: bytes) -> bool:
        """Whether the limit let it through. An empty line counts, too: else a flood of them would be free."""
        text = _shown(line)
        if text:
            self.tail.append(text)
        if not self._limit.allows(self._loop.time()):
            return False
        if text:
            self._on_line(text)
        return True


def _shown(line: bytes) -> str:
    return line[:MAX_LOG_MESSAGE_LENGTH].decode(errors="replace").rstrip()

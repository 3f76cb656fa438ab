"""A worker's stdout and stderr, read line by line and bounded, so that a pipe never fills and a flood never spreads.

Plugins choose this text: it is decoded loosely, cut, and rate limited before anyone logs it.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable

from protocol.limits import LOG_BURST, MAX_LOG_MESSAGE_LENGTH, MAX_LOG_RECORDS_PER_S

READ_BYTES = 65_536
TAIL_LINES = 60
LAST_LINES = 3


class RateLimit:
    """A token bucket over lines: `rate` a second, `burst` at once. Counts what it refused."""

    def __init__(self, rate: float = MAX_LOG_RECORDS_PER_S, burst: float = LOG_BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = 0.0
        self.refused = 0

    def allows(self, now: float) -> bool:
        """Whether one more line may pass at `now` (monotonic seconds)."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        return True


class Output:
    """One pipe. `on_line` gets each line that the limit lets through; `tail` keeps the last of all."""

    def __init__(self, fd: int, limit: RateLimit, on_line: Callable[[str], None]) -> None:
        self._fd = fd
        self._limit = limit
        self._on_line = on_line
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Take what is still in the pipe, then close it."""
        if self._is_open:
            self._read()
        if self._is_open:
            self._end()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._end()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LOG_MESSAGE_LENGTH:  # a line without an end must not grow without one
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._take(line)

    def _end(self) -> None:
        self._is_open = False
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        if self._rest:
            self._take(self._rest)

    def _take(self, line: bytes) -> None:
        text = line[:MAX_LOG_MESSAGE_LENGTH].decode(errors="replace").rstrip()
        if not text:
            return
        self.tail.append(text)
        if self._limit.allows(self._loop.time()):
            self._on_line(text)


def last_words(tail: Iterable[str]) -> str:
    """One line out of the end of a stderr: of a faulthandler dump its head and innermost frames, else the end."""
    lines = [line.strip() for line in tail]
    dumps = [index for index, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if not dumps:
        return " | ".join(lines[-LAST_LINES:])
    frames = [line for line in lines[dumps[-1] + 1 :] if line.startswith("File ")]
    return " | ".join([lines[dumps[-1]], *frames[:LAST_LINES]])

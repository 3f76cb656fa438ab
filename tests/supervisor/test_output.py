"""What a worker writes to stdout and stderr: whole lines, bounded, rate limited, and its last words kept."""

import asyncio
import os
from collections.abc import Callable

from protocol.limits import LOG_BURST, MAX_LOG_MESSAGE_LENGTH
from runnerd.supervisor.output import PAUSE_S, READ_BYTES, TAIL_LINES, Output, log_limit
from runnerd.supervisor.rate import RateLimit
from tests.support.aio import run_async
from tests.support.until import until

DEADLINE_S = 5.0


class Pipe:
    """A worker's pipe: we write, `lines` is what came through. Make it inside a running loop."""

    def __init__(self, limit: RateLimit | None = None) -> None:
        self.lines: list[str] = []
        self._arrived = asyncio.Event()
        fd, self.write_fd = os.pipe()
        os.set_blocking(fd, False)
        self.output = Output(fd, limit or log_limit(), self._on_line)

    def _on_line(self, line: str) -> None:
        self.lines.append(line)
        self._arrived.set()

    def write(self, data: bytes) -> None:
        os.write(self.write_fd, data)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for lines until something is so."""
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
                self._arrived.clear()
                await self._arrived.wait()

    def close(self) -> None:
        os.close(self.write_fd)
        self.output.close()


class AskedLimit(RateLimit):
    """Counts the questions."""

    asked = 0

    def allows(self, now: float, cost: int = 1) -> bool:
        self.asked += 1
        return super().allows(now, cost)


def test_lines_come_whole_whatever_the_pieces() -> None:
    """A line may be written in parts, and several at once; blank ones say nothing."""

    async def scenario() -> None:
        pipe = Pipe()
        pipe.write(b"one\ntw")
        await pipe.until(lambda: pipe.lines == ["one"])
        pipe.write(b"o\n\n  \nthree  \nfo")
        await pipe.until(lambda: pipe.lines == ["one", "two", "three"])
        pipe.close()
        assert pipe.lines == ["one", "two", "three", "fo"]

    run_async(scenario())


def test_closing_takes_what_is_still_in_the_pipe() -> None:
    """The last lines before an end are the ones that matter."""

    async def scenario() -> None:
        pipe = Pipe()
        pipe.write(b"Traceback\nValueError\n")
        pipe.output.close()
        assert pipe.lines == ["Traceback", "ValueError"]
        pipe.output.close()
        os.close(pipe.write_fd)

    run_async(scenario())


def test_end_of_the_pipe_stops_reading() -> None:
    """A closed pipe is readable for ever: it must not spin the loop."""

    async def scenario() -> None:
        pipe = Pipe()
        pipe.write(b"last")
        os.close(pipe.write_fd)
        await pipe.until(lambda: pipe.lines == ["last"])
        assert not pipe.output._is_open
        pipe.output.close()

    run_async(scenario())


def test_endless_line_is_cut() -> None:
    """It neither grows in memory nor in the log."""

    async def scenario() -> None:
        pipe = Pipe()
        pipe.write(b"x" * (MAX_LOG_MESSAGE_LENGTH + 1))
        await pipe.until(lambda: bool(pipe.lines))
        assert pipe.lines == ["x" * MAX_LOG_MESSAGE_LENGTH]
        assert pipe.output._rest == b""
        pipe.close()

    run_async(scenario())


def test_bytes_that_are_no_text_do_not_stop_it() -> None:
    """They are shown as replacement characters."""

    async def scenario() -> None:
        pipe = Pipe()
        pipe.write(b"\xff\xfe ok\n")
        await pipe.until(lambda: bool(pipe.lines))
        assert pipe.lines == ["\ufffd\ufffd ok"]
        pipe.close()

    run_async(scenario())


def test_flood_is_dropped_and_counted_but_its_end_is_kept() -> None:
    """The lines before the end say why it ended, also when the limit was reached long before."""

    async def scenario() -> None:
        limit = RateLimit(rate=0.001, burst=3)
        pipe = Pipe(limit)
        for number in range(TAIL_LINES * 2):
            pipe.write(b"line %d\n" % number)
        pipe.close()
        assert pipe.lines == ["line 0", "line 1", "line 2"]
        assert limit.refused == TAIL_LINES * 2 - 3
        assert list(pipe.output.tail) == [f"line {number}" for number in range(TAIL_LINES, TAIL_LINES * 2)]

    run_async(scenario())


def test_flood_is_counted_and_not_read_line_by_line() -> None:
    """And its pipe is left alone for a while, so that it fills and the plugin waits instead of the supervisor."""

    async def scenario() -> None:
        limit = AskedLimit(rate=0.001, burst=3)
        pipe = Pipe(limit)
        flood = b"x\n" * (READ_BYTES // 2)
        loop = asyncio.get_running_loop()
        started = loop.time()
        pipe.write(flood)
        await until(lambda: limit.refused == READ_BYTES // 2 - 3)
        assert limit.asked == 4 + 1, "one turn until it is cut, then all that the pipe holds"
        pipe.write(flood)
        await until(lambda: limit.refused == READ_BYTES - 3)
        assert loop.time() - started >= PAUSE_S
        assert limit.asked == 6
        pipe.close()

    run_async(scenario())


def test_flood_of_empty_lines_is_no_way_around_the_limit() -> None:
    """They are not logged, but looking at each takes as long as looking at a line."""

    async def scenario() -> None:
        limit = RateLimit(rate=0.001, burst=3)
        pipe = Pipe(limit)
        pipe.write(b"\n" * 1_000 + b"last\n")
        pipe.close()
        assert pipe.lines == []
        assert limit.refused == 1_001 - 3
        assert list(pipe.output.tail) == ["last"]

    run_async(scenario())


def test_closing_a_paused_pipe_takes_its_end() -> None:
    """The last words of a worker that flooded first."""

    async def scenario() -> None:
        pipe = Pipe(RateLimit(rate=0.001, burst=1))
        pipe.write(b"one\ntwo\n")
        await pipe.until(lambda: bool(pipe.lines))
        pipe.write(b"x" * (MAX_LOG_MESSAGE_LENGTH * 2) + b"\nValueError\n")
        pipe.close()
        assert list(pipe.output.tail) == ["one", "two", "x" * MAX_LOG_MESSAGE_LENGTH, "ValueError"]
        await asyncio.sleep(
            PAUSE_S * 1.5
        )  # nothing to wait for: the end of the pause must not find a closed descriptor

    run_async(scenario())


def test_rate_limit_lets_a_burst_through_and_then_the_rate() -> None:
    """A token bucket: it fills with time, up to the burst."""
    limit = RateLimit(rate=10, burst=5)
    assert [limit.allows(100.0) for _ in range(6)] == [True] * 5 + [False]
    assert [limit.allows(100.11), limit.allows(100.11)] == [True, False]
    assert sum(limit.allows(1_000.0) for _ in range(10)) == 5
    assert limit.refused == 1 + 1 + 5


def test_default_limit_is_the_protocols() -> None:
    """Measured over one burst."""
    limit = log_limit()
    assert sum(limit.allows(1.0) for _ in range(LOG_BURST * 2)) == LOG_BURST

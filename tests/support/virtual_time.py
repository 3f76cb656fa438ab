"""An event loop whose clock jumps to the next timer instead of waiting, and the `Clock` that goes with it.

For shells without threads and without I/O to others: hours of timers run in milliseconds, in exact order.
"""

import asyncio
import selectors
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Give it to `run_async(loop_factory=VirtualTimeLoop)`."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.elapsed_s


class _Jump(selectors.EpollSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("nothing is left that could happen: the test waits for ever")
        if not ready and timeout:
            self._loop.elapsed_s += timeout
        return ready


class VirtualClock:
    """`runnerd.clock.Clock` on a virtual loop. `shift` sets the wall clock, as an operator or NTP would."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._start = start
        self.on_set: list[Callable[[], None]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=round(self.monotonic(), 6))

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def shift(self, seconds: float) -> None:
        self._start += timedelta(seconds=seconds)
        for hear in self.on_set:
            hear()


class VirtualAlarm:
    """`runnerd.triggers.alarm.Alarm` on a virtual clock: it hears as well when that is set."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()
        clock.on_set.append(self.ring)

    async def wait(self, until: datetime | None) -> None:
        delay_s = None if until is None else max(0.0, (until - self._clock.now()).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._rung.wait()
        self._rung.clear()

    def ring(self) -> None:
        self._rung.set()

    def close(self) -> None:
        self._clock.on_set.remove(self.ring)

"""The alarm on the machine's own timerfd: it comes at its time, when it is rung, and when the clock is set."""

import asyncio
import ctypes
import errno
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from runnerd.triggers.alarm import TimerAlarm
from tests.support.aio import run_async

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
SOON = timedelta(milliseconds=30)
LATER = timedelta(hours=1)
ADJ_SETOFFSET = 0x0100
TIMEX_BYTES = 208
TIMEX_TIME_OFFSET = 72
"""Of `time` in `struct timex` on 64 bits (adjtimex(2))."""


def run(
    scenario: Callable[[TimerAlarm], Coroutine[Any, Any, None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    """On the machine's time."""

    async def whole() -> None:
        alarm = TimerAlarm()
        try:
            await scenario(alarm)
        finally:
            alarm.close()

    run_async(whole(), loop_factory=loop_factory)


def touch_the_clock() -> bool:
    """Set the system's clock by a microsecond, and back: by nothing at all it would not be set. False if we may not."""
    for seconds, micros in ((0, 1), (-1, 999_999)):
        timex = (ctypes.c_byte * TIMEX_BYTES)()
        ctypes.c_uint.from_buffer(timex).value = ADJ_SETOFFSET
        ctypes.c_long.from_buffer(timex, TIMEX_TIME_OFFSET).value = seconds
        ctypes.c_long.from_buffer(timex, TIMEX_TIME_OFFSET + ctypes.sizeof(ctypes.c_long)).value = micros
        if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
            assert ctypes.get_errno() == errno.EPERM
            return False
    return True


def count_timers() -> int:
    """The timer descriptors of this process."""
    links = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return links.count("anon_inode:[timerfd]")


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])
def test_it_comes_at_its_moment_and_never_before(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The wall clock says so when it comes; again for the next moment; at once for one that has passed."""

    async def scenario(alarm: TimerAlarm) -> None:
        for _ in range(3):
            moment = datetime.now(UTC) + SOON
            await alarm.wait(moment)
            assert datetime.now(UTC) >= moment
        await alarm.wait(datetime.now(UTC) - LATER)
        await alarm.wait(datetime(1970, 1, 1, tzinfo=UTC))

    run(scenario, loop_factory)


def test_same_moment_again_comes_again() -> None:
    """A timer that has expired is armed anew."""

    async def scenario(alarm: TimerAlarm) -> None:
        moment = datetime.now(UTC) + SOON
        await alarm.wait(moment)
        await alarm.wait(moment)

    run(scenario)


@pytest.mark.parametrize("until", [LATER, None], ids=["later", "never"])
def test_ring_ends_the_wait_and_is_not_forgotten(until: timedelta | None) -> None:
    """What is due next has changed, before or while it waits."""

    async def scenario(alarm: TimerAlarm) -> None:
        moment = None if until is None else datetime.now(UTC) + until
        alarm.ring()
        await alarm.wait(moment)
        asyncio.get_running_loop().call_later(0.01, alarm.ring)
        await alarm.wait(moment)

    run(scenario)


@pytest.mark.parametrize("until", [LATER, None], ids=["later", "never"])
def test_clock_that_is_set_ends_the_wait(until: timedelta | None) -> None:
    """Nobody has to look at it meanwhile; and it is armed again afterwards."""

    async def scenario(alarm: TimerAlarm) -> None:
        waiting = asyncio.get_running_loop().create_task(
            alarm.wait(None if until is None else datetime.now(UTC) + until)
        )
        await asyncio.sleep(0)  # it is armed now
        assert not waiting.done()
        if not touch_the_clock():
            waiting.cancel()
            pytest.skip("needs CAP_SYS_TIME")
        await waiting
        await alarm.wait(datetime.now(UTC) + SOON)

    run(scenario)


def test_it_holds_one_descriptor_and_gives_it_back() -> None:
    """However often it is closed."""

    async def scenario(alarm: TimerAlarm) -> None:
        await alarm.wait(datetime.now(UTC))
        before = count_timers()
        alarm.close()
        alarm.close()
        assert count_timers() == before - 1

    run(scenario)

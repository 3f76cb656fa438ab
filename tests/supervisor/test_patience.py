"""Deadlines count what a worker could have used: a host that stood still, or gave it no CPU, ends nobody."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from runnerd.supervisor import starvation
from runnerd.supervisor.patience import LONGEST, SLEEP_S, Allowance, Deadline, patient_timeout
from runnerd.supervisor.starvation import ThreadTimes, Watch
from tests.support.aio import run_async
from tests.support.until import until
from tests.support.virtual_time import VirtualTimeLoop

SHARES = st.floats(min_value=0, max_value=1)
LIMITS = st.floats(min_value=0.01, max_value=600)


def on_virtual_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_async(scenario(), loop_factory=VirtualTimeLoop, deadline_s=86_400)


@given(LIMITS)
def test_a_worker_that_has_the_cpu_gets_its_limit_exactly(limit_s: float) -> None:
    """However the limit is divided."""
    allowance = Allowance(limit_s)
    while not allowance.is_used_up:
        allowance = allowance.slept(allowance.sleep_s, 0.0)
    assert allowance.counted_s == pytest.approx(limit_s)
    assert allowance.lived_s == pytest.approx(limit_s)


@given(LIMITS, st.lists(SHARES, min_size=1, max_size=20))
def test_it_ends_between_once_and_six_times_the_limit(limit_s: float, shares: list[float]) -> None:
    """A worker cannot win for ever by being hungry, and never has less than its limit."""
    allowance = Allowance(limit_s)
    beats = 0
    while not allowance.is_used_up:
        assert allowance.sleep_s <= max(SLEEP_S[1], limit_s)
        allowance = allowance.slept(allowance.sleep_s, shares[beats % len(shares)])
        beats += 1
    assert limit_s * 0.999 <= allowance.lived_s <= limit_s * LONGEST * 1.001
    assert allowance.counted_s <= limit_s * 1.001


def test_half_a_cpu_doubles_the_deadline() -> None:
    """The share in which it waited for the CPU is not its own."""
    allowance = Allowance(10.0)
    while not allowance.is_used_up:
        allowance = allowance.slept(allowance.sleep_s, 0.5)
    assert allowance.lived_s == pytest.approx(20.0, abs=0.5)


def test_deadline_strikes_once_and_not_after_it_was_cancelled() -> None:
    """On time to the microsecond where nothing is in the way; cancelling is safe at any moment."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        struck: list[float] = []
        kept = Deadline(5.0, lambda: struck.append(-1.0))
        broken = Deadline(5.0, lambda: struck.append(loop.time()))
        await asyncio.sleep(4.9)
        kept.cancel()
        kept.cancel()
        await asyncio.sleep(60)
        broken.cancel()
        assert struck == [pytest.approx(5.0)]

    on_virtual_time(scenario)


def test_time_in_which_the_worker_waits_for_the_ledger_is_not_counted() -> None:
    """However long that is; and afterwards it has what was left."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        struck: list[float] = []
        held_up = False
        Deadline(2.0, lambda: struck.append(loop.time()), is_held_up=lambda: held_up)
        await asyncio.sleep(1.0)
        held_up = True
        await asyncio.sleep(100)
        held_up = False
        await asyncio.sleep(10)
        assert struck == [pytest.approx(102.0, abs=0.25)]

    on_virtual_time(scenario)


def test_time_in_which_the_loop_stood_still_is_not_counted() -> None:
    """A stop of 5 s costs one sleep of a deadline of 1 s, not all of it."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        struck: list[float] = []
        Deadline(1.0, lambda: struck.append(loop.time()))
        await asyncio.sleep(0.35)
        loop.elapsed_s += 5.0
        await asyncio.sleep(10)
        assert struck == [pytest.approx(5.95, abs=0.06)]

    on_virtual_time(scenario)


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_waits_in_the_kernel_is_read_before_a_deadline_strikes(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """An answer that came while the loop was busy keeps the deadline, though the timer is looked at first."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            struck: list[bool] = []
            deadline = Deadline(SLEEP_S[0], lambda: struck.append(True))
            loop.add_reader(ours, deadline.cancel)
            theirs.send(b"answer")
            time.sleep(5 * SLEEP_S[0])  # noqa: ASYNC251  # the loop is held: that is the subject
            await asyncio.sleep(5 * SLEEP_S[0])
            loop.remove_reader(ours)
            assert struck == []
            Deadline(SLEEP_S[0], lambda: struck.append(True))  # the control: nothing comes
            await until(lambda: struck == [True])

    run_async(scenario(), loop_factory=make_loop)


def test_patient_timeout_raises_in_time_and_lets_through_what_ends_before() -> None:
    """As asyncio.timeout; without the time in which the process stood still."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        async with patient_timeout(1.0):
            await asyncio.sleep(0.9)
        began = loop.time()

        async def too_long() -> None:
            async with patient_timeout(1.0):
                loop.elapsed_s += 5.0
                await asyncio.sleep(60)

        with pytest.raises(TimeoutError):
            await too_long()
        assert loop.time() - began == pytest.approx(6.0, abs=0.2)

    on_virtual_time(scenario)


def test_process_that_is_stopped_alone_has_its_deadline_and_no_more() -> None:
    """It does not wait for a CPU: nobody keeps one from it but itself."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:  # noqa: ASYNC220  # a moment
            process.send_signal(signal.SIGSTOP)
            began = loop.time()
            struck: list[float] = []
            Deadline(0.5, lambda: struck.append(loop.time() - began), Watch(process.pid))
            await until(lambda: bool(struck))
            process.kill()
        assert 0.5 <= struck[0] < 0.5 * LONGEST / 2

    run_async(scenario())


def test_nothing_is_read_of_a_process_whose_deadline_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand decides a second must not cost a thousand looks into /proc."""
    looks: list[int] = []

    def read_threads(pid: int) -> dict[int, ThreadTimes]:
        looks.append(pid)
        return {}

    monkeypatch.setattr(starvation, "read_threads", read_threads)
    monkeypatch.setattr(starvation, "FRESH_S", 0.0)
    watch = Watch(7)

    async def scenario() -> None:
        for _ in range(100):
            deadline = Deadline(5.0, lambda: None, watch)
            await asyncio.sleep(0.4)
            deadline.cancel()
        assert looks == []
        Deadline(5.0, lambda: None, watch)
        await asyncio.sleep(6)
        assert looks == [7] * 10

    on_virtual_time(scenario)

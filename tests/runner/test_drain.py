"""How long a stop waits for what is in flight, and that anybody can hurry it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from runnerd.executor.wanted import IntentState
from runnerd.runner.drain import Drain, in_order
from runnerd.runner.runner import _call_hooks
from tests.support.aio import run_async
from tests.support.virtual_time import VirtualTimeLoop


class Flight:
    """What of a `Book` a drain looks at."""

    def __init__(self, *states: IntentState) -> None:
        self.open = {i: SimpleNamespace(intent=SimpleNamespace(state=state)) for i, state in enumerate(states)}


def test_it_waits_until_what_is_in_flight_is_final() -> None:
    """The service manager is told what for."""

    async def scenario() -> list[str]:
        told: list[str] = []
        flight: Any = Flight(IntentState.SENT, IntentState.INCLUDED)
        settling = asyncio.get_running_loop().create_task(Drain(60).settle(flight, told.append))
        while not told:  # noqa: ASYNC110  # the task's first turn
            await asyncio.sleep(0)
        assert not settling.done()
        flight.open.clear()
        async with asyncio.timeout(10):
            await settling
        return told

    assert run_async(scenario()) == ["waiting at most 60 s for 2 transactions in flight"]


@pytest.mark.parametrize("patience_s", [0, 0.01])
def test_what_is_left_is_said_and_left(patience_s: float, caplog: pytest.LogCaptureFixture) -> None:
    """It stands in the ledger."""

    async def scenario() -> None:
        flight: Any = Flight(IntentState.SENT, IntentState.UNRESOLVED)
        async with asyncio.timeout(10):
            await Drain(patience_s).settle(flight, lambda _: None)

    with caplog.at_level("INFO"):
        run_async(scenario())
    assert "1 transactions in flight go on with the next start" in caplog.text


def test_what_only_an_operator_can_mend_is_not_waited_for() -> None:
    """It would be waited for in vain."""

    async def scenario() -> None:
        flight: Any = Flight(IntentState.UNRESOLVED)
        async with asyncio.timeout(10):
            await Drain(3_600).settle(flight, lambda _: None)

    run_async(scenario())


def test_a_hurry_ends_every_waiting() -> None:
    """That under way, and those that come."""

    async def scenario() -> bool:
        drain, is_cancelled = Drain(3_600), False

        async def work() -> None:
            nonlocal is_cancelled
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                is_cancelled = True
                raise

        drain.ask()
        waiting = asyncio.get_running_loop().create_task(drain.patiently(work()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        drain.hurry()
        async with asyncio.timeout(10):
            await waiting
            flight: Any = Flight(IntentState.SENT)
            await drain.settle(flight, lambda _: None)
        return is_cancelled

    assert run_async(scenario())


def test_a_start_is_over_when_somebody_asks_for_the_end() -> None:
    """Whatever it waits for. One that nobody interrupts has its result."""

    async def scenario() -> None:
        drain = Drain(3_600)
        assert await drain.unless_asked(asyncio.sleep(0, "started")) == "started"
        starting = asyncio.get_running_loop().create_task(drain.unless_asked(asyncio.Event().wait()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        drain.ask()
        async with asyncio.timeout(10):
            assert await starting is None

    run_async(scenario())


def test_what_the_work_raises_is_raised() -> None:
    """A drain hides nothing."""

    async def fail() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        run_async(Drain(0).patiently(fail()))


def test_a_hook_that_hangs_keeps_no_other_from_being_called(caplog: pytest.LogCaptureFixture) -> None:
    """The last one given is the first; what each does wrong is in the log."""
    called: list[str] = []

    async def hang() -> None:
        called.append("hangs")
        await asyncio.Event().wait()

    def fail() -> None:
        called.append("fails")
        raise OSError("gone")

    run_async(_call_hooks([lambda: called.append("works"), fail, hang]), loop_factory=VirtualTimeLoop)
    assert called == ["hangs", "fails", "works"]
    slow, broken = [record.getMessage() for record in caplog.records]
    assert slow.startswith("a hook at shutdown took longer than 10 s: <function ")
    assert broken == "a hook at shutdown failed"


def test_a_part_that_ends_badly_keeps_no_other_from_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """All of them end, in order; the first trouble is the one that is raised, and the second is in the log."""
    ended: list[str] = []

    async def end(name: str, error: Exception | None = None) -> None:
        ended.append(name)
        if error is not None:
            raise error

    async def scenario() -> None:
        first, second = OSError("first"), OSError("second")
        await in_order(lambda: end("a"), lambda: end("b", first), lambda: end("c", second), lambda: end("d"))

    with caplog.at_level("ERROR"), pytest.raises(OSError, match="first"):
        run_async(scenario())
    assert ended == ["a", "b", "c", "d"]
    assert "second" in caplog.text

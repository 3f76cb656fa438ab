"""Simulations ahead of an intent's turn: they save time, are used while fresh, and never hurt who asked for them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runnerd.chain.errors import RpcUnavailable
from runnerd.executor.attempt import FRESH_S, Prepared
from runnerd.executor.observation import SimulationReverted
from runnerd.executor.rehearsals import MAX_ALONE, Rehearsals
from runnerd.executor.tracked import Rehearsal
from runnerd.executor.wanted import Intent
from tests.support.aio import run_async

REVERTED = SimulationReverted("no", 7)


class HandClock:
    """Moves by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.at


def tracked(call_id: int = 1, rehearsal: Rehearsal | None = None) -> Any:
    """As the lane holds it."""
    return SimpleNamespace(intent=intent(call_id), rehearsal=rehearsal)


def intent(call_id: int = 1) -> Intent:
    """Only its id is looked at."""
    return cast("Intent", SimpleNamespace(call_id=call_id))


def make(simulate: Callable[[Sequence[Intent]], Awaitable[list[Prepared]]]) -> tuple[Rehearsals, HandClock]:
    """With a clock that stands still."""
    clock = HandClock()
    return Rehearsals(simulate, cast("Any", clock)), clock


async def revert_all(wanted: Sequence[Intent]) -> list[Prepared]:
    """A node that answers."""
    return [REVERTED] * len(wanted)


def test_those_ahead_get_one_each_in_one_request_and_none_twice() -> None:
    """What was rehearsed already is left alone."""
    asked: list[list[int]] = []

    async def simulate(wanted: Sequence[Intent]) -> list[Prepared]:
        asked.append([each.call_id for each in wanted])
        return [SimulationReverted(str(each.call_id), 7) for each in wanted]

    rehearsals, clock = make(simulate)
    before = Rehearsal(REVERTED, clock.at)
    group = [tracked(1), tracked(2, before), tracked(3)]
    run_async(rehearsals.ahead(group))
    run_async(rehearsals.ahead(group))
    assert asked == [[1, 3]]
    assert group[1].rehearsal is before
    assert [cast("Any", rehearsals.take(each)).reason for each in group] == ["1", "no", "3"]


def test_one_is_used_once_and_only_while_it_is_fresh() -> None:
    """The chain moves on."""
    rehearsals, clock = make(revert_all)
    fresh, stale = tracked(1), tracked(2)
    run_async(rehearsals.ahead([fresh, stale]))
    clock.at += FRESH_S
    assert rehearsals.take(fresh) is REVERTED
    assert rehearsals.take(fresh) is None
    clock.at += 0.001
    assert rehearsals.take(stale) is None


def test_error_of_one_intent_is_asked_again() -> None:
    """It proves nothing, and its turn may come later."""
    error = RpcUnavailable("away")

    async def simulate(_: Sequence[Intent]) -> list[Prepared]:
        return [error]

    rehearsals, _ = make(simulate)
    one = tracked()
    run_async(rehearsals.ahead([one]))
    assert rehearsals.take(one) is None


@pytest.mark.parametrize("error", [RpcUnavailable("away"), KeyError("a defect")], ids=["node", "defect"])
def test_failure_is_silence(error: Exception) -> None:
    """Who asks is in the middle of a commit, or of signing others."""

    async def simulate(_: Sequence[Intent]) -> list[Prepared]:
        raise error

    rehearsals, _ = make(simulate)
    one = tracked()
    run_async(rehearsals.ahead([one]))
    assert one.rehearsal is None
    assert run_async(rehearsals.alone(intent())) is None


def test_few_are_simulated_alone_at_a_time_and_a_place_comes_free_again() -> None:
    """Beyond, they are simulated as a group by the lane; an error or a cancellation gives the place back."""

    async def scenario() -> None:
        gate, loop = asyncio.Event(), asyncio.get_running_loop()

        async def simulate(_: Sequence[Intent]) -> list[Prepared]:
            await gate.wait()
            return [REVERTED]

        rehearsals, clock = make(simulate)
        running = [loop.create_task(rehearsals.alone(intent(number))) for number in range(MAX_ALONE)]
        await asyncio.sleep(0)
        assert await rehearsals.alone(intent(9)) is None
        running[0].cancel()
        await asyncio.gather(running[0], return_exceptions=True)
        again = loop.create_task(rehearsals.alone(intent(10)))
        await asyncio.sleep(0)
        gate.set()
        made = await asyncio.gather(*running[1:], again)
        assert made == [Rehearsal(REVERTED, clock.at)] * MAX_ALONE

    run_async(scenario())

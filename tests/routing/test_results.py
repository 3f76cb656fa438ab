"""The end of a call: stored before it is told, told to everybody who waits, whatever listeners do."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runnerd.routing.results import Results
from runnerd.store.calls import JobOutcome, JobResult
from runnerd.store.errors import StoreUnavailable
from runnerd.store.statement import Statement
from tests.support.aio import run_async
from tests.support.caller_parts import FakeLedger
from tests.support.calls import job_call
from tests.support.virtual_time import EPOCH, VirtualClock, VirtualTimeLoop


def run(scenario: Callable[[Results, FakeLedger], Coroutine[Any, Any, None]]) -> None:
    """On virtual time."""

    async def whole() -> None:
        ledger = FakeLedger()
        await scenario(Results(ledger, VirtualClock()), ledger)

    run_async(whole(), loop_factory=VirtualTimeLoop)


def test_outcome_is_stored_together_with_what_belongs_to_it_and_then_told() -> None:
    """One commit; a consumer that hears of a result can rely on it."""

    async def scenario(results: Results, ledger: FakeLedger) -> None:
        stored: list[int] = []
        results.add_consumer(lambda _: stored.append(len(ledger.commits)))
        result = await results.finish(job_call(1), JobOutcome.ACTED, "done", Statement("select 1"), transaction="0xab")
        assert stored == [1]
        ((first, trail, last),) = ledger.commits
        assert first.sql == "select 1"
        assert (trail.parameters["key_0"], trail.parameters["at_0"]) == ("result:1", EPOCH)
        assert (last.parameters["id"], last.parameters["outcome"]) == (1, "acted")
        expected = JobResult(
            call=job_call(1), outcome=JobOutcome.ACTED, reason="done", finished_at=EPOCH, transaction="0xab"
        )
        assert result == expected

    run(scenario)


def test_result_that_could_not_be_stored_is_told_to_nobody() -> None:
    """It did not happen."""

    async def scenario(results: Results, ledger: FakeLedger) -> None:
        told: list[JobResult] = []
        results.add_consumer(told.append)
        ledger.refusal = StoreUnavailable("away")
        with pytest.raises(StoreUnavailable):
            await results.finish(job_call(1), JobOutcome.NOOP, "")
        assert told == []
        assert results.last == {}

    run(scenario)


def test_consumer_that_fails_keeps_the_result_from_nobody() -> None:
    """A defect in a metric must not leave `runnerctl fire --wait` hanging."""

    async def scenario(results: Results, ledger: FakeLedger) -> None:
        told: list[int] = []

        def broken(result: JobResult) -> None:
            raise ValueError("defect")

        results.add_consumer(broken)
        results.add_consumer(lambda result: told.append(result.call.id))
        waiting = asyncio.get_running_loop().create_task(results.wait_for(1, 5))
        await asyncio.sleep(0)
        await results.finish(job_call(1), JobOutcome.NOOP, "")
        assert told == [1]
        found = await waiting
        assert found is not None
        assert found.outcome is JobOutcome.NOOP

    run(scenario)


def test_all_who_wait_get_the_result_and_late_ones_get_none() -> None:
    """A wait has a deadline of its own, and one that is over leaves nothing behind."""

    async def scenario(results: Results, ledger: FakeLedger) -> None:
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(results.wait_for(1, seconds)) for seconds in (10, 10, 0.5)]
        cancelled = loop.create_task(results.wait_for(1, 10))
        await asyncio.sleep(1)
        cancelled.cancel()
        assert waits[2].result() is None
        await results.finish(job_call(2), JobOutcome.NOOP, "another")
        await results.finish(job_call(1), JobOutcome.DENIED, "paused")
        outcomes = [found and found.outcome for found in await asyncio.gather(*waits)]
        assert outcomes == [JobOutcome.DENIED, JobOutcome.DENIED, None]
        assert await results.wait_for(3, 0.1) is None
        assert results._waiting == {}

    run(scenario)


def test_last_outcome_of_each_plugin_is_at_hand() -> None:
    """For the status table."""

    async def scenario(results: Results, ledger: FakeLedger) -> None:
        await results.finish(job_call(1), JobOutcome.NOOP, "old")
        await results.finish(job_call(2), JobOutcome.FAILED, "new")
        await results.finish(job_call(3, plugin="beta"), JobOutcome.NOOP, "other")
        assert {name: (last.outcome, last.reason) for name, last in results.last.items()} == {
            "alpha": ("failed", "new"),
            "beta": ("noop", "other"),
        }

    run(scenario)

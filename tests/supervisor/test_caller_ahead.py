"""A call that is decided while it is being stored: its answer counts when it is, and its worker's end does not."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runnerd.pauses import Pause, Scope
from runnerd.supervisor.ahead import Ahead
from tests.support.aio import run_async
from tests.support.caller_parts import CallerBench
from tests.support.calls import job_call
from tests.support.virtual_time import EPOCH, VirtualTimeLoop


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On virtual time."""
    run_async(scenario(), loop_factory=VirtualTimeLoop, deadline_s=86_400)


def ready() -> CallerBench:
    """With a worker, and a block at hand."""
    bench = CallerBench()
    bench.worker_ready()
    bench.snapshots.is_at_hand = True
    return bench


def ahead_of(bench: CallerBench, call_id: int) -> Ahead:
    """Of a call that the worker has been given."""
    ahead = bench.caller.offer_ahead(job_call(call_id))
    assert ahead is not None
    assert bench.seat.asked[-1].call.id == call_id
    return ahead


@pytest.mark.parametrize("is_raised", [False, True])
def test_its_answer_waits_for_the_ledger_and_counts_once(is_raised: bool) -> None:
    """Whatever it is."""

    async def scenario() -> None:
        bench = ready()
        ahead = ahead_of(bench, 1)
        assert (bench.fail if is_raised else bench.answer)(1) is None
        await bench.settle()
        assert (bench.executor.accepted, bench.results) == ([], {})
        assert ahead.settle(is_stored=True), "nobody is to offer it again"
        await bench.settle()
        assert bench.outcome(1) == ("failed: decide raised ValueError: no" if is_raised else "noop: accepted")
        await bench.close()

    run(scenario)


@pytest.mark.parametrize("is_raised", [False, True])
def test_of_one_that_was_not_stored_nothing_comes(is_raised: bool) -> None:
    """There is no such call."""

    async def scenario() -> None:
        bench = ready()
        ahead = ahead_of(bench, 1)
        (bench.fail if is_raised else bench.answer)(1)
        ahead.settle(is_stored=False)
        await bench.settle()
        assert (bench.executor.accepted, bench.results, bench.caller.deciding) == ([], {}, 0)
        await bench.close()

    run(scenario)


def test_when_its_worker_ends_before_it_is_offered_as_if_none_had_had_it() -> None:
    """Nobody is blamed on its account: the ledger has no row to count in."""

    async def scenario() -> None:
        bench = ready()
        ahead = ahead_of(bench, 1)
        bench.worker_ends()
        assert not ahead.settle(is_stored=True)
        bench.say_hello()
        bench.caller.offer(job_call(1))
        await bench.settle()
        assert (bench.seat.asked[-1].call.id, bench.seat.asked[-1].call.attempt) == (1, 1)
        bench.answer(1)
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"
        await bench.close()

    run(scenario)


def test_when_its_worker_ends_afterwards_it_is_counted_as_every_other() -> None:
    """It is stored by then."""

    async def scenario() -> None:
        bench = ready()
        assert ahead_of(bench, 1).settle(is_stored=True)
        bench.worker_ends()
        bench.say_hello()
        await bench.settle()
        assert (bench.seat.asked[-1].call.id, bench.seat.asked[-1].call.attempt) == (1, 2)
        bench.answer(1)
        await bench.settle()
        await bench.close()

    run(scenario)


def test_it_is_given_only_where_it_would_be_given_at_once() -> None:
    """Not before others that wait, beyond `parallel`, without a worker or a block at hand, or during a pause."""

    async def scenario() -> None:
        bench = CallerBench(parallel=1)
        bench.snapshots.is_at_hand = True
        assert bench.caller.offer_ahead(job_call(1)) is None, "no worker"
        bench.worker_ready()
        bench.snapshots.is_at_hand = False
        assert bench.caller.offer_ahead(job_call(1)) is None, "no block"
        bench.snapshots.is_at_hand = True
        bench.services.pauses.add(Pause(Scope.ALL, "*", "test", EPOCH))
        assert bench.caller.offer_ahead(job_call(1)) is None, "a pause"
        bench.services.pauses.remove(Scope.ALL, "*")
        bench.caller.offer(job_call(1))
        assert bench.caller.offer_ahead(job_call(2)) is None, "no place"
        bench.caller.offer(job_call(2))
        assert bench.caller.offer_ahead(job_call(3)) is None, "one waits"
        for call_id in (1, 2):
            bench.answer(call_id)
            await bench.settle()
        assert (bench.caller.deciding, bench.caller.waiting) == (0, 0)
        assert sorted(bench.results) == [1, 2]
        await bench.close()

    run(scenario)

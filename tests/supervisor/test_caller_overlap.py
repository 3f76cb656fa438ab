"""Calls of one trigger that overlap, through workers that end and processes that start anew: one result each."""

from collections.abc import Callable, Coroutine
from typing import Any

from protocol.trigger import Overlap
from runnerd.store.calls import JobCall
from runnerd.supervisor import machine
from tests.support.aio import run_async
from tests.support.caller_parts import CallerBench
from tests.support.calls import job_call
from tests.support.virtual_time import VirtualTimeLoop


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On virtual time."""
    run_async(scenario(), loop_factory=VirtualTimeLoop)


def calls_of(overlap: Overlap, *call_ids: int) -> list[JobCall]:
    return [job_call(call_id, source="event flow", overlap=overlap) for call_id in call_ids]


def asked(bench: CallerBench) -> list[int]:
    return [message.call.id for message in bench.seat.asked]


def test_superseded_call_ends_as_expired_and_says_by_which() -> None:
    """What runs is not disturbed; the newest is decided next."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        for call in calls_of("coalesce", 1, 2, 3, 4):
            bench.caller.offer(call)
        await bench.settle()
        assert asked(bench) == [1]
        assert {call_id: bench.outcome(call_id) for call_id in bench.results} == {
            2: "expired: superseded by call 3", 3: "expired: superseded by call 4",
        }  # fmt: skip
        bench.answer(1)
        await bench.settle()
        bench.answer(4)
        await bench.settle()
        assert (asked(bench), sorted(bench.results)) == ([1, 4], [1, 2, 3, 4])
        await bench.close()

    run(scenario)


def test_queued_calls_are_decided_one_after_the_other() -> None:
    """Each only after the answer to the one before; another trigger's beside them."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        for call in [*calls_of("queue", 1, 2), job_call(3, source="every 1 s", overlap="queue")]:
            bench.caller.offer(call)
        await bench.settle()
        assert asked(bench) == [1, 3]
        bench.answer(1)
        await bench.settle()
        assert asked(bench) == [1, 3, 2]
        await bench.close()

    run(scenario)


def test_worker_that_ends_changes_neither_the_order_nor_the_rule() -> None:
    """Queued: the one that it had goes first again. Coalescing: the newest is decided in its place."""

    async def scenario() -> None:
        for overlap, first in (("queue", 1), ("coalesce", 2)):
            bench = CallerBench()
            bench.worker_ready()
            for call in calls_of(overlap, 1, 2):  # type: ignore[arg-type]  # one of them
                bench.caller.offer(call)
            await bench.settle()
            bench.worker_ends()
            bench.say_hello()
            await bench.settle()
            assert asked(bench) == [1, first]
            bench.answer(first)
            await bench.settle()
            if overlap == "queue":
                bench.answer(2)
                await bench.settle()
            else:
                assert bench.outcome(1) == "expired: superseded by call 2"
            assert sorted(bench.results) == [1, 2]
            await bench.close()

    run(scenario)


def test_next_process_finds_the_same_calls_and_keeps_the_same_rule() -> None:
    """None of them was decided when the former one ended: one by one, or the newest alone."""

    async def scenario() -> None:
        for overlap, order in (("parallel", [1, 2, 3]), ("queue", [1]), ("coalesce", [3]), ("skip", [1])):
            bench = CallerBench()
            bench.worker_ready()
            bench.caller.offer_again(calls_of(overlap, 1, 2, 3), is_awaited=True)  # type: ignore[arg-type]  # one of them
            await bench.settle()
            assert asked(bench) == order
            ended = {call_id: bench.outcome(call_id) for call_id in bench.results}
            superseded = {1: "expired: superseded by call 2", 2: "expired: superseded by call 3"}
            assert ended == (superseded if overlap == "coalesce" else {})
            await bench.close()

    run(scenario)


def test_call_that_is_owed_has_a_place_in_a_full_queue() -> None:
    """It was stored together with its producer's position: to end it for want of room would lose what it is about."""

    async def scenario() -> None:
        bench = CallerBench(queue=1)
        bench.seat.dispatch(machine.Start())
        for call_id in (1, 2, 3):
            bench.caller.offer(job_call(call_id), is_owed=call_id == 2)
        await bench.settle()
        assert bench.caller.waiting == 2
        assert {call_id: bench.outcome(call_id) for call_id in bench.results} == {
            3: "failed: queue is full (1 calls wait)"
        }
        await bench.close()

    run(scenario)

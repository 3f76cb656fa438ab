"""Every call ends in exactly one JobResult: whatever happens to workers, chain and ledger, and in which order.

On virtual time, with the real desk, state machine and results; fakes stand for the seat and for what is outside.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.messages import TriggerKind
from runnerd.config.routing import RouteLimits
from runnerd.pauses import Pause, Scope
from runnerd.store.calls import JobResult
from runnerd.store.errors import CommitRefused, StateOverLimit
from runnerd.supervisor import machine
from runnerd.supervisor.ahead import Ahead
from runnerd.supervisor.caller import Caller
from runnerd.supervisor.context import SnapshotFailed
from runnerd.supervisor.machine import Phase
from runnerd.supervisor.places import AllRoutes
from tests.support.aio import run_async
from tests.support.caller_parts import CRON, CallerBench
from tests.support.calls import job_call
from tests.support.virtual_time import EPOCH, VirtualTimeLoop


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On virtual time: hours take milliseconds, and waiting for what cannot come fails at once."""
    run_async(scenario(), loop_factory=VirtualTimeLoop, deadline_s=86_400)


# --- a call's way ----------------------------------------------------------------------------------------------------


def test_answer_goes_to_the_executor_with_the_very_frame_that_was_asked() -> None:
    """The ledger keeps the Decide frame for replay, and who decided what when."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.snapshots.reads = {"spot": (1 << 256) - 1}
        bench.caller.offer(job_call(1))
        await bench.settle()
        asked = bench.seat.asked[0]
        assert (asked.call.id, asked.call.attempt, asked.reads) == (1, 1, {"spot": (1 << 256) - 1})
        assert bench.answer(1) is None
        await bench.settle()
        decided = bench.executor.accepted[0]
        assert str((1 << 256) - 1) in decided.context
        assert (decided.vault, decided.generation, decided.attempt) == ("main", 1, 1)
        assert bench.outcome(1) == "noop: accepted"
        assert bench.caller.deciding == 0
        await bench.close()

    run(scenario)


def test_call_whose_snapshot_is_at_hand_is_sent_at_once() -> None:
    """In the turn of the loop that offers it; one that may not be decided ends as it does otherwise."""

    async def scenario() -> None:
        bench = CallerBench(parallel=3)
        bench.worker_ready()
        bench.snapshots.is_at_hand = True
        bench.caller.offer(job_call(1))
        assert [asked.call.id for asked in bench.seat.asked] == [1]
        bench.services.pauses.add(Pause(Scope.PLUGIN, "alpha", "uid:1", EPOCH))
        for number in range(2, 1_000):  # more than a recursion would bear
            bench.caller.keep(job_call(number))
        assert bench.answer(1) is None
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"
        assert {bench.outcome(number)[:7] for number in range(2, 1_000)} == {"denied:"}
        assert (bench.caller.deciding, bench.caller.waiting) == (0, 0)
        await bench.close()

    run(scenario)


def test_worker_that_keeps_too_much_state_is_ended_and_nobody_else_is_blamed() -> None:
    """The call that did it has failed already; those beside it wait for the next worker, with no attempt counted.

    Any other refusal of the ledger ends no worker.
    """

    async def scenario() -> None:
        bench = CallerBench(parallel=2)
        bench.worker_ready()
        for number in (1, 2, 3):
            bench.caller.offer(job_call(number))
        await bench.settle()
        bench.executor.failure = CommitRefused("odd")
        bench.answer(1)
        await bench.settle()
        assert bench.seat.aborts == []
        bench.executor.failure = StateOverLimit("over its state limit: 2 of 1 keys")
        bench.answer(2)
        await bench.settle()
        assert bench.seat.aborts == ["over its state limit: 2 of 1 keys"]
        assert bench.outcome(2) == "failed: the Decision cannot be stored: over its state limit: 2 of 1 keys"
        bench.worker_ends()
        bench.executor.failure = None
        bench.say_hello()
        await bench.settle()
        assert [(asked.call.id, asked.call.attempt) for asked in bench.seat.asked[-1:]] == [(3, 1)]
        await bench.close()

    run(scenario)


def test_two_calls_are_decided_in_parallel_up_to_the_limit() -> None:
    """No hidden mutex: the second is asked before the first has answered; the third waits for a place."""

    async def scenario() -> None:
        bench = CallerBench(parallel=2)
        bench.worker_ready()
        for call_id in (1, 2, 3):
            bench.caller.offer(job_call(call_id))
        await bench.settle()
        assert [asked.call.id for asked in bench.seat.asked] == [1, 2]
        assert (bench.caller.deciding, bench.caller.waiting) == (2, 1)
        bench.answer(2)
        await bench.settle()
        assert [asked.call.id for asked in bench.seat.asked] == [1, 2, 3]
        await bench.close()

    run(scenario)


def test_calls_wait_for_a_worker_that_is_not_there_yet() -> None:
    """A call may come before Hello."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.seat.dispatch(machine.Start())
        bench.caller.offer(job_call(1))
        await bench.settle()
        assert bench.seat.asked == []
        bench.say_hello()
        await bench.settle()
        bench.answer(1)
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"
        await bench.close()

    run(scenario)


def test_full_queue_fails_the_call_at_once() -> None:
    """And says how many wait."""

    async def scenario() -> None:
        bench = CallerBench(queue=1)
        bench.seat.dispatch(machine.Start())
        bench.caller.offer(job_call(1))
        bench.caller.offer(job_call(2))
        await bench.settle()
        assert bench.outcome(2) == "failed: queue is full (1 calls wait)"
        assert 1 not in bench.results
        await bench.close()

    run(scenario)


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.QUARANTINED])
def test_call_of_a_plugin_that_will_not_run_fails_with_the_reason(phase: Phase) -> None:
    """Nobody would decide it."""

    async def scenario() -> None:
        bench = CallerBench()
        if phase is Phase.QUARANTINED:
            bench.dispatch(machine.Forbidden("the operator is another"))
        bench.caller.offer(job_call(1))
        await bench.settle()
        assert bench.outcome(1).startswith(f"failed: plugin is {phase}")
        await bench.close()

    run(scenario)


def test_paused_plugin_denies_and_names_who_paused_it() -> None:
    """Asked before each call; after the resume calls are decided again."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.services.pauses.add(Pause(Scope.VAULT, "main", "uid:0", EPOCH))
        bench.caller.offer(job_call(1))
        await bench.settle()
        assert bench.outcome(1) == "denied: vault main is paused by uid:0 since 2026-01-01 12:00:00 UTC"
        bench.services.pauses.remove(Scope.VAULT, "main")
        bench.caller.offer(job_call(2))
        await bench.settle()
        bench.answer(2)
        await bench.settle()
        assert bench.outcome(2) == "noop: accepted"
        await bench.close()

    run(scenario)


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure, outcome",
    [
        (SnapshotFailed("read spot: reverted"), "failed: snapshot: read spot: reverted"),
        (KeyError("spot"), "failed: internal error: KeyError: 'spot'"),
    ],
    ids=["the node refuses", "a defect"],
)
def test_call_without_a_context_fails_and_frees_its_place(failure: Exception, outcome: str) -> None:
    """The next call is decided as if nothing had been."""

    async def scenario() -> None:
        bench = CallerBench(parallel=1)
        bench.worker_ready()
        bench.snapshots.failure = failure
        bench.caller.offer(job_call(1))
        await bench.settle()
        assert bench.outcome(1) == outcome
        bench.snapshots.failure = None
        bench.caller.offer(job_call(2))
        await bench.settle()
        assert bench.seat.asked[-1].call.id == 2
        await bench.close()

    run(scenario)


def test_context_that_does_not_fit_a_frame_fails_the_call() -> None:
    """The worker is never sent what its link would not carry."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.snapshots.reads = {f"read_{i}": (1 << 256) - 1 for i in range(15_000)}
        bench.caller.offer(job_call(1))
        await bench.settle()
        assert bench.outcome(1).startswith("failed: snapshot: Decide takes ")
        assert bench.seat.asked == []
        await bench.close()

    run(scenario)


def test_defect_in_the_executor_fails_the_call() -> None:
    """Whatever it is: a call without a result would wait until the next start."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.executor.failure = KeyError("main")
        bench.caller.offer(job_call(1))
        await bench.settle()
        bench.answer(1)
        await bench.settle()
        assert bench.outcome(1) == "failed: internal error: KeyError: 'main'"
        await bench.close()

    run(scenario)


def test_decision_that_cannot_be_stored_fails_the_call() -> None:
    """Such as a state value with NUL in it: without a result the call would be decided again after every restart."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.executor.failure = CommitRefused("text cannot contain NUL (0x00) bytes")
        bench.caller.offer(job_call(1))
        await bench.settle()
        bench.answer(1)
        await bench.settle()
        expected = "failed: the Decision cannot be stored: text cannot contain NUL (0x00) bytes"
        assert bench.outcome(1) == expected
        await bench.close()

    run(scenario)


def test_answers_that_answer_nothing_are_named() -> None:
    """Unknown call, wrong attempt, second answer: the host quarantines for each."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.caller.offer(job_call(1))
        await bench.settle()
        assert bench.answer(9, attempt=1) == "an answer to call 9, which is not with it"
        assert bench.answer(1, attempt=2) == "an answer to call 1, which is not with it"
        assert bench.answer(1) is None
        assert bench.answer(1) == "an answer to call 1, which is not with it"
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"
        await bench.close()

    run(scenario)


def test_raising_decide_fails_the_call_and_skips_the_next_tick_only() -> None:
    """A skipped tick is a result of its own; events and manual calls are never skipped."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.caller.offer(job_call(1))
        await bench.settle()
        bench.fail(1)
        await bench.settle()
        assert bench.outcome(1) == "failed: decide raised ValueError: no"
        bench.caller.offer(job_call(2, trigger=TriggerKind.MANUAL))
        bench.caller.offer(job_call(3, trigger=CRON))
        bench.caller.offer(job_call(4, trigger=CRON))
        await bench.settle()
        assert bench.outcome(3) == "expired: skipped, 0 more: plugin is unhealthy: ValueError: no"
        assert [asked.call.id for asked in bench.seat.asked] == [1, 2, 4]
        await bench.close()

    run(scenario)


# --- the worker ends -------------------------------------------------------------------------------------------------


def test_worker_that_ends_while_the_chain_is_asked_costs_no_attempt() -> None:
    """The call was never with it; the next worker decides it."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.snapshots.gate.clear()
        bench.caller.offer(job_call(1))
        await bench.settle()
        bench.worker_ends()
        bench.snapshots.gate.set()
        await bench.settle()
        assert (bench.caller.waiting, bench.caller.deciding) == (1, 0)
        bench.say_hello()
        await bench.settle()
        assert bench.seat.asked[0].call.attempt == 1
        bench.answer(1)
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"
        await bench.close()

    run(scenario)


def test_plugin_quarantined_while_the_chain_is_asked_fails_the_call() -> None:
    """When the snapshot comes nobody is left to decide it, and nobody would look at it again."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.snapshots.gate.clear()
        bench.caller.offer(job_call(1))
        await bench.settle()
        bench.dispatch(machine.Refused("bad protocol: garbage"))
        bench.worker_ends()
        bench.snapshots.gate.set()
        await bench.settle()
        assert bench.outcome(1) == "failed: plugin is quarantined: bad protocol: garbage"
        assert (bench.caller.waiting, bench.caller.deciding) == (0, 0)
        await bench.close()

    run(scenario)


def test_plugin_removed_while_the_chain_is_asked_fails_the_call_with_that_reason() -> None:
    """A removed plugin leaves nothing behind."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.snapshots.gate.clear()
        bench.caller.offer(job_call(1))
        await bench.settle()
        bench.dispatch(machine.StopRequested())
        bench.worker_ends()
        bench.caller.close("the plugin was removed")
        bench.snapshots.gate.set()
        await bench.settle()
        assert bench.outcome(1) == "failed: the plugin was removed"
        await bench.close()

    run(scenario)


def test_call_put_back_into_an_empty_queue_still_expires() -> None:
    """The sweep starts again for it, though nothing new was offered."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.snapshots.gate.clear()
        bench.caller.offer(job_call(1, deadline_s=30))
        await bench.settle()
        bench.worker_ends()
        bench.snapshots.gate.set()
        await bench.until(lambda: 1 in bench.results)
        assert bench.outcome(1) == "expired: its deadline passed in the queue (plugin was starting)"
        assert 30 <= bench.clock.monotonic() <= 32
        await bench.close()

    run(scenario)


def test_call_that_ended_its_worker_is_counted_and_decided_again() -> None:
    """With one more attempt, durably, so that a restart of runnerd goes on counting."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.caller.offer(job_call(1))
        await bench.settle()
        bench.worker_ends()
        bench.say_hello()
        await bench.settle()
        assert [asked.call.attempt for asked in bench.seat.asked] == [1, 2]
        assert bench.ledger.written("set attempts") == [{"id": 1, "attempts": 1}]
        bench.answer(1)
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"
        await bench.close()

    run(scenario)


def test_call_that_ended_its_worker_three_times_is_dead() -> None:
    """It never gets a fourth; what waits behind it goes on."""

    async def scenario() -> None:
        bench = CallerBench(parallel=1)
        bench.worker_ready()
        bench.caller.offer(job_call(1))
        bench.caller.offer(job_call(2))
        for _ in range(3):
            await bench.settle()
            bench.worker_ends()
            if bench.seat.state.phase is Phase.BACKOFF:
                bench.seat.dispatch(machine.Woke())
            bench.say_hello()
        await bench.settle()
        assert bench.outcome(1) == "dead: it ended its worker 3 times, last: killed"
        assert bench.ledger.written("set attempts")[-1] == {"id": 1, "attempts": 3}
        assert bench.seat.asked[-1].call.id == 2
        await bench.close()

    run(scenario)


def test_after_a_common_end_the_suspects_run_one_at_a_time() -> None:
    """So the next end tells which of them it was, and the innocent one is not counted to death."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        for call_id in (1, 2):
            bench.caller.offer(job_call(call_id))
        await bench.settle()
        bench.worker_ends()
        bench.say_hello()
        await bench.settle()
        assert [asked.call.id for asked in bench.seat.asked[2:]] == [1]
        bench.answer(1)
        await bench.settle()
        assert [asked.call.id for asked in bench.seat.asked[2:]] == [1, 2]
        await bench.close()

    run(scenario)


@pytest.mark.parametrize("failure", [None, ValueError("a defect")])
def test_the_next_of_a_queue_is_asked_when_the_decision_before_it_is_stored(failure: Exception | None) -> None:
    """Or never will be. It reads what that one wrote."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.executor.failure = failure
        bench.executor.gate.clear()
        bench.worker_ready()
        for call_id in (1, 2):
            bench.caller.offer(job_call(call_id, overlap="queue"))
        await bench.settle()
        assert bench.answer(1) is None
        await bench.settle()
        assert [asked.call.id for asked in bench.seat.asked] == [1]
        bench.executor.gate.set()
        await bench.settle()
        assert [asked.call.id for asked in bench.seat.asked] == [1, 2]
        await bench.close()

    run(scenario)


def test_overdue_call_ends_its_worker_and_only_it_is_counted() -> None:
    """The decide deadline; calls beside it are innocent, also those that become overdue while the worker dies."""

    async def scenario() -> None:
        bench = CallerBench(decide_deadline_s=5.0)
        bench.worker_ready()
        bench.seat.is_held_up = True  # the ledger is away, and the worker waits for it: its time begins afterwards
        bench.caller.offer(job_call(1))
        await bench.until(lambda: bench.clock.monotonic() >= 20.0)
        bench.seat.is_held_up = False
        await bench.until(lambda: bench.clock.monotonic() >= 20.5)
        bench.caller.offer(job_call(2))
        await bench.until(lambda: bench.clock.monotonic() >= 25.8)
        assert bench.seat.aborts == ["decide of call 1 took longer than 5 s"]
        bench.worker_ends()
        bench.say_hello()
        await bench.settle()
        assert [(asked.call.id, asked.call.attempt) for asked in bench.seat.asked[2:]] == [(1, 2)]
        assert bench.answer(1) is None
        await bench.settle()
        assert (bench.seat.asked[-1].call.id, bench.seat.asked[-1].call.attempt) == (2, 1)
        await bench.close()

    run(scenario)


def test_answer_that_comes_before_the_overdue_worker_has_ended_counts() -> None:
    """Late, but decided: nobody is blamed for it."""

    async def scenario() -> None:
        bench = CallerBench(decide_deadline_s=5.0)
        bench.worker_ready()
        bench.caller.offer(job_call(1))
        await bench.until(lambda: bench.clock.monotonic() >= 0.5)
        bench.caller.offer(job_call(2))
        await bench.until(lambda: bool(bench.seat.aborts))
        assert bench.answer(1) is None
        bench.worker_ends()
        bench.say_hello()
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"
        assert (bench.seat.asked[-1].call.id, bench.seat.asked[-1].call.attempt) == (2, 1)
        assert bench.ledger.written("set attempts") == []
        await bench.close()

    run(scenario)


@pytest.mark.parametrize(
    "before, end",
    [(machine.StopRequested(then_start=True), machine.Exited("exit code 0")), (None, machine.Lost("zygote died"))],
    ids=["a commanded restart", "the zygote's death"],
)
def test_blameless_end_counts_against_no_call(before: machine.Event | None, end: machine.Event) -> None:
    """Ten times over: it would be dead otherwise."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.caller.offer(job_call(1))
        for _ in range(10):
            await bench.settle()
            assert bench.seat.asked[-1].call.attempt == 1
            if before is not None:
                bench.dispatch(before)
            bench.worker_ends(end)
            bench.say_hello()
        await bench.settle()
        bench.answer(1)
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"
        assert bench.ledger.written("set attempts") == []
        await bench.close()

    run(scenario)


def test_calls_of_a_refused_worker_fail_when_it_has_ended() -> None:
    """Waiting ones at once, the one that was with it after its end: it could still have answered."""

    async def scenario() -> None:
        bench = CallerBench(parallel=1)
        bench.worker_ready()
        bench.caller.offer(job_call(1))
        bench.caller.offer(job_call(2))
        await bench.settle()
        bench.dispatch(machine.Refused("bad protocol: garbage"))
        await bench.settle()
        assert list(bench.results) == [2]
        bench.worker_ends()
        await bench.settle()
        assert bench.outcome(1) == bench.outcome(2) == "failed: plugin is quarantined: bad protocol: garbage"
        await bench.close()

    run(scenario)


# --- the deadline ----------------------------------------------------------------------------------------------------


def test_call_expires_in_the_queue_within_a_second_of_its_deadline() -> None:
    """Also when no worker ever comes, and whichever place it has in the queue."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.seat.dispatch(machine.Start())
        bench.caller.offer(job_call(1, deadline_s=100))
        bench.caller.offer(job_call(2, deadline_s=10))
        await bench.until(lambda: 2 in bench.results, 3_600)
        assert bench.outcome(2) == "expired: its deadline passed in the queue (plugin was starting)"
        assert 10 <= bench.clock.monotonic() <= 11.1
        await bench.until(lambda: 1 in bench.results, 3_600)
        assert 100 <= bench.clock.monotonic() <= 101.1
        await bench.close()

    run(scenario)


def test_call_whose_deadline_passed_is_not_given_to_a_worker() -> None:
    """Recovered from a former run, for instance."""

    async def scenario() -> None:
        bench = CallerBench()
        bench.worker_ready()
        bench.caller.offer(job_call(1, deadline_s=0))
        await bench.settle()
        assert bench.outcome(1) == "expired: its deadline passed before it could be decided"
        assert bench.seat.asked == []
        await bench.close()

    run(scenario)


# --- any order -------------------------------------------------------------------------------------------------------


class Chaos:
    """What may happen, a method each; one that cannot happen now does nothing."""

    def __init__(self, *, is_at_hand: bool = False) -> None:
        self.bench = CallerBench(parallel=3, queue=4, decide_deadline_s=5.0)
        self.bench.snapshots.is_at_hand = is_at_hand
        self.offered = 0
        self._storing: list[Ahead] = []

    def offer(self, trigger: TriggerKind = TriggerKind.EVENT) -> None:
        self.offered += 1
        deadline_s = 20 + 30 * (self.offered % 3)
        fired_at = self.bench.clock.now()
        self.bench.caller.offer(job_call(self.offered, trigger=trigger, fired_at=fired_at, deadline_s=deadline_s))

    def tick(self) -> None:
        self.offer(CRON)

    def ahead(self) -> None:
        call = job_call(self.offered + 1, fired_at=self.bench.clock.now())
        ahead = self.bench.caller.offer_ahead(call)
        if ahead is None:
            self.offer()
        else:
            self.offered += 1
            self._storing.append(ahead)

    def store(self) -> None:
        while self._storing:
            ahead = self._storing.pop(0)
            if not ahead.settle(is_stored=True):
                self.bench.caller.offer(ahead.call)

    def answer(self) -> None:
        for call_id in list(self.bench.caller._open)[-1:]:
            assert self.bench.answer(call_id) is None

    def fail(self) -> None:
        for call_id in list(self.bench.caller._open)[:1]:
            assert self.bench.fail(call_id) is None

    def exit(self) -> None:
        if self.bench.seat.state.has_worker:
            self.bench.worker_ends()

    def lose(self) -> None:
        if self.bench.seat.state.has_worker:
            self.bench.worker_ends(machine.Lost("zygote died"))

    def refuse(self) -> None:
        if self.bench.seat.state.has_worker:
            self.bench.dispatch(machine.Refused("bad protocol"))

    def restart(self) -> None:
        self.bench.dispatch(machine.StopRequested(then_start=True))

    def start(self) -> None:
        self.bench.dispatch(machine.Start())

    def hello(self) -> None:
        if self.bench.seat.state.phase is Phase.STARTING:
            self.bench.say_hello()

    def block_chain(self) -> None:
        self.bench.snapshots.gate.clear()

    def free_chain(self) -> None:
        self.bench.snapshots.gate.set()

    def break_chain(self) -> None:
        self.bench.snapshots.failure = SnapshotFailed("no")

    def mend_chain(self) -> None:
        self.bench.snapshots.failure = None

    def pause(self) -> None:
        self.bench.services.pauses.add(Pause(Scope.ALL, "*", "test", EPOCH))

    def resume(self) -> None:
        self.bench.services.pauses.remove(Scope.ALL, "*")

    async def pass_time(self, seconds: float) -> None:
        await self.bench.settle()
        await asyncio.sleep(seconds)
        wake_at = self.bench.seat.state.wake_at
        if wake_at is not None and wake_at <= self.bench.clock.monotonic():
            self.bench.dispatch(machine.Woke())


STEPS = [name for name, step in vars(Chaos).items() if name[0] != "_" and not asyncio.iscoroutinefunction(step)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([0.0, 0.0, 1.0, 61.0])), max_size=50), st.booleans())
def test_every_call_ends_exactly_once_in_any_order_of_events(steps: list[tuple[str, float]], is_at_hand: bool) -> None:
    """And nothing is left on the desk. A second result fails in the bench itself."""

    async def scenario() -> None:
        chaos = Chaos(is_at_hand=is_at_hand)
        bench = chaos.bench
        bench.worker_ready()
        for name, seconds in steps:
            getattr(chaos, name)()
            await chaos.pass_time(seconds)
        chaos.free_chain()
        chaos.store()
        await bench.settle()
        chaos.exit()
        await bench.until(lambda: len(bench.results) == chaos.offered, 200)
        assert (bench.caller.waiting, bench.caller.deciding, bench.caller._open) == (0, 0, {})
        await bench.close()

    run(scenario)


# --- layers and dry runs ---------------------------------------------------------------------------------------------


def test_decide_of_a_job_has_the_deadline_of_its_layers() -> None:
    """The tightest of all routes, the plugin and the job."""

    async def scenario() -> None:
        bench = CallerBench(decide_deadline_s=5.0, jobs={"settle": RouteLimits(decide_deadline_s=0.5)})
        bench.worker_ready()
        bench.caller.offer(job_call(1))
        bench.caller.offer(job_call(2, job="settle"))
        await bench.until(lambda: bool(bench.seat.aborts))
        assert bench.seat.aborts == ["decide of call 2 took longer than 0.5 s"]
        await bench.close()

    run(scenario)


def test_plugins_share_the_places_of_all_routes() -> None:
    """Of one that is held up nothing is lost, and its calls go on when there is a place."""

    async def scenario() -> None:
        bench, other = CallerBench(), CallerBench()
        shared = AllRoutes(RouteLimits(parallel=1))
        for each in (bench, other):
            each.services = replace(each.services, all_routes=shared)
            each.caller = Caller(each.seat, each.services, each.tasks, lambda: False)
            each.worker_ready()
        bench.caller.offer(job_call(1))
        other.caller.offer(job_call(2))
        await bench.settle()
        assert (len(bench.seat.asked), len(other.seat.asked)) == (1, 0)
        bench.worker_ends()
        await bench.settle()
        assert len(other.seat.asked) == 1
        other.answer(2)
        bench.say_hello()
        await bench.settle()
        assert [asked.call.id for asked in bench.seat.asked] == [1, 1]
        bench.answer(1)
        await bench.settle()
        assert (shared.places.taken, bench.caller.deciding, other.caller.deciding) == (0, 0, 0)
        await bench.close()
        await other.close()

    run(scenario)


def test_a_dry_run_leaves_no_trace_in_the_ledger_or_in_the_plugins_health() -> None:
    """Whatever comes of it: an answer, an exception, the end of its worker, a pause, a passed deadline."""

    async def scenario() -> None:
        bench = CallerBench()
        told: dict[int, asyncio.Future[JobResult]] = {}
        listening = ExitStack()

        async def offer(call_id: int, deadline_s: float = 60.0) -> None:
            told[call_id] = listening.enter_context(bench.services.results.expecting(call_id))
            call = job_call(call_id, is_dry_run=True, trigger=TriggerKind.MANUAL, deadline_s=deadline_s)
            bench.caller.offer(call)
            await bench.settle()

        async def outcome(call_id: int) -> str:
            result = await told[call_id]
            return f"{result.outcome}: {result.reason}"

        bench.worker_ready()
        for call_id in (1, 2, 3):
            await offer(call_id)
        assert [asked.call.is_dry_run for asked in bench.seat.asked] == [True] * 3
        bench.answer(1)
        bench.fail(2)
        assert await outcome(1) == "noop: accepted"
        assert await outcome(2) == "failed: decide raised ValueError: no"
        assert bench.seat.state.phase is Phase.READY
        bench.worker_ends()
        assert await outcome(3) == "failed: its worker ended: killed"
        assert bench.caller.waiting == 0
        await offer(4, deadline_s=2.0)
        assert await outcome(4) == "expired: its deadline passed in the queue (plugin was starting)"
        assert (bench.ledger.commits, bench.results) == ([], {})
        listening.close()
        await bench.close()

    run(scenario)

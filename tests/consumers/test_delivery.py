"""Each consumer hears of each result, in order, from where it was: on a real ledger, over crashes and refusals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from protocol.messages import TriggerKind
from runnerd.clock import SystemClock
from runnerd.consumers import delivery
from runnerd.consumers.consumer import ConsumerNotReady, ConsumerRefused, ConsumerUnavailable
from runnerd.consumers.delivery import GIVE_UP_AFTER, Delivery
from runnerd.routing.results import Results
from runnerd.store import calls, deliveries
from runnerd.store.calls import JobCall, JobOutcome, JobResult, NewCall
from runnerd.store.store import Store
from tests.support.aio import run_async
from tests.support.until import until

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Ear:
    """A consumer that keeps what it hears; `errors` are raised first, one an attempt."""

    def __init__(self, name: str = "ear") -> None:
        self.name = name
        self.heard: list[str] = []
        self.errors: dict[str, list[Exception]] = {}
        self.deaf: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    def wants(self, result: JobResult) -> bool:
        if result.reason == "odd":
            raise RuntimeError("a defect of a third party")
        return result.reason not in self.deaf

    async def consume(self, result: JobResult) -> None:
        await self.gate.wait()
        errors = self.errors.get(result.reason, [])
        if errors:
            raise errors.pop(0)
        self.heard.append(result.reason)

    async def close(self) -> None:
        pass


class Bench:
    """A ledger with results, and deliveries that come and go as processes do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.results = Results(store, SystemClock())
        self._running: dict[Delivery, asyncio.Task[None]] = {}
        self.results.add_consumer(lambda _: [one.ring() for one in self._running])  # type: ignore[arg-type, func-returns-value]

    async def finish(self, *reasons: str) -> None:
        """A call each, that ends with this reason."""
        for reason in reasons:
            new = NewCall(
                plugin="alpha", trigger=TriggerKind.MANUAL, identity=reason, principal="test", due_at=AT, fired_at=AT,
                deadline_at=AT + timedelta(hours=1), source="manual",
            )  # fmt: skip
            ((row,),) = await self.store.commit(calls.insert(new))
            call: JobCall = calls.inserted(new, row)
            await self.results.finish(call, JobOutcome.NOOP, reason)

    def start(self, ear: Ear) -> Delivery:
        one = Delivery(ear, self.store, SystemClock())
        self._running[one] = asyncio.get_running_loop().create_task(one.run())
        return one

    async def kill(self, one: Delivery) -> None:
        task = self._running.pop(one)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def begin(self, ear: Ear) -> Delivery:
        """Start it, and wait until it has its place."""
        one = self.start(ear)
        await until(lambda: one.cursor is not None)
        return one

    async def close(self) -> None:
        for one in list(self._running):
            await self.kill(one)


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Bench]:
    store = Store(dsn)
    await store.open()
    bench = Bench(store)
    try:
        yield bench
    finally:
        await bench.close()
        await store.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of milliseconds, and a doorbell that has to work."""
    monkeypatch.setattr(delivery, "RETRY_S", (0.001, 0.002))
    monkeypatch.setattr(delivery, "LOOK_EVERY_S", 60.0)


def test_results_come_in_order_and_once_over_restarts(ledger_dsn: str) -> None:
    """A new consumer begins at the end; a known one where it was, with what came while it was away."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            await bench.finish("before")
            ear = Ear()
            one = await bench.begin(ear)
            began = one.cursor
            assert began is not None
            await bench.finish("a", "b")
            await until(lambda: ear.heard == ["a", "b"] and one.cursor == began + 2)
            await bench.kill(one)
            await bench.finish("c", "d")
            bench.start(ear)
            await until(lambda: ear.heard == ["a", "b", "c", "d"])

    run_async(scenario())


def test_one_that_is_killed_before_its_cursor_moved_hears_it_again(ledger_dsn: str) -> None:
    """At least once: nothing is lost between the consumer and the cursor."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            ear = Ear()
            one = await bench.begin(ear)
            ear.errors["b"] = [ConsumerUnavailable("away")] * 10_000
            await bench.finish("a", "b", "c")
            await until(lambda: ear.heard == ["a"] and one.trouble is not None)
            await bench.kill(one)
            ear.errors.clear()
            bench.start(ear)
            await until(lambda: ear.heard[-1:] == ["c"])
            assert sorted(set(ear.heard)) == ["a", "b", "c"]
            assert ear.heard.index("b") < ear.heard.index("c")

    run_async(scenario())


def test_a_stop_in_order_brings_nothing_again(ledger_dsn: str) -> None:
    """The cursor is where the consumer is, also in the middle of a group."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            ear = Ear()
            one = await bench.begin(ear)
            ear.gate.clear()
            await bench.finish("a", "b", "c")
            ear.errors["c"] = [ConsumerUnavailable("away")] * 10_000
            ear.gate.set()
            await until(lambda: ear.heard == ["a", "b"] and one.trouble is not None)
            await bench.kill(one)
            ear.errors.clear()
            bench.start(ear)
            await until(lambda: ear.heard[-1:] == ["c"])
            assert ear.heard == ["a", "b", "c"]

    run_async(scenario())


def test_who_is_not_ready_is_waited_for_and_never_given_up(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault that is paused is no fault of the receiver."""
    monkeypatch.setattr(delivery, "NOT_READY_S", 0.001)

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            ear = Ear()
            ear.errors["a"] = [ConsumerNotReady("vault main is paused")] * (GIVE_UP_AFTER + 3)
            await bench.begin(ear)
            await bench.finish("a", "b")
            await until(lambda: ear.heard == ["a", "b"])
            assert await bench.store.fetch(deliveries.dead("ear", 10)) == []

    run_async(scenario())


def test_dead_letters_that_are_wanted_get_one_more_attempt(ledger_dsn: str) -> None:
    """What is heard is dead no more; what fails again is dead again, with the new reason."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            ear = Ear()
            ear.errors = {"a": [ConsumerRefused("never")], "b": [ConsumerRefused("never"), ConsumerRefused("not yet")]}
            one = await bench.begin(ear)
            await bench.finish("a", "b", "c")
            await until(lambda: ear.heard == ["c"])
            assert len(await bench.store.commit(deliveries.want("ear", None))) == 1
            one.ring_for_wanted()
            await until(lambda: ear.heard == ["c", "a"] and not ear.errors["b"])
            await bench.finish("d")
            await until(lambda: ear.heard == ["c", "a", "d"])
            (letter,) = await bench.store.fetch(deliveries.dead("ear", 10))
            assert (letter["attempts"], letter["reason"], letter["is_wanted"]) == (2, "not yet", False)

    run_async(scenario())


def test_a_slow_one_and_a_broken_one_delay_nobody(ledger_dsn: str) -> None:
    """Neither the other consumers nor the results themselves."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            slow, broken, well = Ear("slow"), Ear("broken"), Ear("well")
            slow.gate.clear()
            broken.errors["a"] = [RuntimeError("defect")] * 10_000
            for ear in (slow, broken, well):
                await bench.begin(ear)
            await bench.finish("a", "b", "c")
            await until(lambda: well.heard == ["a", "b", "c"])
            assert slow.heard == []
            slow.gate.set()
            await until(lambda: slow.heard == ["a", "b", "c"])
            await until(lambda: broken.heard == ["b", "c"])

    run_async(scenario())


@pytest.mark.parametrize(
    "error, attempts",
    [(ConsumerRefused("never"), 1), (ConsumerUnavailable("not now"), GIVE_UP_AFTER)],
    ids=["refused", "given up"],
)
def test_what_cannot_be_handed_over_is_a_dead_letter(ledger_dsn: str, error: Exception, attempts: int) -> None:
    """With its reason; what follows goes on."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            ear = Ear()
            ear.errors["a"] = [error] * 10_000
            one = await bench.begin(ear)
            await bench.finish("a", "b")
            await until(lambda: ear.heard == ["b"])
            (letter,) = await bench.store.fetch(deliveries.dead("ear", 10))
            assert (letter["plugin"], letter["attempts"], letter["reason"]) == ("alpha", attempts, str(error))
            assert one.trouble is None

    run_async(scenario())


def test_what_it_does_not_want_is_passed_over(ledger_dsn: str) -> None:
    """Its cursor moves on all the same."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            ear = Ear()
            ear.deaf = {"a"}
            await bench.begin(ear)
            await bench.finish("a", "b")
            await until(lambda: ear.heard == ["b"])
            assert await bench.store.fetch(deliveries.dead("ear", 10)) == []
            await bench.finish("odd", "c")  # it does not know: as if it had not taken it
            await until(lambda: ear.heard == ["b", "c"])
            assert len(await bench.store.fetch(deliveries.dead("ear", 10))) == 1

    run_async(scenario())

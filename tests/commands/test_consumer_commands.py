"""What an operator may do to consumers, on a real ledger: each command names what there is, and is on record."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from protocol.messages import TriggerKind
from runnerd.clock import SystemClock
from runnerd.commands.consumers import ConsumerCommands
from runnerd.consumers.consumers import Consumers
from runnerd.control.consumer_messages import (
    Consumers as ConsumersReply,
)
from runnerd.control.consumer_messages import (
    DeadLetters,
    DropDeadLetters,
    ForgetConsumer,
    GetConsumers,
    GetDeadLetters,
    RetryDeadLetters,
)
from runnerd.control.messages import ControlError, Done, Reply
from runnerd.routing.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store import calls, deliveries
from runnerd.store.calls import JobOutcome, JobResult, NewCall
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from tests.support.aio import run_async
from tests.support.virtual_time import EPOCH


class Deaf:
    """A consumer that is never started: its letters stay as they are."""

    name = "hook"

    def wants(self, result: JobResult) -> bool:
        return True

    async def consume(self, result: JobResult) -> None:
        raise AssertionError("not started")

    async def close(self) -> None:
        pass


class Bench:
    """`hook` is configured, `old` was; each has given up two results."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.consumers = Consumers(store, Metrics([]), SystemClock())
        self.consumers.add(Deaf(), "webhook")
        self.commands = ConsumerCommands(self.consumers, store, SystemClock())

    async def fill(self) -> list[int]:
        """The ids of the calls."""
        results = Results(self.store, SystemClock())
        for name in ("hook", "old"):
            await self.store.commit(deliveries.open_cursor(name, EPOCH))
        ids = []
        for reason in ("a", "b"):
            new = NewCall(
                plugin="alpha", trigger=TriggerKind.MANUAL, identity=reason, principal="test", due_at=EPOCH,
                fired_at=EPOCH, deadline_at=EPOCH,
            )  # fmt: skip
            ((row,),) = await self.store.commit(calls.insert(new))
            await results.finish(calls.inserted(new, row), JobOutcome.NOOP, reason)
            ids.append(row["id"])
        for row in await self.store.fetch(deliveries.results_after(0, 10)):
            for name in ("hook", "old"):
                await self.store.commit(deliveries.bury(name, row["result_no"], 12, "no", EPOCH))
        return ids

    async def ask(self, request: object) -> Reply:
        return await self.commands.handle(request, "uid:7")  # type: ignore[arg-type]  # of its requests

    async def letters(self, consumer: str | None = None) -> list[tuple[str, int, bool]]:
        """What is dead, newest first, and whether it is wanted."""
        reply = await self.ask(GetDeadLetters(consumer=consumer, limit=10))
        assert isinstance(reply, DeadLetters)
        return [(each.consumer, each.call_id, each.is_wanted) for each in reply.letters]


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Bench]:
    store = Store(dsn)
    await store.open()
    try:
        yield Bench(store)
    finally:
        await store.close()


def test_letters_are_listed_wanted_and_dropped_by_their_call(ledger_dsn: str) -> None:
    """Of one consumer, or all; and each change is in the audit trail, with who made it."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            first, second = await bench.fill()
            assert await bench.letters("hook") == [("hook", second, False), ("hook", first, False)]
            assert len(await bench.letters()) == 4
            done = await bench.ask(RetryDeadLetters(consumer="hook", call_ids=[first]))
            assert isinstance(done, Done)
            assert done.text.startswith("a dead letter is handed over once more")
            assert await bench.letters("hook") == [("hook", second, False), ("hook", first, True)]
            assert await bench.ask(DropDeadLetters(consumer="hook")) == Done(text="2 dead letters are forgotten")
            assert await bench.letters("hook") == []
            assert len(await bench.letters("old")) == 2
            rows = await bench.store.fetch(
                Statement("select body from audit_records where kind = 'command' order by seq")
            )
            bodies = [row["body"] for row in rows]
            assert ["uid:7" in body and '"consumer":"hook"' in body for body in bodies] == [True, True]
            assert f'"calls":"{first}"' in bodies[0]
            assert '"calls":"all"' in bodies[1]

    run_async(scenario())


def test_one_that_is_not_configured_any_more_is_shown_and_can_be_forgotten(ledger_dsn: str) -> None:
    """Its place too: one of this name would begin anew."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            await bench.fill()
            listed = await bench.ask(GetConsumers())
            assert isinstance(listed, ConsumersReply)
            assert [(one.name, one.kind, one.waiting, one.dead) for one in listed.consumers] == [
                ("hook", "webhook", 2, 2), ("old", "", 2, 2),
            ]  # fmt: skip
            assert "runnerctl consumers forget old" in (listed.consumers[1].trouble or "")
            await bench.ask(ForgetConsumer(consumer="old"))
            assert {name for name, *_ in await bench.letters()} == {"hook"}
            assert [row["consumer"] for row in await bench.store.fetch(deliveries.waiting())] == ["hook"]

    run_async(scenario())


def test_what_cannot_be_is_refused_with_what_there_is(ledger_dsn: str) -> None:
    """Nothing is changed then."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            first, _ = await bench.fill()
            for request, why in [
                (GetDeadLetters(consumer="new"), "no consumer 'new'; there are: hook, old"),
                (DropDeadLetters(consumer="new"), "no consumer 'new'; there are: hook, old"),
                (RetryDeadLetters(consumer="old"), "no consumer 'old'; there are: hook"),
                (RetryDeadLetters(consumer="hook", call_ids=[first + 900]), "has no dead letter of call"),
                (ForgetConsumer(consumer="hook"), "hook is configured: take its table out"),
                (ForgetConsumer(consumer="new"), "no consumer 'new'; there are: hook, old"),
            ]:
                with pytest.raises(ControlError, match=why):
                    await bench.ask(request)
            assert len(await bench.letters()) == 4
            assert not any(is_wanted for *_, is_wanted in await bench.letters())

    run_async(scenario())

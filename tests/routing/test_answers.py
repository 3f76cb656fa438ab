"""The one door of answers: who is no chain is refused there, and a call is answered once, on a real ledger."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from protocol.actions import Action
from protocol.messages import TriggerKind
from runnerd.clock import SystemClock
from runnerd.consumers.consumer import ConsumerNotReady, ConsumerRefused
from runnerd.executor.decided import Decided, to_store
from runnerd.pauses import Mode, Pause, Pauses, Scope
from runnerd.routing.answers import Answers
from runnerd.runner.drain import Drain
from runnerd.services.metrics import Metrics
from runnerd.store import answers, audit, calls
from runnerd.store.calls import JobCall, NewCall
from runnerd.store.errors import CommitRefused
from runnerd.store.store import Store
from tests.support.aio import run_async
from tests.support.plugins_bench import plugin_config

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
AT = datetime(2026, 1, 1, tzinfo=UTC)
ACTION = Action("answer", {"id": 7})


class StoringExecutor:
    """Stores what it accepts, as the executor does before anything is signed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.accepted: list[Decided] = []

    async def accept(self, decided: Decided) -> None:
        statements, recorded = to_store(decided)
        await self._store.commit(*statements, audit.append(recorded), calls.decided(decided.call.id))
        self.accepted.append(decided)


class Bench:
    """One open vault on chain `local` that grants `answer` of CONTRACT."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pauses = Pauses()
        self.drain = Drain(0)
        self.executor = StoringExecutor(store)
        entry = SimpleNamespace(contract=CONTRACT)
        self.vaults: dict[str, Any] = {"main": SimpleNamespace(catalogue=SimpleNamespace(actions={"answer": entry}))}
        self.hosts: dict[str, Any] = {"alpha": SimpleNamespace(config=plugin_config())}
        self.answers = Answers(
            self.executor, self.vaults, cast("Any", {"main": SimpleNamespace(chain="local")}), self.hosts, self.pauses,
            store, Metrics([]), SystemClock(), self.drain,
        )  # fmt: skip

    async def call(self, trigger: TriggerKind = TriggerKind.LOG, identity: str = "log local 0xab 0 log") -> JobCall:
        """One that stands in the ledger, with the payload of a log whoever made it."""
        new = NewCall(
            plugin="alpha", trigger=trigger, identity=identity, principal="chain:local", due_at=AT, fired_at=AT,
            deadline_at=AT + timedelta(hours=1), source="log",
            payload=msgspec.json.encode({"address": CONTRACT, "args": {"id": 7}}).decode(),
        )  # fmt: skip
        ((row,),) = await self.store.commit(calls.insert(new))
        return calls.inserted(new, row)


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Bench]:
    store = Store(dsn)
    await store.open()
    try:
        yield Bench(store)
    finally:
        await store.close()


def test_a_call_is_answered_once_whoever_asks_how_often(ledger_dsn: str) -> None:
    """Two deliveries, two consumers: one call of the plugin, decided, and with an id of its own."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            call = await bench.call()
            for consumer in ("one", "one", "two"):
                await bench.answers.answer(consumer, call, ACTION)
            (decided,) = bench.executor.accepted
            (row,) = await bench.store.fetch(calls.find("alpha", f"answer {call.id}"))
            assert (row["id"], row["state"], row["trigger"]) == (decided.call.id, "decided", "answer")
            assert (row["principal"], row["plugin"]) == ("consumer:one", "alpha")
            assert decided.outcome.actions == (ACTION,)  # type: ignore[union-attr]
            assert decided.call.id != call.id
            # Both at once, past the look: the ledger itself refuses the second.
            twin = replace(decided.call, id=decided.call.id + 1_000)
            again = replace(decided, call=twin, born_with=[answers.insert_as(twin)])
            with pytest.raises(CommitRefused):
                await bench.executor.accept(again)

    run_async(scenario())


def test_nobody_but_a_chain_is_answered(ledger_dsn: str) -> None:
    """Whatever the payload says, and whoever let it come here. The control: the same as a log."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            for trigger in set(TriggerKind) - {TriggerKind.LOG, TriggerKind.BLOCK}:
                with pytest.raises(ConsumerRefused, match=f"it came by {trigger}"):
                    await bench.answers.answer("one", await bench.call(trigger, f"forged by {trigger}"), ACTION)
            assert bench.executor.accepted == []
            await bench.answers.answer("one", await bench.call(), ACTION)
            assert len(bench.executor.accepted) == 1

    run_async(scenario())


def test_what_a_reorg_took_back_is_not_answered(ledger_dsn: str) -> None:
    """Neither refused: there is nothing to be mended."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            call = await bench.call()
            await bench.call(identity=f"retracted {call.identity}")
            await bench.answers.answer("one", call, ACTION)
            assert bench.executor.accepted == []

    run_async(scenario())


def test_an_answer_waits_for_its_vault_and_for_the_end_of_a_pause(ledger_dsn: str) -> None:
    """A denied answer would be none for ever."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            call, desk = await bench.call(), bench.vaults.pop("main")
            with pytest.raises(ConsumerNotReady, match="vault main is not open"):
                await bench.answers.answer("one", call, ACTION)
            bench.vaults["main"] = desk
            bench.pauses.add(Pause(Scope.VAULT, "main", "test", AT, Mode.PAUSED))
            with pytest.raises(ConsumerNotReady, match="paused"):
                await bench.answers.answer("one", call, ACTION)
            bench.pauses.remove(Scope.VAULT, "main")
            await bench.answers.answer("one", call, ACTION)
            assert len(bench.executor.accepted) == 1
            bench.drain.ask()
            with pytest.raises(ConsumerNotReady, match="runnerd is stopping"):
                await bench.answers.answer("one", await bench.call(identity="log local 0xcd 0 log"), ACTION)

    run_async(scenario())


def test_an_action_or_plugin_that_is_gone_is_refused(ledger_dsn: str) -> None:
    """With its name."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as bench:
            call = await bench.call()
            with pytest.raises(ConsumerRefused, match="vault main grants no action else"):
                await bench.answers.answer("one", call, Action("else"))
            bench.hosts.clear()
            with pytest.raises(ConsumerRefused, match="plugin alpha is not configured any more"):
                await bench.answers.answer("one", call, ACTION)

    run_async(scenario())

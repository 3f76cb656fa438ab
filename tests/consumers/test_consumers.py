"""All consumers together: one whose task fails begins again, and the numbers are those of the ledger."""

import asyncio
from typing import Any

import pytest

from protocol.messages import TriggerKind
from runnerd.clock import SystemClock
from runnerd.consumers import consumers as module
from runnerd.consumers import delivery
from runnerd.consumers.consumer import ConsumerRefused
from runnerd.consumers.consumers import Consumers
from runnerd.consumers.selection import Selection
from runnerd.routing.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store import calls
from runnerd.store.calls import JobOutcome, JobResult, NewCall
from runnerd.store.errors import StoreUnavailable
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from tests.support.aio import run_async
from tests.support.until import until
from tests.support.virtual_time import EPOCH


class Ear:
    """Hears, or refuses what is called so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def wants(self, result: JobResult) -> bool:
        return True

    async def consume(self, result: JobResult) -> None:
        await self.gate.wait()
        if result.reason == "refused":
            raise ConsumerRefused("never")
        self.heard.append(result.reason)

    async def close(self) -> None:
        raise RuntimeError("of a third party: the others are closed all the same")


class Flaky(Store):
    """A ledger whose first commit is refused, and that cannot be read for a moment then."""

    failures = 1
    silences = 3

    async def fetch(self, statement: Statement) -> Any:
        if self.silences and "result_no" in statement.sql:
            self.silences -= 1
            raise StoreUnavailable("away")
        return await super().fetch(statement)

    async def commit(self, *statements: Any, is_idempotent: bool = True) -> Any:
        if any("consumer_cursors" in one.sql for one in statements) and self.failures:
            self.failures -= 1
            raise StoreUnavailable("not now")
        return await super().commit(*statements, is_idempotent=is_idempotent)


def test_each_hears_what_it_is_for_and_is_counted(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins and outcomes select; a task that failed is begun again, and says so meanwhile."""
    monkeypatch.setattr(module, "RETRY_S", (0.001, 0.002))
    monkeypatch.setattr(module, "COUNT_EVERY_S", 0.005)
    monkeypatch.setattr(delivery, "RETRY_S", (0.001, 0.002))

    async def scenario() -> None:
        store = Flaky(ledger_dsn)
        await store.open()
        metrics = Metrics([])
        results = Results(store, SystemClock())
        consumers = Consumers(store, metrics, SystemClock())
        every, some = Ear("every"), Ear("some")
        consumers.add(every, "test")
        consumers.add(some, "test", Selection(plugins=["alpha"], outcomes=["acted"]))
        with pytest.raises(ValueError, match="there is a consumer 'some' already"):
            consumers.add(Ear("some"), "test")
        results.add_consumer(consumers.ring)
        every.gate.clear()
        await consumers.start()
        running = asyncio.get_running_loop().create_task(consumers.run())
        await until(lambda: all(kept.delivery.cursor is not None for kept in consumers._kept.values()))
        await until(lambda: store.failures == store.silences == 0)
        for plugin, outcome, reason in [
            ("alpha", JobOutcome.ACTED, "a"), ("beta", JobOutcome.ACTED, "b"), ("alpha", JobOutcome.NOOP, "c"),
            ("alpha", JobOutcome.ACTED, "refused"), ("alpha", JobOutcome.ACTED, "d"),
        ]:  # fmt: skip
            new = NewCall(
                plugin=plugin, trigger=TriggerKind.MANUAL, identity=reason, principal="test", due_at=EPOCH,
                fired_at=EPOCH, deadline_at=EPOCH,
            )  # fmt: skip
            ((row,),) = await store.commit(calls.insert(new))
            await results.finish(calls.inserted(new, row), outcome, reason)
        await until(lambda: some.heard == ["a", "d"])
        await until(lambda: [(one.waiting, one.dead) for one in consumers.view()] == [(5, 0), (0, 1)])
        assert consumers.problems() == ["consumer some: a result was given up; see runnerctl consumers dead some"]
        assert every.heard == []
        every.gate.set()
        await until(lambda: every.heard == ["a", "b", "c", "d"])
        await until(lambda: [(one.waiting, one.dead) for one in consumers.view()] == [(0, 1), (0, 1)])
        page = metrics.render().decode()
        assert 'runnerd_consumer_delivered_total{consumer="every"} 4.0' in page
        assert 'runnerd_consumer_failures_total{consumer="some"} 1.0' in page
        assert 'runnerd_consumer_dead_letters{consumer="some"} 1.0' in page
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await consumers.stop()
        await store.close()

    run_async(scenario())

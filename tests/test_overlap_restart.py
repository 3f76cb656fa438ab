"""Calls of one trigger that overlap, on a real ledger, over processes that are cut off: what it says in the end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast, get_args

import pytest

from protocol.messages import TriggerKind
from protocol.trigger import Overlap
from protocol.triggers import Block as BlockTrigger
from runnerd.chain.types import Block
from runnerd.routing.router import Router
from runnerd.store.calls import JobCall, NewCall
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.triggers.blocks import BlockSource
from runnerd.triggers.chain_calls import Moment, Task, build_call, build_retraction
from tests.support.aio import run_async
from tests.support.caller_parts import CallerBench
from tests.support.until import until

FIRED = Statement("select id, state, outcome, reason from job_calls order by id")


class BenchHost:
    """A host whose worker answers when the test says so."""

    name = "alpha"
    declared = None

    def __init__(self, bench: CallerBench) -> None:
        self._bench = bench
        self.layers = bench.caller.layers

    def refusal(self, call: NewCall, coming: int) -> str | None:
        return None

    def is_open(self, call: NewCall) -> bool:
        return self._bench.caller.desk.is_open(call.source, call.job)

    def offer(self, call: JobCall, *, is_owed: bool = False) -> None:
        self._bench.caller.offer(call, is_owed=is_owed)

    def offer_ahead(self, call: JobCall) -> None:
        return None

    def offer_again(self, calls: Sequence[JobCall]) -> None:
        self._bench.caller.offer_again(calls, is_awaited=True)


class Run:
    """One process: the router, and a caller with a worker, on the ledger."""

    def __init__(self, store: Store, number: int, overlap: Overlap) -> None:
        self.store = store
        self.bench = CallerBench(ledger=store)
        self._number = number
        self._overlap = overlap
        services = self.bench.services
        self.router = Router(store, services.results, services.metrics, services.clock)
        self.router.hosts["alpha"] = cast("Any", BenchHost(self.bench))

    @property
    def asked(self) -> list[int]:
        return [message.call.id for message in self.bench.seat.asked]

    async def fire(self, count: int) -> list[int]:
        """One submission each; the ids of the calls that were made."""
        made: list[int] = []
        for number in range(count):
            now = self.bench.clock.now()
            call = NewCall(
                plugin="alpha", trigger=TriggerKind.EVENT, identity=f"{self._number} {number}", principal="test",
                due_at=now, fired_at=now, deadline_at=now + timedelta(hours=1), source="event flow",
                overlap=self._overlap,
            )  # fmt: skip
            made += [call.id for call in await self.router.submit([call])]
        return made

    async def rows(self) -> dict[int, str]:
        """Each call of the ledger: queued, or its outcome and reason."""
        found = await self.store.fetch(FIRED)
        return {row["id"]: f"{row['outcome']}: {row['reason']}" if row["outcome"] else row["state"] for row in found}


@asynccontextmanager
async def process(dsn: str, number: int, overlap: Overlap) -> AsyncIterator[Run]:
    """It ends without a word to anybody, as a killed one does; but for what is being committed."""
    store = Store(dsn)
    await store.open()
    run = Run(store, number, overlap)
    await run.router.load()
    run.bench.worker_ready()
    await run.router.recover()
    try:
        yield run
    finally:
        await run.bench.tasks.cancel()
        await store.close()


async def decide_all(run: Run, decided: list[int]) -> None:
    """Answer whatever the worker has been asked, and is asked then."""
    while waiting := [i for i in run.asked if i not in decided]:
        run.bench.answer(waiting[0])
        decided.append(waiting[0])
        await until(lambda: waiting[0] in run.bench.results)  # awaited here
        await run.bench.settle()


@pytest.mark.parametrize("overlap", get_args(Overlap))
def test_what_a_reorg_takes_back_is_decided_whatever_the_overlap(ledger_dsn: str, overlap: Overlap) -> None:
    """Three blocks were decided; they are replaced while nothing else is, the process is cut off, and more follow."""
    source = BlockSource(chain="local", every=1)
    task = Task(producer="block", plugin="alpha", trigger=BlockTrigger(overlap=overlap), chain="local")

    async def fire(run: Run, number: int) -> list[JobCall]:
        block = Block(number=number, hash=f"0x{number}", timestamp=1, base_fee_wei=None, gas_limit=1)
        (found,) = await source.look([block])
        return await run.router.submit([build_call(task, source.kind, block, found.items[0], 0, moment(run))])

    def moment(run: Run) -> Moment:
        return Moment(now=run.bench.clock.now(), call_deadline=timedelta(hours=1))

    async def scenario() -> None:
        async with process(ledger_dsn, 1, overlap) as run:
            made: list[JobCall] = []
            decided: list[int] = []
            for number in (1, 2, 3):
                made += await fire(run, number)
                await run.bench.settle()
                await decide_all(run, decided)
            assert len(made) == 3
            for call in reversed(made):
                await run.router.submit([build_retraction(task, call, moment(run))])
            await fire(run, 4)
        async with process(ledger_dsn, 2, overlap) as run:
            await fire(run, 5)
            await run.bench.settle()
            await decide_all(run, [])
            named = Statement("select identity from job_calls where outcome = 'noop' order by id")
            found = [row["identity"] for row in await run.store.fetch(named)]
            assert [name for name in found if name.startswith("retracted")] == [
                f"retracted {call.identity}" for call in reversed(made)
            ]

    run_async(scenario())


def first_and_last(rows: dict[int, str]) -> tuple[list[int], list[int]]:
    return [i for i, row in rows.items() if row.startswith("noop")], [
        i for i, row in rows.items() if "superseded" in row
    ]


@pytest.mark.parametrize("overlap", ["parallel", "queue", "coalesce", "skip"])
def test_rule_holds_over_a_process_that_is_cut_off(ledger_dsn: str, overlap: Overlap) -> None:
    """Five are fired while the first is decided; the next process finds what was not, and five more are fired."""

    async def scenario() -> None:
        async with process(ledger_dsn, 1, overlap) as run:
            ids = await run.fire(5)
            if overlap == "coalesce":
                await until(lambda: len(run.bench.results) == 3)
        assert len(ids) == (1 if overlap == "skip" else 5)
        async with process(ledger_dsn, 2, overlap) as run:
            ids += await run.fire(5)
            await run.bench.settle()
            decided: list[int] = []
            while waiting := [i for i in run.asked if i not in decided]:
                if overlap != "parallel":
                    assert len(waiting) == 1, "never two of them at once"
                run.bench.answer(waiting[0])
                decided.append(waiting[0])
                await until(lambda: waiting[0] in run.bench.results)  # awaited here
                await run.bench.settle()
            assert decided == sorted(decided)
            rows = await run.rows()
        assert all(row.startswith(("noop", "expired: superseded by call")) for row in rows.values()), rows
        acted, superseded = first_and_last(rows)
        assert acted == decided
        match overlap:
            case "parallel" | "queue":
                assert acted == ids
            case "skip":
                assert (acted, len(ids)) == (ids, 1), "the one that was open kept all others from being made"
            case "coalesce":
                assert set(superseded) == set(ids) - set(acted)
                assert acted == [ids[4], ids[-1]], "the newest of what the first left, and the newest of all"

    run_async(scenario())


@pytest.mark.parametrize("overlap", ["queue", "coalesce"])
def test_rule_holds_over_workers_that_end(ledger_dsn: str, overlap: Overlap) -> None:
    """Each worker ends while it decides; no call is lost, none is decided beside another or twice."""

    async def scenario() -> None:
        async with process(ledger_dsn, 1, overlap) as run:
            ids = await run.fire(3)
            run.bench.worker_ends()
            run.bench.say_hello()
            await run.bench.settle()
            answered: list[int] = []
            while open_calls := list(run.bench.caller.desk.running):
                assert len(open_calls) == 1
                run.bench.answer(open_calls[0])
                answered.append(open_calls[0])
                await until(lambda: open_calls[0] in run.bench.results)  # awaited here
                await run.bench.settle()
            await until(lambda: len(run.bench.results) == 3)
            assert answered == (ids if overlap == "queue" else ids[-1:])
            acted, superseded = first_and_last(await run.rows())
            assert sorted(acted + superseded) == ids

    run_async(scenario())


def test_call_is_skipped_while_the_one_before_is_stored_by_another(ledger_dsn: str) -> None:
    """Two producers at the same moment: one call."""

    async def scenario() -> None:
        async with process(ledger_dsn, 1, "skip") as run:
            both = await asyncio.gather(run.fire(1), run.fire(1))
            assert sorted(map(len, both)) == [0, 1]

    run_async(scenario())

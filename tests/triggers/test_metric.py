"""Metrics that go by the clock: taken at their slots whatever the chain does, and over a crash as cron's slots are."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Literal, cast

import pytest

from protocol.messages import BlockRef, VaultRef
from protocol.triggers import Metric, Read
from runnerd.config.model import ChainConfig
from runnerd.network import open_network
from runnerd.store.ledger import Ledger
from runnerd.supervisor.context import Snapshot, SnapshotFailed
from runnerd.tasks import Tasks
from runnerd.triggers.metric import MetricWatch
from tests.chain.fake_node import FakeNode
from tests.support.aio import run_async
from tests.support.memory_ledger import MemoryLedger
from tests.support.simulated_chain import SimulatedChain
from tests.support.virtual_time import EPOCH, VirtualClock, VirtualTimeLoop

VAULT = VaultRef(name="demo", address="0x" + "11" * 20, chain_id=1, actions=())
EVERY_MINUTE = Metric(read=Read("spot"), above=100, every_seconds=60)


class Values:
    """`Snapshots`: one read, and when it was taken."""

    def __init__(self, clock: VirtualClock) -> None:
        self.value: int | None = 0
        self.taken_at: list[float] = []
        self._clock = clock

    def check(self, vault: str, reads: Sequence[Read]) -> str | None:
        return None

    def at_hand(self, vault: str, reads: Sequence[Read]) -> Snapshot | None:
        return None

    async def take(self, vault: str, reads: Sequence[Read]) -> Snapshot:
        self.taken_at.append(seconds(self._clock.now()))
        if self.value is None:
            raise SnapshotFailed("no node answers")
        block = BlockRef(number=7, hash="0x" + "77" * 32, timestamp=1)  # the chain stands still
        return Snapshot(block=block, vault=VAULT, reads={"spot": self.value})


class Bench:
    """One trigger; `run` is one life of the process, for so many seconds or until it crashes."""

    def __init__(self, trigger: Metric) -> None:
        self.clock = VirtualClock()
        self.ledger = MemoryLedger()
        self.values = Values(self.clock)
        chain = SimulatedChain()
        self._trigger = trigger
        node = FakeNode(chain.answer)
        self._network = open_network("sim", ChainConfig(id=1, rpc="http://127.0.0.1:1"), connect=lambda _: node)

    async def run(self, for_s: float) -> MetricWatch:
        watch = MetricWatch(
            "alpha", "demo", self._trigger, self._network, self.values, self.ledger, cast("Ledger", self.ledger),
            self.clock, timedelta(seconds=60),
        )  # fmt: skip
        tasks = Tasks()
        running = tasks.spawn(watch.run(), "metric:test")
        end = self.clock.monotonic() + for_s
        crashes = self.ledger.crashes
        while self.clock.monotonic() < end and self.ledger.crashes == crashes:  # noqa: ASYNC110  # virtual time
            await asyncio.sleep(0.01)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        return watch

    @property
    def calls(self) -> list[Any]:
        return list(self.ledger.calls.values())


def seconds(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scenario()

    run_async(whole(), deadline_s=3_600, loop_factory=VirtualTimeLoop)


def test_it_is_taken_at_its_slots_though_no_block_comes() -> None:
    """At multiples of the interval, the first one at once; a crossing calls once, due at the slot that showed it."""

    async def scenario() -> None:
        bench = Bench(Metric(read=Read("spot"), above=100, every_seconds=2.5))
        await bench.run(6)
        assert bench.values.taken_at == [0.0, 2.5, 5.0]
        bench.values.value = 101
        await bench.run(6)
        (call,) = bench.calls
        assert seconds(call.due_at) == 5.0  # taken once more after the restart: nothing of it was worth a commit
        assert call.identity == f'metric @ {call.due_at.isoformat()} metric ["spot",{{}}] above 100 every 2.5 s'
        assert json.loads(call.payload)["value"] == 101

    run(scenario)


def test_a_slot_that_was_taken_is_not_taken_again_by_the_next_process() -> None:
    """As with cron: a restart does not move the slots, and one that passed during the downtime is made up for once."""

    async def scenario() -> None:
        bench = Bench(EVERY_MINUTE)
        await bench.run(20)
        await bench.run(30)
        assert bench.values.taken_at == [0.0]
        await asyncio.sleep(150)  # 12:03:20; those of 12:01, 12:02 and 12:03 passed
        await bench.run(60)
        assert [round(at) for at in bench.values.taken_at] == [0, 200, 240]

    run(scenario)


@pytest.mark.parametrize("crash", ["before", "after"])
def test_a_crash_at_the_commit_neither_loses_nor_doubles_the_crossing(crash: Literal["before", "after"]) -> None:
    """What was found and the state that says so are one commit."""

    async def scenario() -> None:
        bench = Bench(EVERY_MINUTE)
        await bench.run(20)
        bench.values.value = 150
        bench.ledger.crash = crash
        await bench.run(60)
        assert bench.ledger.crashes == 1
        assert len(bench.calls) == (crash == "after")
        await bench.run(120)
        assert len(bench.calls) == 1
        assert seconds(bench.calls[0].due_at) == 60
        bench.values.value = 100
        await bench.run(60)
        bench.values.value = 150
        await bench.run(60)
        assert len(bench.calls) == 2

    run(scenario)


def test_a_node_that_does_not_answer_delays_the_slot_and_skips_none() -> None:
    """It is tried again until it does; the trouble is shown."""

    async def scenario() -> None:
        bench = Bench(EVERY_MINUTE)
        bench.values.value = None
        watch = await bench.run(5)
        assert watch.trouble == "read spot for alpha: no node answers"
        bench.values.value = 150
        await bench.run(5)
        (call,) = bench.calls
        assert (seconds(call.due_at), round(seconds(call.fired_at))) == (0, 5)

    run(scenario)


def test_fast_slots_do_not_cost_a_commit_each() -> None:
    """The ledger's slot may lie behind by ten seconds while nothing comes of the values."""

    async def scenario() -> None:
        bench = Bench(Metric(read=Read("spot"), above=100, every_seconds=0.1))
        moved = 0
        commit = bench.ledger.commit

        async def counting(*statements: Any, is_idempotent: bool = True) -> Any:
            nonlocal moved
            moved += 1
            return await commit(*statements, is_idempotent=is_idempotent)

        bench.ledger.commit = counting  # type: ignore[method-assign]
        await bench.run(35)
        assert len(bench.values.taken_at) > 300
        assert moved == 4

    run(scenario)

"""Followers on a simulated chain: whatever it does, and wherever the process ends, a plugin's view is the chain."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.triggers import Block, Log
from runnerd.chain.errors import RpcUnavailable
from runnerd.chain.types import Block as ChainBlock
from runnerd.clock import SystemClock
from runnerd.config.model import ChainConfig
from runnerd.network import open_network
from runnerd.store.ledger import Ledger
from runnerd.triggers import chain_cursor, chain_follower
from runnerd.triggers.blocks import BlockSource
from runnerd.triggers.chain_calls import Task
from runnerd.triggers.chain_cursor import MAX_DEPTH
from runnerd.triggers.chain_follower import ChainFollower
from runnerd.triggers.logs import LogSource
from tests.chain.fake_node import FakeNode
from tests.support.aio import run_async
from tests.support.memory_ledger import CrashError, MemoryLedger
from tests.support.simulated_chain import CONTRACT, EVENT, SimulatedChain

Item = tuple[str, int]


class Bench:
    """One trigger on one simulated chain; `restart` forgets all but the ledger."""

    def __init__(self, trigger: Block | Log, chain: SimulatedChain | None = None) -> None:
        self.trigger = trigger
        self.chain = chain or SimulatedChain()
        self.ledger = MemoryLedger()
        self.node = FakeNode(self.chain.answer)
        self.restart()

    def restart(self) -> None:
        network = open_network("sim", ChainConfig(id=1, rpc="http://127.0.0.1:1"), connect=lambda _: self.node)
        self.network = network
        source = (
            BlockSource(chain="sim", every=self.trigger.every)
            if isinstance(self.trigger, Block)
            else LogSource(self.trigger, network)
        )
        task = Task(producer="test", plugin="alpha", trigger=self.trigger, chain="sim")
        self.follower = ChainFollower(
            task, source, network, self.ledger, cast("Ledger", self.ledger), SystemClock(), timedelta(seconds=60)
        )

    async def step(self) -> bool:
        """One look at the chain. Whether there is more; a crash is a restart."""
        try:
            await self.follower.begin()
            return await self.follower._step(await self.network.head.fetch())
        except CrashError:
            self.restart()
            return True

    async def settle(self) -> None:
        for _ in range(10_000):
            if not await self.step():
                return
        raise AssertionError("it never came to an end")

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(call.payload) for call in self.ledger.calls.values()]

    def view(self) -> set[Item]:
        """What stands after all calls in their order. None is made twice, and only what stands is taken back."""
        standing: list[Item] = []
        for payload in self.payloads:
            item = (payload["block"]["hash"], payload["log_index"]) if "block" in payload else (payload["hash"], 0)
            if payload["retracted"]:
                assert standing.pop() == item, "taken back in another order than it came"
            else:
                assert item not in standing
                standing.append(item)
        numbers = [self.number(block_hash) for block_hash, _ in standing]
        assert numbers == sorted(numbers)
        return set(standing)

    def is_beyond_memory(self) -> bool:
        """Whether the chain has none of the blocks that the ledger's or the follower's cursor remembers."""
        cursors = [chain_cursor.decode(position) for position in self.ledger.positions.values()]
        cursors += [self.follower._cursor] if self.follower._cursor is not None else []
        hashes = {block.hash for block in self.chain.canonical}
        return any(cursor.trail[0].number > cursor.start and cursor.trail[0].hash not in hashes for cursor in cursors)

    @property
    def highest(self) -> int:
        """The number of the last block that was followed."""
        return max(chain_cursor.decode(position).tip.number for position in self.ledger.positions.values())

    def number(self, block_hash: str) -> int:
        return self.chain._blocks[block_hash].number

    def wanted(self, start: int) -> set[Item]:
        last = len(self.chain.canonical) - 1 - self.trigger.confirmations
        blocks = self.chain.canonical[start + 1 : last + 1]
        return {item for block in blocks for item in self._items(block)}

    def _items(self, block: ChainBlock) -> list[Item]:
        if isinstance(self.trigger, Log):
            return [(block.hash, i) for i in range(len(self.chain.trades(block)))]
        return [] if block.number % self.trigger.every else [(block.hash, 0)]


def log_trigger(confirmations: int = 0) -> Log:
    return Log(addresses=(CONTRACT,), event=EVENT, confirmations=confirmations)


triggers = st.one_of(
    st.builds(Block, every=st.integers(1, 3), confirmations=st.integers(0, 3)),
    st.builds(log_trigger, st.integers(0, 3)),
)
events = st.one_of(
    st.tuples(st.just("extend"), st.integers(1, 12)),
    st.tuples(st.just("extend"), st.just(MAX_DEPTH + 40)),
    st.tuples(st.just("reorganise"), st.integers(1, 9), st.integers(1, 12)),
    st.tuples(st.just("flip")),
    st.tuples(st.just("look"), st.integers(1, 4)),
    st.tuples(st.just("settle")),
    st.tuples(st.just("crash"), st.sampled_from(["before", "after"])),
    st.tuples(st.just("restart")),
    st.tuples(st.just("room"), st.sampled_from([1, 2, 7, 1_000])),
)


@settings(max_examples=150)
@given(triggers, st.integers(0, 30), st.lists(events, max_size=25))
def test_a_plugins_view_is_the_canonical_chain(
    trigger: Block | Log, before: int, script: Sequence[tuple[Any, ...]]
) -> None:
    """Delivered minus retracted is the chain above the block where it began: over reorgs, also back to a branch that
    was left, crashes before and after a commit, restarts and queues that are almost full."""
    chain = SimulatedChain()
    chain.extend(before)
    bench = Bench(trigger, chain)

    async def scenario() -> None:
        await bench.follower.begin()
        start = max(0, len(chain.canonical) - 1 - trigger.confirmations)
        former: list[ChainBlock] | None = None
        for event, *given_ in script:
            was = list(chain.canonical)
            match event:
                case "extend":
                    chain.extend(*given_)
                case "reorganise":
                    former = chain.reorganise(*given_)
                case "flip" if former is not None:
                    here = list(chain.canonical)
                    chain.switch(former)
                    former = here
                case "look":
                    for _ in range(*given_):
                        await bench.step()
                case "settle":
                    await bench.settle()
                case "crash":
                    (bench.ledger.crash,) = given_
                case "restart":
                    bench.restart()
                case "room":
                    (bench.ledger.free,) = given_
                case _:  # there is no branch to go back to
                    pass
            if bench.is_beyond_memory():
                chain.switch(was)
        # Above all that was there: a chain that only becomes shorter looks like a node that is behind.
        chain.extend(bench.highest - len(chain.canonical) + 10 if bench.highest >= len(chain.canonical) else 10)
        bench.ledger.crash = None
        await bench.settle()
        assert bench.view() == bench.wanted(start)

    run_async(scenario())


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("trigger", [Block(), log_trigger()], ids=["block", "log"])
def test_a_reorg_takes_back_and_delivers(trigger: Block | Log, depth: int) -> None:
    """Newest first, with the same data and `retracted`; then what came in its place."""
    bench = Bench(trigger)

    async def scenario() -> None:
        await bench.follower.begin()
        bench.chain.extend(20)
        await bench.settle()
        count = len(bench.payloads)
        gone = [item for block in bench.chain.canonical[-depth:] for item in bench._items(block)]
        bench.chain.reorganise(depth, depth)
        await bench.settle()
        news = bench.payloads[count:]
        assert [payload for payload in news[: len(gone)] if not payload["retracted"]] == []
        assert [{**payload, "retracted": False} for payload in news[: len(gone)]] == [
            payload for payload in reversed(bench.payloads[:count]) if not payload["retracted"]
        ][: len(gone)]
        assert not any(payload["retracted"] for payload in news[len(gone) :])
        assert bench.view() == bench.wanted(0)

    run_async(scenario())


@pytest.mark.parametrize("trigger", [Block(confirmations=3), log_trigger(3)], ids=["block", "log"])
def test_a_reorg_within_the_confirmations_takes_nothing_back(trigger: Block | Log) -> None:
    """And one that is deeper does."""
    bench = Bench(trigger)

    async def scenario() -> None:
        bench.chain.extend(10)
        await bench.follower.begin()
        bench.chain.extend(20)
        await bench.settle()
        bench.chain.reorganise(3, 5)
        await bench.settle()
        assert not any(payload["retracted"] for payload in bench.payloads)
        bench.chain.reorganise(16, 17)
        await bench.settle()
        assert any(payload["retracted"] for payload in bench.payloads)
        assert bench.view() == bench.wanted(7)

    run_async(scenario())


def test_a_node_that_is_behind_takes_nothing_back() -> None:
    """A lower head of the same chain proves nothing, and the blocks are not delivered again."""
    bench = Bench(Block())

    async def scenario() -> None:
        await bench.follower.begin()
        bench.chain.extend(30)
        await bench.settle()
        whole = list(bench.chain.canonical)
        for behind in (1, 5, 25):
            bench.chain.switch(whole[:-behind])
            await bench.settle()
        bench.chain.switch(whole)
        await bench.settle()
        assert len(bench.payloads) == 30

    run_async(scenario())


def test_a_block_with_more_logs_than_the_queue_takes_comes_in_parts() -> None:
    """In order, never more than there is room for, and once."""
    bench = Bench(log_trigger(), SimulatedChain(trades_at={3: 130}))

    async def scenario() -> None:
        await bench.follower.begin()
        bench.chain.extend(4)
        bench.ledger.free = 20
        await bench.settle()
        assert bench.ledger.largest == 20
        assert bench.view() == bench.wanted(0)

    run_async(scenario())


@pytest.mark.parametrize("is_replaced", [False, True], ids=["still there", "replaced"])
def test_a_process_that_ends_between_the_parts_of_a_block(*, is_replaced: bool) -> None:
    """The next one makes the other parts; or takes back those that were made, if the block is gone by then."""
    bench = Bench(log_trigger(), SimulatedChain(trades_at={3: 130}))

    async def scenario() -> None:
        await bench.follower.begin()
        bench.chain.extend(4)
        bench.ledger.free, bench.ledger.crash, bench.ledger.spared = 20, "after", 3
        await bench.step()
        assert bench.ledger.crashes == 1
        assert bench.view() < bench.wanted(0)
        assert any(bench.number(block_hash) == 3 for block_hash, _ in bench.view())
        if is_replaced:
            bench.chain.reorganise(2, 4)
        await bench.settle()
        assert bench.view() == bench.wanted(0)
        assert any(payload["retracted"] for payload in bench.payloads) is is_replaced

    run_async(scenario())


@pytest.mark.parametrize("trigger", [Block(), log_trigger()], ids=["block", "log"])
def test_a_branch_that_was_left_comes_back(trigger: Block | Log) -> None:
    """Its blocks are called for again, and taken back again, each time with an identity of its own."""
    bench = Bench(trigger)

    async def scenario() -> None:
        await bench.follower.begin()
        bench.chain.extend(10)
        await bench.settle()
        other = bench.chain.reorganise(3, 4)
        for _ in range(3):
            await bench.settle()
            assert bench.view() == bench.wanted(0)
            here = list(bench.chain.canonical)
            bench.chain.switch(other)
            bench.chain.extend(max(0, len(here) - len(other)) + 1)
            other = here

    run_async(scenario())


def test_a_node_that_lacks_a_block_cannot_say_that_it_has_no_logs() -> None:
    """Behind a load balancer one node has named the head, and another one is asked for its logs."""
    bench = Bench(log_trigger(), SimulatedChain(trades_at={1: 2}))

    async def scenario() -> None:
        await bench.follower.begin()
        bench.chain.extend(1)
        bench.chain.lost.add(bench.chain.canonical[-1].hash)
        with pytest.raises(RpcUnavailable, match="does not have block"):
            await bench.step()
        bench.chain.lost.clear()
        await bench.settle()
        assert bench.view() == bench.wanted(0)

    run_async(scenario())


def test_wide_ranges_are_halved_until_the_node_takes_them() -> None:
    """Downtime of 10,000 blocks with a node that gives 100 at once: all logs, in order, without a request too many."""
    bench = Bench(log_trigger(), SimulatedChain(max_range=100))

    async def scenario() -> None:
        await bench.follower.begin()
        bench.chain.extend(10_000)
        behind = []
        while await bench.step():
            behind.append(bench.follower.behind)
        assert bench.view() == bench.wanted(0)
        assert behind == sorted(behind, reverse=True)
        assert bench.follower.progress() == "alpha on sim at 10,000"
        ranges = [
            params[0]
            for method, params in bench.node.requests
            if method == "eth_getLogs" and isinstance(params[0], dict) and "fromBlock" in params[0]
        ]
        assert len(ranges) < 250

    run_async(scenario())
    assert bench.ledger.largest <= chain_follower.MAX_GROUP


def test_what_was_deeper_than_is_remembered_goes_on_with_what_there_is() -> None:
    """A reorg beyond the trail: what is remembered is taken back, and the chain of now delivered above it."""
    bench = Bench(Block())

    async def scenario() -> None:
        await bench.follower.begin()
        bench.chain.extend(MAX_DEPTH + 50)
        await bench.settle()
        bench.chain.reorganise(MAX_DEPTH + 20, MAX_DEPTH + 30)
        await bench.settle()
        news = [payload for payload in bench.payloads if payload["retracted"]]
        assert len(news) == MAX_DEPTH
        last = bench.payloads[-1]
        assert (last["retracted"], last["hash"]) == (False, bench.chain.canonical[-1].hash)

    run_async(scenario())

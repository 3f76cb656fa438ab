"""Block and log producers on a real node and a real ledger: reorgs, restarts, downtime, narrow nodes, dead ones."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_struct

from protocol.triggers import Block, Log
from runnerd.clock import SystemClock
from runnerd.config.model import ChainConfig
from runnerd.network import Network, open_network
from runnerd.store.store import Store
from runnerd.tasks import Tasks
from runnerd.triggers.blocks import BlockProducer
from runnerd.triggers.chain_producer import ChainProducer
from runnerd.triggers.errors import ProducerBroken
from runnerd.triggers.logs import LogProducer
from tests.support.aio import run_async
from tests.support.anvil import Anvil, start_anvil
from tests.support.calls import terms
from tests.support.ledger_router import LedgerRouter
from tests.support.rpc_proxy import Exchange, RpcProxy, rpc_proxy
from tests.support.simulated_chain import EVENT
from tests.support.trades import deploy_trades, trade
from tests.support.until import until

CHAIN_ID = 31337
TERMS = replace(terms(), chain="local")
DEADLINE_S = 60.0


@pytest.fixture
def node() -> Iterator[Anvil]:
    """A node of this test alone: reorgs are no one else's, and need the states of old blocks."""
    with start_anvil(prune_history=False) as anvil:
        yield anvil


@pytest.fixture
def long_node() -> Iterator[Anvil]:
    """One that forgets states, for thousands of blocks."""
    with start_anvil() as anvil:
        yield anvil


class Bench:
    """A chain that is polled, a ledger, and at most one producer at a time."""

    def __init__(self, store: Store, network: Network) -> None:
        self.network = network
        self.router = LedgerRouter(store)
        self._store = store
        self._tasks = Tasks()
        self._tasks.spawn(network.head.run(0.02), "head:local")
        self._running: asyncio.Task[None] | None = None

    async def start(self, trigger: Block | Log, *, router: LedgerRouter | None = None) -> ChainProducer:
        """A new producer, as after a restart."""
        kind = BlockProducer if isinstance(trigger, Block) else LogProducer
        producer = kind({"local": self.network}, router or self.router, self._store, SystemClock())
        await producer.declare("alpha", [trigger], TERMS)
        self._running = self._tasks.spawn(producer.run(), "producer:test")
        return producer

    async def stop(self) -> None:
        """End it wherever it is."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(call.payload) for call in self.router.accepted]

    def view(self) -> list[Any]:
        """Hashes of blocks, or sizes of trades, that stand."""
        standing: list[Any] = []
        for payload in self.payloads:
            item = (payload["block"]["hash"], payload["args"]["size"]) if "event" in payload else payload["hash"]
            if payload["retracted"]:
                standing.remove(item)
            else:
                assert item not in standing, "made twice"
                standing.append(item)
        return standing

    async def until_view(self, wanted: list[Any]) -> None:
        """Until that is what stands."""
        await until(lambda: self.view() == wanted, DEADLINE_S)

    async def close(self) -> None:
        await self._tasks.cancel()
        await self.network.close()


@asynccontextmanager
async def bench_of(dsn: str, url: str) -> AsyncIterator[Bench]:
    store = Store(dsn)
    await store.open()
    bench = Bench(store, open_network("local", ChainConfig(id=CHAIN_ID, rpc=url)))
    try:
        yield bench
    finally:
        await bench.close()
        await store.close()


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """The node's blocking client, beside the loop."""
    return await asyncio.to_thread(function, *args)


def blocks_above(node: Anvil, number: int) -> list[str]:
    last = int(node.rpc("eth_blockNumber"), 16)
    return [node.rpc("eth_getBlockByNumber", hex(i), False)["hash"] for i in range(number + 1, last + 1)]


def trades_above(node: Anvil, number: int, contract: str) -> list[tuple[str, int]]:
    where = {"fromBlock": hex(number + 1), "toBlock": "latest", "address": contract}
    return [(log["blockHash"], int(log["data"], 16)) for log in node.rpc("eth_getLogs", where)]


def test_blocks_over_reorgs_of_every_depth(node: Anvil, ledger_dsn: str) -> None:
    """Depth 1 to 8, one after the other: what stands is what the node has."""

    async def scenario() -> None:
        async with bench_of(ledger_dsn, node.url) as bench:
            await bench.start(Block())
            await call(node.rpc, "anvil_mine", hex(12))
            await until(lambda: len(bench.view()) == 12)
            for depth in range(1, 9):
                await call(node.rpc, "anvil_reorg", depth, [])
                wanted = await call(blocks_above, node, 0)
                await bench.until_view(wanted)
            retracted = [payload for payload in bench.payloads if payload["retracted"]]
            assert len(retracted) == sum(range(1, 9))
            first = bench.router.accepted[0]
            assert first.block is not None
            assert (first.block.number, first.principal) == (1, "chain:local")
            assert json.loads(first.payload).keys() == {"number", "hash", "parent_hash", "timestamp", "retracted"}

    run_async(scenario(), deadline_s=120)


def test_logs_over_reorgs_of_every_depth(node: Anvil, ledger_dsn: str) -> None:
    """The replacing blocks have other trades: the old are taken back with all their data, the new come."""
    contract = deploy_trades(node)

    async def scenario() -> None:
        async with bench_of(ledger_dsn, node.url) as bench:
            await bench.start(Log(addresses=(contract,), event=EVENT))
            for size in range(12):
                await call(trade, node, contract, size)
            await until(lambda: len(bench.view()) == 12)
            for depth in range(1, 9):
                await call(node.rpc, "anvil_reorg", depth, [])
                await call(trade, node, contract, 1_000 + depth)
                wanted = await call(trades_above, node, 1, contract)
                await bench.until_view(wanted)
            assert any(payload["retracted"] for payload in bench.payloads)
            assert bench.payloads[3]["args"] == {"by": bench.payloads[0]["args"]["by"], "size": 3}

    run_async(scenario(), deadline_s=120)


@pytest.mark.parametrize("is_committed", [False, True], ids=["before the commit", "after it"])
def test_a_producer_that_ends_between_read_and_commit(node: Anvil, ledger_dsn: str, *, is_committed: bool) -> None:
    """Nothing is lost, nothing doubled: the next one goes on from the ledger."""

    async def scenario() -> None:
        async with bench_of(ledger_dsn, node.url) as bench:
            await bench.start(Block())
            await call(node.rpc, "anvil_mine", hex(5))
            await until(lambda: len(bench.view()) == 5)
            gate = bench.router.after if is_committed else bench.router.gate
            gate.clear()
            await call(node.rpc, "anvil_mine", hex(3))
            await until(lambda: bench.router.held)
            await bench.stop()
            assert len(bench.view()) == (8 if is_committed else 5)
            gate.set()
            await call(node.rpc, "anvil_reorg", 2, [])
            await call(node.rpc, "anvil_mine", hex(4))
            await bench.start(Block())
            wanted = await call(blocks_above, node, 0)
            await until(lambda: bench.view() == wanted)

    run_async(scenario())


@pytest.mark.slow
def test_blocks_of_a_long_downtime(long_node: Anvil, ledger_dsn: str) -> None:
    """Caught up in order and in groups, never more than there is room for; `progress` counts down.

    `make bench` does it with 10,000: to make them takes anvil half a minute.
    """
    node = long_node

    async def scenario() -> None:
        async with bench_of(ledger_dsn, node.url) as bench:
            await bench.start(Block())
            await call(node.rpc, "anvil_mine", hex(3))
            await until(lambda: len(bench.view()) == 3)
            await bench.stop()
            await call(node.rpc, "anvil_mine", hex(1_200))
            bench.router.free = 0
            await bench.network.head.fetch()
            producer = await bench.start(Block())
            await until(
                lambda: producer.progress() == "alpha on local at 3, 1,200 behind, waits for its plugin's queue"
            )
            assert len(bench.router.accepted) == 3
            bench.router.free = 100
            await until(lambda: len(bench.router.accepted) == 1_203, 100)
            numbers = [payload["number"] for payload in bench.payloads]
            assert numbers == list(range(1, 1_204))
            await until(lambda: producer.progress() == "alpha on local at 1,203")
            assert producer.trouble is None

    run_async(scenario(), deadline_s=200)


@pytest.mark.slow
def test_logs_of_a_downtime_from_a_node_that_gives_narrow_ranges(long_node: Anvil, ledger_dsn: str) -> None:
    """The node refuses more than 100 blocks at once: ranges are halved, and all trades come in order."""
    node = long_node
    contract = deploy_trades(node)

    def narrow(proxy: RpcProxy) -> None:
        async def rule(exchange: Exchange) -> bytes:
            answers = json.loads(await exchange.forward())
            calls = {one["id"]: one for one in exchange.calls}
            for answer in answers if isinstance(answers, list) else [answers]:
                one = calls[answer["id"]]
                if one["method"] == "eth_getLogs" and "fromBlock" in one["params"][0]:
                    first, last = (int(one["params"][0][key], 16) for key in ("fromBlock", "toBlock"))
                    if last - first >= 100:
                        answer.pop("result", None)
                        answer["error"] = {"code": -32602, "message": "block range is too wide"}
            return json.dumps(answers).encode()

        proxy.set_rule("eth_getLogs", rule)

    async def scenario(proxy: RpcProxy) -> None:
        async with bench_of(ledger_dsn, proxy.url) as bench:
            producer = await bench.start(Log(addresses=(contract,), event=EVENT))
            await call(trade, node, contract, 1)
            await until(lambda: len(bench.view()) == 1)
            await bench.stop()
            narrow(proxy)
            for size in range(2, 12):
                await call(node.rpc, "anvil_mine", hex(150))
                await call(trade, node, contract, size)
            producer = await bench.start(Log(addresses=(contract,), event=EVENT))
            wanted = await call(trades_above, node, 1, contract)
            await until(lambda: bench.view() == wanted, DEADLINE_S)
            await until(lambda: "behind" not in producer.progress())
            assert producer.trouble is None

    with rpc_proxy(node.url) as proxy:
        run_async(scenario(proxy), deadline_s=120)


def test_where_keeps_only_some_logs(node: Anvil, ledger_dsn: str) -> None:
    """By an indexed argument, which the node filters, and by one that is not."""
    contract = deploy_trades(node)

    async def scenario() -> None:
        async with bench_of(ledger_dsn, node.url) as bench:
            await bench.start(Log(addresses=(contract,), event=EVENT, where={"by": node.accounts[1], "size": 2**255}))
            await call(trade, node, contract, 2**255, node.accounts[0])
            await call(trade, node, contract, 7, node.accounts[1])
            await call(trade, node, contract, 2**255, node.accounts[1])
            await until(lambda: bench.payloads)
            (payload,) = bench.payloads
            assert payload["args"]["size"] == 2**255
            assert payload["block"]["number"] == 4

    run_async(scenario())


def test_a_chain_that_is_away_is_trouble_and_loses_nothing(node: Anvil, ledger_dsn: str) -> None:
    """Before it was ever reached a trigger cannot begin; after that it goes on where it was."""

    async def scenario(proxy: RpcProxy) -> None:
        async with bench_of(ledger_dsn, proxy.url) as bench:
            producer = await bench.start(Block())
            await until(lambda: producer.trouble)
            proxy.listen()
            await until(lambda: producer.trouble is None, DEADLINE_S)
            await until(lambda: "at 0" in producer.progress())
            proxy.hang_up("eth_getBlockByNumber", is_forwarded=False)
            await call(node.rpc, "anvil_mine", hex(4))
            await until(lambda: producer.trouble)
            proxy.open()
            wanted = await call(blocks_above, node, 0)
            await until(lambda: bench.view() == wanted, DEADLINE_S)

    with rpc_proxy(node.url, is_listening=False) as proxy:
        run_async(scenario(proxy))


def test_what_cannot_be_followed_is_refused(ledger_dsn: str, node: Anvil) -> None:
    """With what is wrong and what there is."""

    async def scenario() -> None:
        async with bench_of(ledger_dsn, node.url) as bench:
            with pytest.raises(ProducerBroken, match="chain 'elsewhere' is not configured; configured: local"):
                await bench.start(Block(chain="elsewhere"))
            with pytest.raises(ProducerBroken, match="not an ABI type"):
                await bench.start(Log(addresses=("0x" + "11" * 20,), event="Trade(uint7 size)"))

    run_async(scenario())


def test_a_trigger_that_is_declared_again_goes_on(node: Anvil, ledger_dsn: str) -> None:
    """A worker that restarts declares the same: no block is lost meanwhile. A forgotten one fires nothing."""

    async def scenario() -> None:
        async with bench_of(ledger_dsn, node.url) as bench:
            producer = await bench.start(Block())
            await call(node.rpc, "anvil_mine", hex(2))
            await until(lambda: len(bench.view()) == 2)
            await producer.declare("alpha", [Block()], TERMS)
            await call(node.rpc, "anvil_mine", hex(2))
            await until(lambda: len(bench.view()) == 4)
            producer.forget("alpha")
            await call(node.rpc, "anvil_mine", hex(2))
            await bench.network.head.wait_beyond(5, 5)
            await producer.declare("alpha", [Block(every=2)], TERMS)
            await call(node.rpc, "anvil_mine", hex(2))
            await until(lambda: len(bench.router.accepted) == 5)
            assert [payload["number"] for payload in bench.payloads] == [1, 2, 3, 4, 8]

    run_async(scenario())


@pytest.mark.parametrize("trigger", [Block(), Log(addresses=("0x" + "11" * 20,), event=EVENT)], ids=["block", "log"])
def test_a_changed_overlap_holds_from_the_next_call_on(node: Anvil, ledger_dsn: str, trigger: Block | Log) -> None:
    """The trigger is the same one: it goes on where it was, and makes its calls in the new way."""

    async def scenario() -> None:
        async with bench_of(ledger_dsn, node.url) as bench:
            wanted = trigger
            if isinstance(trigger, Log):
                wanted = replace_struct(trigger, addresses=(await call(deploy_trades, node),))

            async def stimulate() -> None:
                if isinstance(wanted, Block):
                    await call(node.rpc, "anvil_mine", hex(2))
                else:
                    for size in (1, 2):
                        await call(trade, node, wanted.addresses[0], size)

            producer = await bench.start(wanted)
            for overlap, count in (("parallel", 2), ("queue", 4), ("skip", 6)):
                await producer.declare("alpha", [replace_struct(wanted, overlap=overlap)], TERMS)
                await stimulate()
                await until(lambda count=count: len(bench.view()) == count)  # type: ignore[misc]  # awaited here
            assert [one.overlap for one in bench.router.accepted] == ["parallel"] * 2 + ["queue"] * 2 + ["skip"] * 2

    run_async(scenario())


def test_a_websocket_rings_for_new_blocks(node: Anvil, ledger_dsn: str) -> None:
    """A block comes long before the next poll."""

    async def scenario() -> None:
        store = Store(ledger_dsn)
        await store.open()
        network = open_network("local", ChainConfig(id=CHAIN_ID, rpc=node.ws_url))
        router = LedgerRouter(store)
        producer = BlockProducer({"local": network}, router, store, SystemClock())
        tasks = Tasks()
        try:
            tasks.spawn(network.head.run(600), "head:local")
            await producer.declare("alpha", [Block()], TERMS)
            tasks.spawn(producer.run(), "producer:block")
            await call(node.rpc, "anvil_mine", hex(1))
            await until(lambda: router.accepted, 5)
        finally:
            await tasks.cancel()
            await network.close()
            await store.close()

    run_async(scenario())

"""The pool on real nodes: anvils that lag, die, come back and are of another chain, and proxies that lie."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from eth_hash.auto import keccak

from runnerd.chain.errors import NoQuorum, RpcUnavailable
from runnerd.chain.reads import block_parameter
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.types import Block, decode_quantity
from runnerd.config.model import ChainConfig
from runnerd.network import Network, open_network
from runnerd.services.metrics import Metrics
from tests.chain.servers import Run
from tests.chain.venue import wait_for_receipt
from tests.support.aio import run_async
from tests.support.anvil import Anvil, start_anvil
from tests.support.rpc_proxy import Exchange, RpcProxy, rpc_proxy
from tests.support.until import until

pytestmark = pytest.mark.integration

CHAIN_ID = 31337
POLL_S = 0.02


@dataclass(frozen=True)
class Ground:
    """Two nodes of one chain with blocks of their own, and one of another chain."""

    first: Anvil
    second: Anvil
    foreign: Anvil


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with start_anvil(prune_history=False) as first, start_anvil() as second, start_anvil(chain_id=5) as foreign:
        yield Ground(first, second, foreign)


@pytest.fixture
def proxies(ground: Ground) -> Iterator[tuple[RpcProxy, RpcProxy, RpcProxy]]:
    """Three doors to the first node: three nodes with the same chain, as honest ones are."""
    with rpc_proxy(ground.first.url) as a, rpc_proxy(ground.first.url) as b, rpc_proxy(ground.first.url) as c:
        yield a, b, c


@asynccontextmanager
async def running(*urls: str, metrics: Metrics | None = None, **config: Any) -> AsyncIterator[Network]:
    """A network whose nodes are polled, after all of them were polled once."""
    settings = {"rpc_timeout_s": 2.0, **config}
    network = open_network("local", ChainConfig(id=CHAIN_ID, rpc=urls, **settings), metrics)
    try:
        await network.rpc.learn()
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(network.head.run(POLL_S), name="test:head")
            try:
                yield network
            finally:
                polling.cancel()
    finally:
        await network.close()


def states(network: Network) -> list[str]:
    """In, probation or out, of each node."""
    return [node.health.state.value for node in network.rpc.nodes]


def height(anvil: Anvil) -> int:
    """As the node says it."""
    return int(anvil.rpc("eth_blockNumber"), 16)


def mine_to(anvil: Anvil, number: int) -> None:
    """Until the node is at that block."""
    missing = number - height(anvil)
    assert missing >= 0
    anvil.rpc("anvil_mine", hex(missing))


def test_lagging_node_leaves_and_comes_back_by_probation(run: Run, ground: Ground) -> None:
    """Six blocks behind, and it is out; caught up, and it is on probation before it is in."""

    async def scenario() -> None:
        top = max(height(ground.first), height(ground.second))
        mine_to(ground.first, top)
        mine_to(ground.second, top)
        async with running(ground.second.url, ground.first.url) as network:
            assert states(network) == ["in", "in"]
            mine_to(ground.first, top + 6)
            await until(lambda: states(network) == ["out", "in"])
            lagging = network.rpc.nodes[0]
            assert lagging.health.reason == f"lags: 6 blocks behind {top + 6}"
            assert network.rpc.url_for_display == ground.first.url
            mine_to(ground.second, top + 6)
            await until(lambda: lagging.health.state == "probation")
            await until(lambda: states(network) == ["in", "in"])
            assert network.rpc.url_for_display == ground.first.url  # no need to change again

    run(scenario())


def test_node_of_another_chain_is_never_read_from(run: Run, ground: Ground) -> None:
    """However high it is."""

    async def scenario() -> None:
        ground.foreign.rpc("anvil_mine", hex(1_000))
        async with running(ground.foreign.url, ground.first.url) as network:
            assert states(network) == ["out", "in"]
            assert network.rpc.nodes[0].health.reason == "wrong chain: it serves chain 5"
            assert decode_quantity(await network.rpc.call("eth_chainId", []), "eth_chainId") == CHAIN_ID
            assert (await network.head.fetch()).number == height(ground.first)

    run(scenario())


def test_killed_node_is_replaced_at_once_and_is_out_soon(run: Run, ground: Ground) -> None:
    """Reads go on without an error; the head goes on as well."""

    async def scenario() -> None:
        with start_anvil() as mortal:
            mine_to(mortal, height(ground.first) + 2)
            async with running(mortal.url, ground.first.url) as network:
                assert network.rpc.url_for_display == mortal.url
                mortal.process.send_signal(signal.SIGKILL)
                mortal.process.wait()
                assert decode_quantity(await network.rpc.call("eth_chainId", []), "eth_chainId") == CHAIN_ID
                known = await network.head.fetch()
                ground.first.rpc("evm_mine")
                assert await network.head.wait_beyond(known.number, timeout_s=5) is not None
                await until(lambda: states(network) == ["out", "in"])

    run(scenario())


def test_decision_is_asked_again_as_a_whole_when_its_node_hangs_up(
    run: Run, ground: Ground, proxies: tuple[RpcProxy, RpcProxy, RpcProxy]
) -> None:
    """The node dies between two reads of one decision: both reads come from the other one, at one block hash."""

    async def scenario() -> None:
        address = ground.first.accounts[0]
        asked: list[str] = []

        async def ask(node: NodeBatches, block: Block) -> list[object]:
            asked.append(block.hash)
            at = block_parameter(block)
            one = await node.batch([("eth_getBalance", [address, at])])
            two = await node.batch([("eth_getCode", [address, at])])
            return [*one, *two]

        async with running(proxies[0].url, proxies[1].url) as network:
            dying, other = sorted(proxies[:2], key=lambda proxy: proxy.url != network.rpc.url_for_display)
            trap = dying.hang_up("eth_getCode", is_forwarded=True)
            found = await network.at_newest_block(ask)
            assert [call["method"] for call in trap.calls][-1] == "eth_getCode"
            assert len(asked) == 2
            assert found[1] == "0x"
            assert [len(other.sent(method)) for method in ("eth_getBalance", "eth_getCode")] == [1, 1]

    run(scenario())


def test_liar_about_a_receipt_is_outvoted_named_and_put_out(
    ground: Ground, proxies: tuple[RpcProxy, RpcProxy, RpcProxy]
) -> None:
    """Two honest nodes prove a receipt that the third one calls a failure; the metric names the third."""
    sent = ground.first.rpc("eth_sendTransaction", {"from": ground.first.accounts[0], "to": ground.first.accounts[1]})
    receipt = wait_for_receipt(ground.first, sent)
    ground.first.rpc("anvil_mine", "0x3")
    metrics = Metrics(())

    async def scenario() -> str:
        async with running(*(proxy.url for proxy in proxies), metrics=metrics) as network:
            # The one that is read from, so that it is asked.
            liar, honest, _ = sorted(proxies, key=lambda proxy: proxy.url != network.rpc.url_for_display)
            node = next(node for node in network.rpc.nodes if node.name == liar.url)
            liar.alter("eth_getTransactionReceipt", lambda result: result | {"status": "0x0"})
            final = int(receipt["blockNumber"], 16) + 2
            (proven,) = await network.agreed([("eth_getTransactionReceipt", [sent])], min_head=final)
            assert isinstance(proven, dict)
            assert proven["status"] == "0x1"
            assert sorted(states(network)) == ["in", "in", "out"]
            assert node.health.reason.startswith("contradicted a quorum: ")
            # And a liar and an honest one alone prove nothing.
            await until(lambda: states(network) == ["in", "in", "in"])
            honest.hang_up("eth_getTransactionReceipt", is_forwarded=False)
            with pytest.raises(NoQuorum):
                await network.agreed([("eth_getTransactionReceipt", [sent])], min_head=final)
            return liar.url

    name = f'chain="local",node="{run_async(scenario())}"'
    text = metrics.render().decode()
    assert f'runnerd_node_lies_total{{{name},what="eth_getTransactionReceipt"}} 1.0' in text
    assert f"runnerd_node_up{{{name}}}" in text
    assert f"runnerd_node_head{{{name}}} {height(ground.first):.1f}" in text
    assert f"runnerd_node_latency_seconds_count{{{name}}}" in text


def test_node_far_ahead_of_two_honest_ones_is_out_and_moves_no_head(
    run: Run, ground: Ground, proxies: tuple[RpcProxy, RpcProxy, RpcProxy]
) -> None:
    """A number is easily said."""
    liar, *_ = proxies

    async def scenario() -> None:
        async with running(*(proxy.url for proxy in proxies)) as network:
            liar.alter("eth_getBlockByNumber", lambda block: block | {"number": hex(10**9)})
            await until(lambda: states(network) == ["out", "in", "in"])
            assert network.head.latest is not None
            assert network.head.latest.number == height(ground.first)
            assert network.rpc.nodes[0].health.reason.startswith("runs ahead: says 1000000000")
            liar.open()
            await until(lambda: states(network) == ["in", "in", "in"])

    run(scenario())


def test_signed_transaction_reaches_all_nodes_and_a_silent_one_holds_up_nothing(
    run: Run, ground: Ground, proxies: tuple[RpcProxy, RpcProxy, RpcProxy]
) -> None:
    """The first acceptance comes while another node still keeps its answer; both real nodes have the transaction."""
    sender, receiver = ground.first.accounts[5:7]
    fields = {
        "from": sender, "to": receiver, "nonce": ground.first.rpc("eth_getTransactionCount", sender, "latest"),
        "gas": hex(21_000), "value": "0x1", "chainId": hex(CHAIN_ID), "maxFeePerGas": hex(10**11),
        "maxPriorityFeePerGas": hex(10**9),
    }  # fmt: skip
    raw = bytes.fromhex(ground.first.rpc("eth_signTransaction", fields)[2:])

    async def scenario() -> None:
        top = max(height(ground.first), height(ground.second))
        mine_to(ground.first, top)
        mine_to(ground.second, top)
        silent, *_ = proxies
        async with running(silent.url, ground.first.url, ground.second.url) as network:
            trap = silent.hold("eth_sendRawTransaction")
            answers = await network.broadcast([raw])
            heard = [await anext(answers), await anext(answers)]
            sent = "0x" + keccak(raw).hex()
            assert dict(heard) == {ground.first.url: [sent], ground.second.url: [sent]}
            await asyncio.to_thread(trap.wait)
            silent.open()
            ((name, last),) = [each async for each in answers]
            assert name == silent.url
            assert isinstance(last, RpcUnavailable)
            found = [said async for _, said in await network.rpc.ask_each([("eth_getTransactionByHash", [sent])])]
            assert all(isinstance(said, list) and isinstance(said[0], dict) for said in found)

    run(scenario())


def test_private_lane_asks_the_endpoint_by_its_own_method(
    run: Run, ground: Ground, proxies: tuple[RpcProxy, RpcProxy, RpcProxy]
) -> None:
    """With the last block in which it may be included; the public node sees nothing."""
    public, private, _ = proxies
    hash_ = "0x" + "ab" * 32

    async def accept(exchange: Exchange) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": exchange.calls[0]["id"], "result": hash_}).encode()

    async def scenario() -> None:
        private.set_rule("eth_sendPrivateTransaction", accept)
        async with running(public.url, private_rpc=private.url, private_method="eth_sendPrivateTransaction") as network:
            assert await network.send_privately(b"\x02\x01") == hash_
        (sent,) = private.sent("eth_sendPrivateTransaction")
        assert sent["params"] == [{"tx": "0x0201", "maxBlockNumber": hex(height(ground.first) + 25)}]
        assert not [call for call in public.calls if call["method"].startswith("eth_send")]

    run(scenario())


@pytest.mark.parametrize("is_websocket", [True, False])
def test_websocket_node_rings_at_every_new_head(run: Run, ground: Ground, is_websocket: bool) -> None:
    """A block is seen long before the next poll is due; over http (the control) it is not."""

    async def scenario() -> None:
        url = ground.first.ws_url if is_websocket else ground.first.url
        network = open_network("local", ChainConfig(id=CHAIN_ID, rpc=url))
        try:
            known = await network.head.fetch()
            async with asyncio.TaskGroup() as tasks:
                polling = tasks.create_task(network.head.run(3_600), name="test:head")
                await until(lambda: network.head.recent(0.1) is not None and network.head.latest is not known)
                await asyncio.to_thread(ground.first.rpc, "evm_mine")
                found = await network.head.wait_beyond(known.number, timeout_s=5 if is_websocket else 0.5)
                assert (found is not None) is is_websocket
                polling.cancel()
        finally:
            await network.close()

    run(scenario())


def test_websocket_node_rings_again_after_its_connection_was_lost(run: Run, ground: Ground) -> None:
    """The subscription is made on each connection."""

    async def scenario() -> None:
        rings = asyncio.Event()
        network = open_network("local", ChainConfig(id=CHAIN_ID, rpc=ground.first.ws_url))
        connection: Any = network.rpc.nodes[0].rpc
        connection.on_new_head(lambda _: rings.set())
        try:
            await network.head.fetch()
            connection._transport._channel.abort("cut by the test")
            await network.head.fetch()
            rings.clear()
            await asyncio.to_thread(ground.first.rpc, "evm_mine")
            async with asyncio.timeout(5):
                await rings.wait()
        finally:
            await network.close()

    run(scenario())

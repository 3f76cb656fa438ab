"""A real node behind http, websocket and ipc: the same answers, the same refusals, in either event loop."""

import asyncio
import os
import signal

import pytest

from runnerd.chain.errors import RpcRefused, RpcUnavailable
from runnerd.chain.head import Head
from runnerd.chain.rpc import Rpc
from runnerd.chain.types import decode_hash, decode_quantity
from tests.chain.conftest import Node
from tests.chain.servers import Run

pytestmark = pytest.mark.integration


@pytest.fixture(params=["http", "ws", "ipc"])
def url(request: pytest.FixtureRequest, node: Node) -> str:
    return node.urls[request.param]


def test_calls_and_batches_are_answered(run: Run, url: str) -> None:
    """Results, a null result, and a refusal in its place."""

    async def scenario() -> None:
        async with Rpc(url) as rpc:
            assert decode_quantity(await rpc.call("eth_chainId", []), "eth_chainId") == 31_337
            assert await rpc.call("eth_getTransactionReceipt", ["0x" + "00" * 32]) is None
            chain, refused, version = await rpc.batch([("eth_chainId", []), ("eth_nope", []), ("net_version", [])])
            assert (chain, version) == ("0x7a69", "31337")
            assert isinstance(refused, RpcRefused)
            with pytest.raises(RpcRefused, match="eth_nope: node error -3260"):
                await rpc.call("eth_nope", [])

    run(scenario())


def test_two_hundred_calls_at_once_are_all_answered(run: Run, url: str) -> None:
    """Pipelined, or spread over connections; each caller gets its own answer."""

    async def scenario() -> None:
        async with Rpc(url) as rpc:
            addresses = [f"0x{i:040x}" for i in range(1, 201)]
            for i, address in enumerate(addresses):
                await rpc.call("anvil_setBalance", [address, hex(i)])
            balances = await asyncio.gather(*(rpc.call("eth_getBalance", [each, "latest"]) for each in addresses))
            assert balances == [hex(i) for i in range(200)]

    run(scenario())


def test_large_requests_and_answers_pass(run: Run, url: str) -> None:
    """100 KB of code there and back."""
    code = "0x" + "5b" * 50_000

    async def scenario() -> None:
        async with Rpc(url) as rpc:
            await rpc.call("anvil_setCode", ["0x" + "77" * 20, code])
            assert await rpc.call("eth_getCode", ["0x" + "77" * 20, "latest"]) == code

    run(scenario())


def test_a_frozen_node_is_unavailable(run: Run, url: str, node: Node) -> None:
    """SIGSTOP stands for a hung host: the deadline ends the call; after SIGCONT the same Rpc works again."""

    async def scenario() -> None:
        async with Rpc(url) as rpc:
            await rpc.call("eth_chainId", [])
            freeze(node)
            try:
                with pytest.raises(RpcUnavailable, match="no answer within"):
                    await rpc.call("eth_chainId", [], timeout_s=0.1)
            finally:
                node.anvil.process.send_signal(signal.SIGCONT)
            assert await rpc.call("eth_chainId", []) == "0x7a69"

    run(scenario())


def freeze(node: Node) -> None:
    """Stop every thread of the node; returns when the kernel has done so."""
    node.anvil.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, node.anvil.process.pid, os.WSTOPPED)


def test_the_head_follows_the_chain(run: Run, url: str) -> None:
    """Polling sees a mined block; a waiter wakes for it."""

    async def scenario() -> None:
        async with Rpc(url) as rpc, asyncio.TaskGroup() as tasks:
            head = Head(rpc)
            first = await head.fetch()
            polling = tasks.create_task(head.run(0.01), name="test:head")
            await rpc.call("evm_mine", [])
            found = await head.wait_beyond(first.number, timeout_s=5)
            polling.cancel()
            assert found is not None
            assert found.number == first.number + 1
            assert found.base_fee_wei is not None

    run(scenario())


def test_hashes_are_returned_for_sent_transactions(run: Run, url: str, node: Node) -> None:
    """The border function for what a node says after a broadcast."""

    async def scenario() -> None:
        async with Rpc(url) as rpc:
            fields = {"from": node.anvil.accounts[9], "to": "0x" + "77" * 20, "value": "0x0", "gas": "0xfffff"}
            assert len(decode_hash(await rpc.call("eth_sendTransaction", [fields]), "eth_sendTransaction")) == 66

    run(scenario())

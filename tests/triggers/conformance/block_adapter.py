"""Blocks in the conformance suite: each block that a node mines is a stimulus."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from protocol.triggers import Block, Trigger
from runnerd.triggers.blocks import BlockProducer
from runnerd.triggers.producer import Producer
from tests.support.anvil import Anvil
from tests.triggers.conformance.adapter import Parts, Seen, Source
from tests.triggers.conformance.chain import build, has_begun, params_of, running_node


class Miner:
    """See `adapter.Source`."""

    def __init__(self, node: Anvil) -> None:
        self.params: Mapping[str, str] = params_of(node)
        self._node = node

    async def cause(self, count: int) -> list[str]:
        return [await asyncio.to_thread(self._mine) for _ in range(count)]

    async def repeat(self) -> None:
        """Every poll brings the same head again already."""

    def name_of(self, seen: Seen) -> str:
        return str(msgspec.json.decode(seen.payload)["hash"])

    def _mine(self) -> str:
        self._node.rpc("evm_mine")
        return str(self._node.rpc("eth_getBlockByNumber", "latest", False)["hash"])


@asynccontextmanager
async def _miner() -> AsyncIterator[Source]:
    async with running_node() as node:
        yield Miner(node)


class BlockAdapter:
    """See `adapter.Adapter`."""

    name = "block"
    keeps = True
    is_bounded = False
    twins = 2
    flood = 40
    take_s = 0.05

    def prepare(self) -> None:
        """Nothing."""

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        return _miner()

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        return [Block(chain="local")]

    def build(self, parts: Parts) -> Producer:
        return build(BlockProducer, parts)

    def is_listening(self, producer: Producer) -> bool:
        return has_begun(producer)


ADAPTER = BlockAdapter()

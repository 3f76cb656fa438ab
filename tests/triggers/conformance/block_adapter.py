"""Blocks in the conformance suite: each block that a node mines is a stimulus."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from protocol.triggers import Block, Trigger
from runnerd.triggers.blocks import BlockProducer
from tests.triggers.conformance.adapter import Seen, Source
from tests.triggers.conformance.chain import FollowingAdapter, OnNode, running_node


class Miner(OnNode):
    """See `adapter.Source`."""

    async def cause(self, count: int) -> list[str]:
        return [await asyncio.to_thread(self._mine) for _ in range(count)]

    def name_of(self, seen: Seen) -> str:
        return str(msgspec.json.decode(seen.payload)["hash"])

    def _mine(self) -> str:
        self._node.rpc("evm_mine")
        return str(self._node.rpc("eth_getBlockByNumber", "latest", False)["hash"])


@asynccontextmanager
async def _miner() -> AsyncIterator[Source]:
    async with running_node() as node:
        yield Miner(node)


class BlockAdapter(FollowingAdapter):
    """See `adapter.Adapter`."""

    name = "block"
    kind = BlockProducer

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        return _miner()

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        return [Block(chain="local")]


ADAPTER = BlockAdapter()

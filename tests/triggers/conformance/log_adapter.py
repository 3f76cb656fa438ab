"""Logs in the conformance suite: each trade is a transaction, and a stimulus."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from protocol.triggers import Log, Trigger
from runnerd.triggers.logs import LogProducer
from tests.support.anvil import Anvil
from tests.support.simulated_chain import EVENT
from tests.support.trades import deploy_trades, trade
from tests.triggers.conformance.adapter import Seen, Source
from tests.triggers.conformance.chain import FollowingAdapter, OnNode, running_node


class Traders(OnNode):
    """See `adapter.Source`."""

    def __init__(self, node: Anvil) -> None:
        self._contract = deploy_trades(node)
        super().__init__(node, contract=self._contract)

    async def cause(self, count: int) -> list[str]:
        return [await asyncio.to_thread(trade, self._node, self._contract, i) for i in range(count)]

    def name_of(self, seen: Seen) -> str:
        return str(msgspec.json.decode(seen.payload)["transaction_hash"])


@asynccontextmanager
async def _traders() -> AsyncIterator[Source]:
    async with running_node() as node:
        yield Traders(node)


class LogAdapter(FollowingAdapter):
    """See `adapter.Adapter`."""

    name = "log"
    kind = LogProducer

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        return _traders()

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        return [Log(chain="local", addresses=(params["contract"],), event=EVENT)]


ADAPTER = LogAdapter()

"""Logs in the conformance suite: each trade is a transaction, and a stimulus."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from protocol.triggers import Log, Trigger
from runnerd.triggers.logs import LogProducer
from runnerd.triggers.producer import Producer
from tests.support.anvil import Anvil
from tests.support.simulated_chain import EVENT
from tests.support.trades import deploy_trades, trade
from tests.triggers.conformance.adapter import Parts, Seen, Source
from tests.triggers.conformance.chain import build, has_begun, params_of, running_node


class Traders:
    """See `adapter.Source`."""

    def __init__(self, node: Anvil) -> None:
        self._contract = deploy_trades(node)
        self.params: Mapping[str, str] = params_of(node, contract=self._contract)
        self._node = node

    async def cause(self, count: int) -> list[str]:
        return [await asyncio.to_thread(trade, self._node, self._contract, i) for i in range(count)]

    async def repeat(self) -> None:
        """Every poll brings the same head again already."""

    def name_of(self, seen: Seen) -> str:
        return str(msgspec.json.decode(seen.payload)["transaction_hash"])


@asynccontextmanager
async def _traders() -> AsyncIterator[Source]:
    async with running_node() as node:
        yield Traders(node)


class LogAdapter:
    """See `adapter.Adapter`."""

    name = "log"
    keeps = True
    is_bounded = False
    twins = 2
    flood = 40
    take_s = 0.05

    def prepare(self) -> None:
        """Nothing."""

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        return _traders()

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        return [Log(chain="local", addresses=(params["contract"],), event=EVENT)]

    def build(self, parts: Parts) -> Producer:
        return build(LogProducer, parts)

    def is_listening(self, producer: Producer) -> bool:
        return has_begun(producer)


ADAPTER = LogAdapter()

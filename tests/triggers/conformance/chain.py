"""What the adapters of blocks and of logs share: a real node that belongs to the test, polled by the host."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from runnerd.config.model import ChainConfig
from runnerd.network import Network, open_network
from runnerd.triggers.chain_producer import ChainProducer
from runnerd.triggers.producer import Producer
from tests.support.anvil import Anvil, start_anvil
from tests.triggers.conformance.adapter import Parts

POLL_S = 0.02
CHAIN_ID = 31337

P = TypeVar("P", bound=ChainProducer)


class Polled:
    """A chain's producer, with the chain: in a daemon that is the desk's."""

    def __init__(self, producer: ChainProducer, network: Network) -> None:
        self._producer = producer
        self._network = network
        self.name = producer.name
        self.serves = producer.serves
        self.declare = producer.declare
        self.forget = producer.forget
        self.next_due = producer.next_due
        self.progress = producer.progress

    @property
    def trouble(self) -> str | None:
        return self._producer.trouble

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._network.head.run(POLL_S), name="head:local")
                await self._producer.run()
        finally:
            await self._network.close()


def build(kind: type[P], parts: Parts) -> Producer:
    """On the node of `params["url"]`."""
    network = open_local(parts.params["url"])
    return Polled(kind({"local": network}, parts.router, parts.store, parts.clock), network)


def open_local(url: str) -> Network:
    """The chain "local", at this node."""
    return open_network("local", ChainConfig(id=CHAIN_ID, rpc=url))


@asynccontextmanager
async def running_node(*, prune_history: bool = True) -> AsyncIterator[Anvil]:
    """Started and ended in the thread of the test, which outlives it."""
    with start_anvil(prune_history=prune_history) as node:
        yield node


class OnNode:
    """What the sources of a chain share."""

    def __init__(self, node: Anvil, **params: str) -> None:
        self.params: Mapping[str, str] = {"url": node.url, **params}
        self._node = node

    async def repeat(self) -> None:
        """Every poll brings the same head again already."""


class FollowingAdapter:
    """What the adapters of producers that follow a chain share."""

    kind: type[ChainProducer]
    keeps = True
    is_bounded = False
    twins = 2
    flood = 40
    take_s = 0.05

    def prepare(self) -> None:
        """Nothing."""

    def build(self, parts: Parts) -> Producer:
        return build(self.kind, parts)

    def is_listening(self, producer: Producer) -> bool:
        return has_begun(producer)


def has_begun(producer: Producer) -> bool:
    """Whether it has a position for all that was declared."""
    progress = producer.progress()
    return bool(progress) and "not begun" not in progress

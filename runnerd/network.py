"""One configured chain, ready for use: its node, head and fee settings. Built by the app, shared by its readers."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from runnerd.chain.errors import RpcRefused, RpcUnavailable
from runnerd.chain.fees import FeeSettings
from runnerd.chain.head import NEWEST_BLOCK, Head
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.rpc import NodeBatches, Rpc
from runnerd.chain.types import Block, decode_block, decode_count
from runnerd.config.model import ChainConfig
from runnerd.executor.intent import Rules
from runnerd.knobs import Knob, Knobs

T = TypeVar("T")
BLOCK_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`[chains.NAME]` in operation."""

    name: str
    config: ChainConfig
    rpc: Rpc
    head: Head
    knobs: Knobs

    @property
    def fees(self) -> FeeSettings:
        """What fees are made with, as the knobs stand now."""
        return self.knobs.settings

    @property
    def rules(self) -> Rules:
        """What is final here, and how long a transaction may wait."""
        return Rules(
            confirmations=self.config.confirmations,
            replace_after_blocks=self.knobs.value(Knob.REPLACE_AFTER_BLOCKS),
            is_final_by_tag=self.config.finality == "finalized",
        )

    def is_legacy(self, block: Block) -> bool:
        """Whether transactions have a gas price here, instead of the two fees of EIP-1559."""
        market = self.config.fee_market
        return market == "legacy" or (market == "auto" and block.base_fee_wei is None)

    async def at_newest_block(self, ask: Callable[[NodeBatches, Block], Awaitable[T]], fresh_s: float = 0.0) -> T:
        """What `ask` finds at the newest block; asked again at a newer one when the node cannot serve that block.

        `ask` makes one batch of requests on the node that it is given. They go to the newest block we know of, and in
        the same round trip the node says whether it still is. A block that was fetched within the last `fresh_s`
        seconds needs no such check. Between two requests a block may come, be replaced, or be pruned: that is
        ordinary, and no answer. Raises what `ask` raises, after `BLOCK_TRIES` refusals.
        """
        known = self.head.latest
        if known is not None:
            is_fresh = self.head.recent(fresh_s) is known
            with suppress(RpcRefused, _Outdated):
                return await ask(self.rpc if is_fresh else _CheckedNode(self, known), known)
        for tries_left in reversed(range(BLOCK_TRIES)):
            try:
                return await ask(self.rpc, await self.head.fetch())
            except RpcRefused:
                if not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    @property
    def quorum(self) -> int:
        """How many nodes must agree on what is used as proof."""
        return 1

    async def agreed(self, requests: Sequence[Request]) -> list[JsonValue | RpcRefused]:
        """Answers that a quorum of nodes agrees on. Raises RpcUnavailable without one."""
        return await self.rpc.batch(requests)

    async def broadcast(self, raws: Sequence[bytes]) -> list[JsonValue | RpcRefused]:
        """Offer signed bytes to the nodes; what was said of each. Raises RpcUnavailable: it may be out all the same."""
        return await self.rpc.batch([("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws])

    async def send_privately(self, raw: bytes) -> JsonValue:
        """Offer signed bytes to the private endpoint alone. Raises ChainError."""
        raise RpcUnavailable("no private endpoint", method="eth_sendRawTransaction")

    async def fetch_finalized(self) -> int:
        """The number of the chain's last finalized block. Raises RpcUnavailable or RpcRefused."""
        return decode_block(await self.rpc.call("eth_getBlockByNumber", ["finalized", False])).number

    async def fetch_chain_id(self) -> int:
        """What the node says it serves. Raises RpcUnavailable or RpcRefused."""
        return decode_count(await self.rpc.call("eth_chainId", []), "eth_chainId")

    async def fetch_nonce(self, address: str) -> int:
        """Transactions of `address` in blocks up to the node's head. Raises RpcUnavailable or RpcRefused."""
        answer = await self.rpc.call("eth_getTransactionCount", [address, "latest"])
        return decode_count(answer, "eth_getTransactionCount")


class _Outdated(Exception):  # not an error: the node has a newer block than the one it was asked about
    pass


@dataclass(frozen=True, slots=True)
class _CheckedNode:
    """`NodeBatches` whose batches also ask for the newest block, and count only if that is `block`."""

    network: Network
    block: Block

    async def batch(
        self, requests: Sequence[Request], *, timeout_s: float | None = None
    ) -> list[JsonValue | RpcRefused]:
        newest, *answers = await self.network.rpc.batch([NEWEST_BLOCK, *requests], timeout_s=timeout_s)
        if self.network.head.note(newest, self.block).hash != self.block.hash:
            raise _Outdated
        return answers


def open_network(name: str, config: ChainConfig) -> Network:
    """The chain of `[chains.NAME]`; connects when first used. Raises NodeUrlInvalid."""
    rpc = Rpc(config.rpc, timeout_s=config.rpc_timeout_s)
    return Network(name=name, config=config, rpc=rpc, head=Head(rpc), knobs=Knobs(config))

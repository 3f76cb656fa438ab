"""One configured chain, ready for use: its node, head and fee settings. Built by the app, shared by its readers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from runnerd.chain.errors import RpcRefused
from runnerd.chain.fees import FeeSettings
from runnerd.chain.head import Head
from runnerd.chain.rpc import Rpc
from runnerd.chain.types import Block, decode_quantity
from runnerd.config.model import ChainConfig
from runnerd.executor.intent import Patience

T = TypeVar("T")
BLOCK_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`[chains.NAME]` in operation."""

    name: str
    config: ChainConfig
    rpc: Rpc
    head: Head
    fees: FeeSettings

    @property
    def patience(self) -> Patience:
        """How deep is final here, and how long a transaction may wait."""
        return Patience(confirmations=self.config.confirmations, replace_after_blocks=self.config.replace_after_blocks)

    async def at_newest_block(self, ask: Callable[[Block], Awaitable[T]], fresh_s: float = 0.0) -> T:
        """What `ask` finds at the newest block; asked again at a newer one when the node cannot serve that block.

        A block that was fetched within the last `fresh_s` seconds counts as the newest, for the first try.
        Between two requests a block may come, be replaced, or be pruned: that is ordinary, and no answer.
        Raises what `ask` raises, after `BLOCK_TRIES` refusals.
        """
        for tries_left in reversed(range(BLOCK_TRIES)):
            is_first = tries_left == BLOCK_TRIES - 1
            block = (self.head.recent(fresh_s) if is_first else None) or await self.head.fetch()
            try:
                return await ask(block)
            except RpcRefused:
                if not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def fetch_chain_id(self) -> int:
        """What the node says it serves. Raises RpcUnavailable or RpcRefused."""
        return decode_quantity(await self.rpc.call("eth_chainId", []), "eth_chainId")

    async def fetch_nonce(self, address: str) -> int:
        """Transactions of `address` in blocks up to the node's head. Raises RpcUnavailable or RpcRefused."""
        answer = await self.rpc.call("eth_getTransactionCount", [address, "latest"])
        return decode_quantity(answer, "eth_getTransactionCount")


def open_network(name: str, config: ChainConfig) -> Network:
    """The chain of `[chains.NAME]`; connects when first used. Raises NodeUrlInvalid."""
    rpc = Rpc(config.rpc, timeout_s=config.rpc_timeout_s)
    fees = FeeSettings(max_fee_cap_wei=config.max_fee_per_gas_wei, min_tip_wei=config.min_priority_fee_wei)
    return Network(name=name, config=config, rpc=rpc, head=Head(rpc), fees=fees)

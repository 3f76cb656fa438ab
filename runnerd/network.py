"""One configured chain, ready for use: its nodes, head and fee settings. Built by the app, shared by its readers."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from runnerd.chain.errors import NoPrivateLane, RpcRefused, RpcUnavailable
from runnerd.chain.fees import FeeSettings
from runnerd.chain.head import NEWEST_BLOCK
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.pool.agreement import Key, comparable
from runnerd.chain.pool.answers import Answers
from runnerd.chain.pool.failures import Failures
from runnerd.chain.pool.head import PoolHead
from runnerd.chain.pool.node import Node, NodeConnection, NodeMetrics
from runnerd.chain.pool.pool import Pool
from runnerd.chain.pool.private import PrivateLane
from runnerd.chain.pool.quorum import Quorum
from runnerd.chain.rpc import NodeBatches, Rpc
from runnerd.chain.types import Block, decode_block, decode_count
from runnerd.config.model import ChainConfig
from runnerd.executor.intent import Rules
from runnerd.knobs import Knob, Knobs

T = TypeVar("T")
BLOCK_TRIES = 3


class NamedNode(NodeBatches, Protocol):
    """One node, as `at_newest_block` gives it: `name` tells it from the others of its chain."""

    @property
    def name(self) -> str:
        """As in the log and in the metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`[chains.NAME]` in operation."""

    name: str
    config: ChainConfig
    rpc: Pool
    quorum: Quorum
    private: PrivateLane | None
    knobs: Knobs

    @property
    def head(self) -> PoolHead:
        """The newest block."""
        return self.rpc.head

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
            private_blocks=self.config.private_blocks,
        )

    def is_legacy(self, block: Block) -> bool:
        """Whether transactions have a gas price here, instead of the two fees of EIP-1559."""
        market = self.config.fee_market
        return market == "legacy" or (market == "auto" and block.base_fee_wei is None)

    async def at_newest_block(self, ask: Callable[[NamedNode, Block], Awaitable[T]], fresh_s: float = 0.0) -> T:
        """What `ask` finds at the newest block; asked again at a newer one when the node cannot serve that block.

        `ask` makes one batch of requests on the node that it is given: one node and one block for everything. If that
        node does not answer, the whole of `ask` is repeated on another one. Its requests go to the newest block we
        know of, and in the same round trip the node says whether it still is. A block that was fetched within the last
        `fresh_s` seconds needs no such check. Between two requests a block may come, be replaced, or be pruned: that
        is ordinary, and no answer. Raises what `ask` raises, after `BLOCK_TRIES` refusals.
        """
        failures = Failures()
        for node in await self.rpc.candidates():
            with failures.kept():
                return await _at_newest_block(node, ask, fresh_s)
        raise failures.error()

    async def agreed(
        self, requests: Sequence[Request], *, key: Key = comparable, min_head: int | None = None
    ) -> list[JsonValue | RpcRefused]:
        """Proof: answers on which a quorum of nodes agrees. Raises NoQuorum. See `Quorum.agreed`."""
        return await self.quorum.agreed(requests, key=key, min_head=min_head)

    async def agreed_when_final(
        self, block: int, requests: Sequence[Request], *, key: Key = comparable
    ) -> list[JsonValue | RpcRefused]:
        """Proof about what is in `block`: only nodes count for which that block is final. Raises NoQuorum."""
        tag: Literal["latest", "finalized"] = "finalized" if self.rules.is_final_by_tag else "latest"
        return await self.quorum.agreed(requests, key=key, min_head=self.rules.final_at(block), tag=tag)

    async def broadcast(self, raws: Sequence[bytes]) -> Answers:
        """Hand signed transactions to all nodes at once. `async for name, answers in await network.broadcast(raws)`:

        each node's words for the hashes, or the ChainError that came instead, in the order in which they come. Leave
        the loop when all are accepted: the other requests go on without a listener.
        """
        return await self.rpc.ask_each([("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws])

    async def send_privately(self, raw: bytes) -> str:
        """Hand a signed transaction to the private endpoint alone. Returns the hash that it names.

        It may wait there for `private_blocks` blocks. Raises NoPrivateLane, RpcUnavailable (which proves nothing: it
        may be under way) or RpcRefused.
        """
        if self.private is None:
            raise NoPrivateLane(f"[chains.{self.name}] has no private_rpc")
        latest = self.head.latest or await self.head.fetch()
        return await self.private.send(raw, latest.number)

    async def fetch_finalized(self) -> int:
        """The number of the chain's last finalized block. Raises RpcUnavailable or RpcRefused."""
        return decode_block(await self.rpc.call("eth_getBlockByNumber", ["finalized", False])).number

    async def fetch_chain_id(self) -> int:
        """What the nodes say they serve. Raises RpcUnavailable or RpcRefused.

        A node of another chain is not used. Only when all of them serve another one, that one is returned.
        """
        try:
            return decode_count(await self.rpc.call("eth_chainId", []), "eth_chainId")
        except RpcUnavailable:
            for node in self.rpc.nodes:
                if node.chain_id is None or node.chain_id == self.config.id:
                    raise  # it may still turn out well
            wrong = self.rpc.nodes[0].chain_id
            assert wrong is not None
            return wrong

    async def fetch_nonce(self, address: str) -> int:
        """Transactions of `address` in blocks up to the node's head. Raises RpcUnavailable or RpcRefused."""
        answer = await self.rpc.call("eth_getTransactionCount", [address, "latest"])
        return decode_count(answer, "eth_getTransactionCount")

    async def fetch_agreed_nonce(self, address: str) -> int:
        """The same, as a quorum of nodes counts it. Raises NoQuorum, also when they are a block apart: ask again."""
        (answer,) = await self.agreed([("eth_getTransactionCount", [address, "latest"])])
        if isinstance(answer, RpcRefused):
            raise answer
        return decode_count(answer, "eth_getTransactionCount")

    async def close(self) -> None:
        """Close all connections."""
        await self.rpc.close()
        if self.private is not None:
            await self.private.connection.close()


async def _at_newest_block(node: Node, ask: Callable[[NamedNode, Block], Awaitable[T]], fresh_s: float) -> T:
    known = node.head.latest
    if known is not None:
        is_fresh = node.head.recent(fresh_s) is known
        with suppress(RpcRefused, _Outdated):
            return await ask(node if is_fresh else _CheckedNode(node, known), known)
    for tries_left in reversed(range(BLOCK_TRIES)):
        try:
            return await ask(node, await node.head.fetch())
        except RpcRefused:
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


class _Outdated(Exception):  # not an error: the node has a newer block than the one it was asked about
    pass


@dataclass(frozen=True, slots=True)
class _CheckedNode:
    """`NamedNode` whose batches also ask for the newest block, and count only if that is `block`."""

    node: Node
    block: Block

    @property
    def name(self) -> str:
        return self.node.name

    async def batch(
        self, requests: Sequence[Request], *, timeout_s: float | None = None
    ) -> list[JsonValue | RpcRefused]:
        newest, *answers = await self.node.batch([NEWEST_BLOCK, *requests], timeout_s=timeout_s)
        if self.node.head.note(newest, self.block).hash != self.block.hash:
            raise _Outdated
        return answers


def open_network(
    name: str,
    config: ChainConfig,
    metrics: NodeMetrics | None = None,
    *,
    connect: Callable[[str], NodeConnection] | None = None,
) -> Network:
    """The chain of `[chains.NAME]`; connects when first used. Raises NodeUrlInvalid. `connect` opens one url."""

    def dial(url: str) -> NodeConnection:
        return Rpc(url, timeout_s=config.rpc_timeout_s)

    connect = connect or dial
    pool = Pool(
        name,
        [connect(url) for url in config.urls],
        chain_id=config.id,
        max_lag=config.max_lag_blocks,
        metrics=metrics,
    )
    private = None
    if config.private_rpc is not None:
        method = config.private_method or "eth_sendRawTransaction"
        private = PrivateLane(connect(config.private_rpc), method, config.private_blocks)
    return Network(
        name=name,
        config=config,
        rpc=pool,
        quorum=Quorum(pool, config.needed_nodes),
        private=private,
        knobs=Knobs(config),
    )

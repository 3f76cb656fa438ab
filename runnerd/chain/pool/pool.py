"""All nodes of one chain: which one is read from, another one when it does not answer, and all of them for a broadcast.

`Pool` is `NodeCalls`, so most of runnerd sees one node. Who may take part is `health`'s decision; proof is `quorum`'s.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

from runnerd.chain.errors import ChainError, RpcRefused, RpcUnavailable
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.pool.answers import Answers
from runnerd.chain.pool.failures import Failures
from runnerd.chain.pool.head import PoolHead
from runnerd.chain.pool.health import PROBATION_POLLS, Fault, NodeState, rank, voting_heads
from runnerd.chain.pool.node import Node, NodeConnection, NodeMetrics, is_sending
from runnerd.log import fields
from runnerd.tasks import Tasks

logger = logging.getLogger(__name__)

LEARN_GRACE_S = 1.0
"""At the first question every node is asked for its head. So long is waited for the slow ones when one has answered."""


class Pool:
    """`NodeCalls` over one or more nodes. Use from one event loop."""

    def __init__(
        self,
        chain: str,
        connections: Sequence[NodeConnection],
        *,
        chain_id: int,
        max_lag: int,
        metrics: NodeMetrics | None = None,
    ) -> None:
        """Nothing is dialled yet. `max_lag` is in blocks."""
        self.chain = chain
        self.tasks = Tasks()
        self._max_lag = max_lag
        self._ranked: list[Node] | None = None
        self._used: Node | None = None
        self.nodes = tuple(
            Node(
                name,
                connection,
                chain=chain,
                chain_id=chain_id,
                max_lag=max_lag,
                # A lone node has nobody to stand in for it meanwhile.
                probation_polls=PROBATION_POLLS if len(connections) > 1 else 1,
                metrics=metrics,
                others=self._heads_beside,
                on_change=self._on_change,
            )
            for name, connection in zip(_unique_names(connections), connections, strict=True)
        )
        self.head = PoolHead(self)

    def __repr__(self) -> str:
        return f"Pool({self.chain!r}, {list(self.nodes)})"

    @property
    def best(self) -> Node:
        """The node that is read from: the first of `ranked`, or of the configuration when there is none."""
        ranked = self.ranked()
        return ranked[0] if ranked else self.nodes[0]

    @property
    def url_for_display(self) -> str:
        """Of the node that is read from."""
        return self.best.name

    def ranked(self) -> list[Node]:
        """The nodes that may be read from, best first. May be empty."""
        if self._ranked is None:
            used = None if self._used is None else self.nodes.index(self._used)
            order = rank(
                [node.health for node in self.nodes],
                [node.latency_s for node in self.nodes],
                max_lag=self._max_lag,
                used=used,
            )
            self._ranked = [self.nodes[i] for i in order]
            first = self._ranked[0] if self._ranked else None
            if first is not None and first is not self._used:
                if self._used is not None:
                    logger.info(
                        "chain %s is read from node %s now, not from %s", self.chain, first.name, self._used.name,
                        extra=fields("node_chosen", chain=self.chain, node=first.name, previous=self._used.name),
                    )  # fmt: skip
                self._used = first
        return self._ranked

    async def candidates(self) -> list[Node]:
        """`ranked`, after every node was asked once. Raises RpcUnavailable when there is none."""
        if self.is_new:
            await self.learn()
        ranked = self.ranked()
        if not ranked:
            raise RpcUnavailable(self.describe())
        return list(ranked)

    async def call(self, method: str, params: Sequence[JsonParam], *, timeout_s: float | None = None) -> JsonValue:
        """See NodeCalls. Asks the next node when one does not answer; never for a method that sends (`is_sending`)."""
        failures = Failures()
        for node in await self.candidates():
            with failures.kept():
                return await node.call(method, params, timeout_s=timeout_s)
            if is_sending(method):
                break
        raise failures.error()

    async def batch(
        self, requests: Sequence[Request], *, timeout_s: float | None = None
    ) -> list[JsonValue | RpcRefused]:
        """See NodeBatches: all answers are of one node. Asks the next node when one does not answer."""
        failures = Failures()
        for node in await self.candidates():
            with failures.kept():
                return await node.batch(requests, timeout_s=timeout_s)
        raise failures.error()

    async def ask_each(self, requests: Sequence[Request]) -> Answers:
        """Ask all nodes that could answer at once, each with its own deadline; take the answers as they come.

        Not only the healthy ones: a transaction that reaches one node more does no harm. A node that was out for
        silence is left alone while others answer.
        """
        if self.is_new:
            await self.learn()
        nodes = [node for node in self.nodes if node.health.fault not in (Fault.SILENT, Fault.WRONG_CHAIN)]
        return Answers(nodes or self.nodes, requests, self.tasks)

    # --- who there is ------------------------------------------------------------------------------------------------

    @property
    def is_new(self) -> bool:
        """Whether some node was never asked, and there are others to compare it with."""
        return len(self.nodes) > 1 and any(node.health.fault is Fault.NOT_ASKED for node in self.nodes)

    async def learn(self) -> None:
        """Ask every node that was never asked for its head; wait for one that is well, and a while for the others."""
        new = [node for node in self.nodes if node.health.fault is Fault.NOT_ASKED]
        asking = [self.tasks.spawn(_poll(node), f"poll:{self.chain}") for node in new]
        _, pending = await asyncio.wait(asking, timeout=LEARN_GRACE_S)
        while pending and not any(node.health.state is NodeState.IN for node in self.nodes):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)

    def describe(self) -> str:
        """Why there is no node, in words."""
        return "no usable node: " + "; ".join(f"{node.name}: {node.health.reason}" for node in self.nodes)

    async def close(self) -> None:
        """End what runs in the background, and close the connections."""
        await self.tasks.cancel()
        for node in self.nodes:
            await node.rpc.close()

    def _heads_beside(self, node: Node) -> list[int]:
        return voting_heads(other.health for other in self.nodes if other is not node)

    def _on_change(self, node: Node) -> None:
        self._ranked = None
        self.head.on_change(node)


async def _poll(node: Node) -> None:
    with suppress(ChainError):  # its health has it
        await node.head.fetch()


def _unique_names(connections: Sequence[NodeConnection]) -> Iterator[str]:
    """Urls for display; two that differ only in what is secret are told apart by a number."""
    seen: Counter[str] = Counter()
    for connection in connections:
        name = connection.url_for_display
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} #{seen[name]}"

"""The newest block of a chain, over all its nodes: that of the node which is read from.

It has the interface of `runnerd.chain.head.Head`, of which every node has one. May go back by a few blocks when another
node is read from. A node that hears of a block first rings at the one that is read from.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.pool.failures import Failures
from runnerd.chain.pool.health import NodeState
from runnerd.chain.pool.node import Node
from runnerd.chain.types import Block

BEHIND_TRIGGERS_S = 0.01
"""Who waits for a change, to call plugins, is woken so much before who only waits for a higher block, to look at
receipts and caps: a call is then with its plugin before those put their questions together."""


class Members(Protocol):
    """The nodes of a chain: `Pool`."""

    chain: str

    @property
    def nodes(self) -> Sequence[Node]:
        """All of them."""

    @property
    def best(self) -> Node:
        """The one that is read from."""

    async def candidates(self) -> list[Node]:
        """Those that may be read from, best first. Raises RpcUnavailable when there is none."""


class PoolHead:
    """Latest block of the node that is read from. Made by `Pool`."""

    def __init__(self, pool: Members) -> None:
        self._pool = pool
        self._changed, self._moved = asyncio.Event(), asyncio.Event()
        self._moving: asyncio.TimerHandle | None = None

    @property
    def latest(self) -> Block | None:
        """What that node said last; None until the first answer. It is as old as the last poll."""
        return self._pool.best.head.latest

    @property
    def problem(self) -> str | None:
        """Why no node can be asked now, or None."""
        nodes = self._pool.nodes
        problems = [node.head.problem for node in nodes if node.head.problem is not None]
        if len(problems) < len(nodes):
            return None
        return problems[0] if len(nodes) == 1 else "; ".join(f"{node.name}: {node.head.problem}" for node in nodes)

    async def fetch(self) -> Block:
        """The latest block, asked now, of the first node that answers. Raises RpcUnavailable or RpcRefused."""
        failures = Failures()
        for node in await self._pool.candidates():
            with failures.kept():
                return await node.head.fetch()
        raise failures.error()

    def note(self, answer: JsonValue | RpcRefused, known: Block) -> Block:
        """Take an answer of the node that is read from. See Head."""
        return self._pool.best.head.note(answer, known)

    def recent(self, fresh_s: float) -> Block | None:
        """The latest block, if it was named within the last `fresh_s` seconds."""
        return self._pool.best.head.recent(fresh_s)

    async def wait_beyond(self, number: int, timeout_s: float) -> Block | None:
        """A block above `number`, as soon as the node that is read from has one; None when none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while (latest := self.latest) is None or latest.number <= number:
                    await self._moved.wait()
                return latest
        except TimeoutError:
            return None

    async def wait_change(self, known: Block | None, timeout_s: float) -> Block | None:
        """The newest block as soon as it is another one than `known`, be it lower; None when it is not in time."""
        known_hash = None if known is None else known.hash
        try:
            async with asyncio.timeout(timeout_s):
                while (latest := self.latest) is None or latest.hash == known_hash:
                    await self._changed.wait()
                return latest
        except TimeoutError:
            return None

    async def run(self, poll_s: float) -> None:
        """Poll every node until cancelled, each on its own: a silent one holds up no other."""
        async with asyncio.TaskGroup() as polls:
            for node in self._pool.nodes:
                polls.create_task(node.head.run(poll_s), name=f"head:{self._pool.chain}")

    def on_change(self, node: Node) -> None:
        """Something is known of `node` that was not: a block, or how it is."""
        best = self._pool.best
        heard, known = node.head.latest, best.head.latest
        is_news = heard is not None and (known is None or heard.number > known.number)
        if is_news and node is not best and node.health.state is NodeState.IN:
            best.ring()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if self._moving is None:
            self._moving = asyncio.get_running_loop().call_later(BEHIND_TRIGGERS_S, self._move)

    def _move(self) -> None:
        self._moving = None
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

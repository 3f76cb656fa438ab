"""Follows one chain for one trigger of one plugin: calls for what is new, takes back what a reorg replaced.

A new head is only a doorbell; what is asked of a node over its block numbers and hashes is the truth. What was seen is
kept in the ledger, in the commit of the calls that were made of it. What it all means is `chain_cursor`'s to say.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

from protocol.triggers import Trigger
from runnerd.chain.errors import RpcMalformed
from runnerd.chain.jsonrpc import Request
from runnerd.chain.past import given
from runnerd.chain.types import Block, decode_block
from runnerd.clock import Clock
from runnerd.log import fields
from runnerd.network import Network
from runnerd.store import calls, positions
from runnerd.store.calls import NewCall
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement
from runnerd.triggers import chain_cursor
from runnerd.triggers.chain_calls import Moment, Task, build_call, build_retraction
from runnerd.triggers.chain_cursor import MAX_DEPTH, Cursor, Forked, Found, Grown, Older, Place
from runnerd.triggers.chain_source import MAX_BLOCKS, ChainSource, Finding
from runnerd.triggers.follower import Follower
from runnerd.triggers.producer import Submit

logger = logging.getLogger("runnerd.chain_triggers")

FULL_EVERY_S = (0.01, 0.25)
"""Between two looks at a queue that is full: more and more seldom."""
MAX_GROUP = 256
"""JobCalls in one commit."""
UNSTORED_BLOCKS = 16
"""So far the ledger's position may lie behind when nothing was made of the blocks: reading them again does no harm."""
NEAR = 8
"""Most reorgs are not as deep: the first look goes down so far."""


class ChainFollower(Follower):
    """One block or log trigger."""

    def __init__(
        self,
        task: Task,
        source: ChainSource,
        network: Network,
        router: Submit,
        store: Ledger,
        clock: Clock,
        call_deadline: timedelta,
    ) -> None:
        super().__init__(network, router, store, clock, call_deadline)
        self.task = task
        self._cursor: Cursor | None = None
        self._stored = -1
        self._is_held = False
        self._beginning = asyncio.Lock()
        self._source = source

    @property
    def key(self) -> str:
        """See Follower."""
        return self.task.key

    @property
    def trigger(self) -> Trigger:
        """See Follower."""
        return self.task.trigger

    @property
    def _about(self) -> str:
        return f"chain {self.task.chain}"

    @property
    def behind(self) -> int:
        """See Follower."""
        head = self._network.head.latest
        if self._cursor is None or head is None:
            return 0
        return max(0, head.number - self.task.trigger.confirmations - self._cursor.tip.number)

    def progress(self) -> str:
        """See Follower."""
        whose = f"{self.task.plugin} on {self.task.chain}"
        if self._cursor is None:
            return f"{whose} not begun: the chain has not answered"
        text = f"{whose} at {self._cursor.tip.number:,}"
        if self.behind:
            text += f", {self.behind:,} behind"
        return f"{text}, waits for its plugin's queue" if self._is_held else text

    async def begin(self) -> None:
        """Find its position, or make one at the head of now, which is stored. Raises ChainError, StoreError."""
        async with self._beginning:
            if self._cursor is None:
                await self._begin()

    def reload(self) -> None:
        """Another one moved its position: begin from what the ledger has. Before it runs."""
        self._cursor = None

    async def _begin(self) -> None:
        rows = await self._store.fetch(positions.position(self.task.producer, self.task.key))
        if rows:
            cursor = chain_cursor.decode(rows[0]["position"])
            self._cursor, self._stored = cursor, cursor.tip.number
            return
        block = await self._network.head.fetch()
        depth = self.task.trigger.confirmations
        if depth:
            found = await self._fetch_block(max(0, block.number - depth))
            if found is None:
                raise RpcMalformed("no block below its newest one", method="eth_getBlockByNumber")
            block = found
        cursor = chain_cursor.begin(block.number, block.hash)
        await self._store.commit(self._move(cursor))
        self._cursor, self._stored = cursor, block.number

    # --- one step ----------------------------------------------------------------------------------------------------

    async def _step(self, head: Block) -> bool:
        """Look at some blocks up to `head`."""
        cursor = self._cursor
        assert cursor is not None  # it has begun
        target = head.number - self.task.trigger.confirmations
        first = cursor.next_number
        if target < max(0, cursor.trail[0].number):
            return False  # nothing has its confirmations, or the node is far behind
        if target - cursor.tip.number > MAX_DEPTH and not cursor.is_open:
            found = await self._source.sweep(cursor.tip, target - MAX_DEPTH)
            if found:
                await self._deliver(found)
                return True
            if found is not None:  # what we know is not in the chain any more: find where they part
                first = cursor.tip.number
        if target < first and target == head.number and head.hash == cursor.tip.hash:
            return False
        run = await self._fetch_run(min(first, target), target, head)
        verdict = chain_cursor.compare(cursor, run)
        if isinstance(verdict, Older):
            run, verdict = await self._look_back(cursor, target)
        match verdict:
            case Grown(blocks):
                if blocks:
                    await self._deliver(await self._source.look(blocks))
                return bool(blocks) and blocks[-1].number < target
            case Forked(orphans, base):
                await self._take_back(orphans, base, target)
                return True
            case Older():
                return False  # the chain moved while it was looked at: its next head rings

    async def _look_back(self, cursor: Cursor, target: int) -> "tuple[list[Block], Grown | Forked | Older]":
        """Where the trail and the chain part: a short look first, then one at all that is remembered."""
        oldest = cursor.trail[0].number
        run: list[Block] = []
        verdict: Grown | Forked | Older = Older(oldest)
        last = min(target, cursor.tip.number + 1)
        for first in sorted({max(oldest, last - NEAR), oldest}, reverse=True):
            blocks: list[Block | None] = []
            for start in range(first, last + 1, MAX_BLOCKS):
                blocks += await self._fetch_blocks(start, min(last, start + MAX_BLOCKS - 1))
            run = chain_cursor.linked(blocks)
            verdict = chain_cursor.compare(cursor, run)
            if not isinstance(verdict, Older):
                break
        return run, verdict

    async def _fetch_run(self, first: int, target: int, head: Block) -> list[Block]:
        if first == head.number and head.parent_hash:
            return [head]  # the poll has brought it
        return chain_cursor.linked(await self._fetch_blocks(first, min(target, first + MAX_BLOCKS - 1)))

    async def _fetch_blocks(self, first: int, last: int) -> list[Block | None]:
        requests: list[Request] = [("eth_getBlockByNumber", [hex(number), False]) for number in range(first, last + 1)]
        answers = await self._network.rpc.batch(requests)
        blocks = [None if answer is None else decode_block(given(answer)) for answer in answers]
        if any(block is not None and not block.parent_hash for block in blocks):
            raise RpcMalformed("a block without a parent", method="eth_getBlockByNumber", field="parentHash")
        return blocks

    async def _fetch_block(self, number: int) -> Block | None:
        (block,) = await self._fetch_blocks(number, number)
        return block

    # --- calls -------------------------------------------------------------------------------------------------------

    async def _deliver(self, found: Sequence[Found[Finding]]) -> None:
        """Make the calls, in order and in groups: as many at once as the plugin's queue takes."""
        while found and self._cursor is not None:
            has_items = any(one.items for one in found)
            room = await self._wait_for_room() if has_items else MAX_GROUP
            if not self.is_wanted:
                return
            packed = chain_cursor.pack(self._cursor, found, min(room, MAX_GROUP))
            kind, terms = self._source.kind, self._terms
            # The position says that nobody has made them before; of a block that is half done it does not say which.
            half_done = self._cursor.tip.hash if self._cursor.is_open else None
            new_calls = [
                build_call(
                    self.task, kind, block, finding, packed.cursor.times_undone(block.hash), terms,
                    is_fresh=block.hash != half_done,
                )
                for block, finding in packed.taken
            ]  # fmt: skip
            if new_calls or packed.cursor.tip.number - self._stored >= UNSTORED_BLOCKS:
                await self._commit(new_calls, packed.cursor)
            self._cursor, found = packed.cursor, packed.left

    async def _take_back(self, orphans: Sequence[Place], base: Place | None, target: int) -> None:
        """Call again for all that was made of these blocks, newest first, and say that it is retracted."""
        task = self.task
        logger.warning(
            "chain %s: a reorg replaces %d blocks above %d that %s has seen", task.chain, len(orphans),
            orphans[-1].number - 1, task.plugin,
            extra=fields("chain_reorg", chain=task.chain, plugin=task.plugin, depth=len(orphans),
                         from_block=orphans[-1].number, is_deeper=base is not None and self._has_older),
        )  # fmt: skip
        for i, orphan in enumerate(orphans):
            assert self._cursor is not None  # it has begun
            assert self._cursor.tip == orphan
            rows = await self._store.fetch(calls.standing(task.plugin, task.source, orphan.hash))
            retracted = [calls.from_row(row) for row in rows]
            while True:
                room = min(await self._wait_for_room(), MAX_GROUP) if retracted else MAX_GROUP
                if not self.is_wanted:
                    return
                group, retracted = retracted[:room], retracted[room:]
                new_calls = [build_retraction(self.task, call, self._terms) for call in group]
                if retracted:
                    await self._router.submit(new_calls)
                    continue
                cursor = chain_cursor.taken_back(self._cursor, base if i == len(orphans) - 1 else None)
                if new_calls or i == len(orphans) - 1:
                    await self._commit(new_calls, cursor)
                self._cursor = cursor
                break

    @property
    def _terms(self) -> Moment:
        return Moment(now=self._clock.now(), call_deadline=self.call_deadline)

    @property
    def _has_older(self) -> bool:
        assert self._cursor is not None  # it has begun
        return self._cursor.trail[0].number > self._cursor.start

    async def _wait_for_room(self) -> int:
        """How many calls the plugin takes now: at least one, unless it is not wanted any more."""
        delay_s, longest_s = FULL_EVERY_S
        try:
            while not (room := self._router.room(self.task.plugin, (self.task.trigger.job,))) and self.is_wanted:
                self._is_held = True
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 1.5, longest_s)
        finally:
            self._is_held = False
        return room

    async def _commit(self, new_calls: Sequence[NewCall], cursor: Cursor) -> None:
        await self._router.submit(new_calls, self._move(cursor))
        self._stored = cursor.tip.number

    def _move(self, cursor: Cursor) -> Statement:
        return positions.move(self.task.producer, self.task.key, chain_cursor.encode(cursor), self._clock.now())

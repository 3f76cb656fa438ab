"""The newest block one node knows. Polls on its own in `run`; anybody may `fetch` in between and shares the request.

Says nothing of finality, and what it says may go back: after a reorg, or behind a load balancer, the next answer can be
an older block. Of several nodes of a chain each has its own; `pool.head` speaks for all of them.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

from runnerd.chain.errors import ChainError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.rpc import NodeCalls
from runnerd.chain.types import Block, decode_block
from runnerd.log import fields

logger = logging.getLogger(__name__)

NEWEST_BLOCK: Final[Request] = ("eth_getBlockByNumber", ["latest", False])
MAX_BACKOFF_S = 30.0


class Head:
    """Latest block of one node. Use from one event loop."""

    def __init__(
        self,
        rpc: NodeCalls,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_block: Callable[[], None] | None = None,
    ) -> None:
        """`sleep` is the pause between polls, and may end early; `on_block` is told whenever `latest` is named anew."""
        self.latest: Block | None = None
        """What the node said last; None until the first answer. It is as old as the last poll."""
        self.problem: str | None = None
        """Why `run` cannot ask the node now, or None."""
        self._fetched_at = -math.inf
        self._rpc = rpc
        self._sleep = sleep
        self._on_block = on_block
        self._in_flight: asyncio.Future[Block | None] | None = None
        self._waiting: dict[asyncio.Future[Block], int] = {}

    async def fetch(self) -> Block:
        """The latest block, asked now; concurrent callers share one request. Raises RpcUnavailable or RpcRefused."""
        while self._in_flight is not None:
            # None: the caller who asked was cancelled. One of those who waited asks again.
            shared = await asyncio.shield(self._in_flight)
            if shared is not None:
                return shared
        known = self.latest
        flight: asyncio.Future[Block | None] = asyncio.get_running_loop().create_future()
        self._in_flight = flight
        block: Block | None = None
        try:
            block = decode_block(await self._rpc.call(*NEWEST_BLOCK))
        except ChainError as error:
            flight.set_exception(error)
            flight.exception()  # marks it as seen: there may be nobody else
            raise
        finally:
            self._in_flight = None
            if not flight.done():
                flight.set_result(block)
        if self.latest is known or self.latest is None or block.number >= self.latest.number:
            self._publish(block)  # else a later one was announced while this was on its way
        return block

    def announce(self, block: Block) -> bool:
        """Take a block that the node announced by itself, if it is above what is known. Whether it was taken.

        What replaces known blocks is asked for: an announcement may be late. So is one that lacks what others had.
        """
        latest = self.latest
        if latest is None or block.number <= latest.number or not block.parent_hash:
            return False
        if (block.base_fee_wei is None) != (latest.base_fee_wei is None):
            return False
        self._publish(block)
        return True

    def note(self, answer: JsonValue | RpcRefused, known: Block) -> Block:
        """Take the answer to a NEWEST_BLOCK that somebody asked along with other things, when `known` was the latest.

        If another answer came meanwhile, this one may be the older of the two and moves nothing. Raises RpcRefused.
        """
        if isinstance(answer, RpcRefused):
            raise answer
        block = decode_block(answer)
        if self.latest is known:
            self._publish(block)
        return block

    def recent(self, fresh_s: float) -> Block | None:
        """The latest block, if the node named it within the last `fresh_s` seconds."""
        return self.latest if time.monotonic() - self._fetched_at < fresh_s else None

    async def wait_beyond(self, number: int, timeout_s: float) -> Block | None:
        """A block above `number`, as soon as some `fetch` or `run` has seen one; None when none came in time."""
        if self.latest is not None and self.latest.number > number:
            return self.latest
        seen: asyncio.Future[Block] = asyncio.get_running_loop().create_future()
        self._waiting[seen] = number
        try:
            async with asyncio.timeout(timeout_s):
                return await seen
        except TimeoutError:
            return None
        finally:
            del self._waiting[seen]

    async def run(self, poll_s: float) -> None:
        """Ask every `poll_s` seconds until cancelled; after failures less often, up to every 30 s."""
        failures = 0
        while True:
            delay_s = poll_s
            try:
                await self.fetch()
            except ChainError as error:
                failures += 1
                self.problem = str(error)
                delay_s = max(poll_s, min(poll_s * 2.0 ** min(failures, 20), MAX_BACKOFF_S))
                logger.warning(
                    "cannot fetch the latest block (%d in a row, next try in %.1f s): %s",
                    failures,
                    delay_s,
                    error,
                    extra=fields("head_fetch_failed", failures=failures, delay_s=delay_s),
                )
            else:
                if failures:
                    logger.info("the node answers again", extra=fields("head_fetch_recovered", failures=failures))
                failures = 0
                self.problem = None
            await self._sleep(delay_s)

    def _publish(self, block: Block) -> None:
        previous, self.latest, self._fetched_at = self.latest, block, time.monotonic()
        if previous is not None and block.number < previous.number:
            logger.info(
                "the node's head went back from block %d to %d",
                previous.number,
                block.number,
                extra=fields("head_went_back", block_number=block.number, previous=previous.number),
            )
        for seen, number in self._waiting.items():
            if block.number > number and not seen.done():
                seen.set_result(block)
        if self._on_block is not None:
            self._on_block()

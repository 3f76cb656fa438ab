"""Hands stored bytes to the nodes of a chain, and records what they said. Concludes nothing from an error.

Which bytes, and whether they may go out, others have decided; by which route they go is read off the intent.
"""

import asyncio
import logging
from collections.abc import Sequence

from runnerd.chain.errors import ChainError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.types import decode_hash
from runnerd.executor.intent import ENDED, Accepted, Attempt, is_public
from runnerd.executor.tracked import Book, Tracked
from runnerd.log import fields
from runnerd.network import Network
from runnerd.services.metrics import Metrics
from runnerd.store import intents

logger = logging.getLogger("runnerd.executor")

_KNOWN = ("already known", "already imported", "known transaction", "already in mempool")
MAX_ERROR = 500


class Broadcaster:
    """One per wallet and chain. The bytes may be out whatever a node answers."""

    def __init__(self, network: Network, book: Book, metrics: Metrics) -> None:
        self._network = network
        self._book = book
        self._metrics = metrics

    async def send(self, *outgoing: tuple[Tracked, Attempt]) -> None:
        """Send these, in one round trip where they may all go to every node. Raises StoreError."""
        latest = self._network.head.latest
        head, rules = latest.number if latest is not None else 0, self._network.rules
        public = [one for one in outgoing if is_public(one[0].intent, head, rules)]
        private = [one for one in outgoing if one not in public]
        answers = [self._send_publicly(public)] if public else []
        await asyncio.gather(*answers, *(self._send_privately(*one) for one in private))

    async def _send_publicly(self, outgoing: Sequence[tuple[Tracked, Attempt]]) -> None:
        try:
            answers = await self._network.broadcast([attempt.raw for _, attempt in outgoing])
        except ChainError as error:
            for tracked, attempt in outgoing:
                await self._unclear(tracked, attempt, error)
            return
        accepted = []
        for (tracked, attempt), answer in zip(outgoing, answers, strict=True):
            if await self._is_taken(tracked, attempt, answer):
                accepted.append((tracked, attempt))
        await self._accepted(accepted)

    async def _send_privately(self, tracked: Tracked, attempt: Attempt) -> None:
        try:
            answer: JsonValue | RpcRefused = await self._network.send_privately(attempt.raw)
        except RpcRefused as refused:
            answer = refused
        except ChainError as error:
            await self._unclear(tracked, attempt, error)
            return
        if await self._is_taken(tracked, attempt, answer):
            await self._accepted([(tracked, attempt)])

    async def _is_taken(self, tracked: Tracked, attempt: Attempt, answer: JsonValue | RpcRefused) -> bool:
        if isinstance(answer, RpcRefused):
            if any(word in answer.message.lower() for word in _KNOWN):
                return True
            await self._unclear(tracked, attempt, answer)
            return False
        try:
            named = decode_hash(answer, "eth_sendRawTransaction")
        except ChainError as error:
            await self._unclear(tracked, attempt, error)
            return False
        if named != attempt.hash:
            logger.error("the node answers with another hash", extra=fields("node_lies", tx=attempt.hash, answer=named))
        return named == attempt.hash

    async def _accepted(self, taken: Sequence[tuple[Tracked, Attempt]]) -> None:
        if not taken:
            return
        hashes = [attempt.hash for _, attempt in taken]
        await self._book.store.commit(intents.accepted(hashes, self._book.clock.now()))
        for tracked, attempt in taken:
            self._metrics.accepted(tracked.intent.plugin)
            known = {known.hash for known in tracked.intent.attempts}
            if tracked.intent.state not in ENDED and attempt.hash in known:  # it may have ended, or died, meanwhile
                tracked.note(Accepted(attempt.hash), self._network.rules)

    async def _unclear(self, tracked: Tracked, attempt: Attempt, error: ChainError) -> None:
        logger.warning(
            "broadcast is unclear: %s", error,
            extra=fields("broadcast_unclear", call=tracked.intent.call_id, tx=attempt.hash),
        )  # fmt: skip
        await self._book.store.commit(intents.send_error(attempt.hash, str(error)[:MAX_ERROR]))

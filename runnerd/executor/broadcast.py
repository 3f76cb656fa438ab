"""Hands stored bytes to the nodes of a chain, and records what they said. Concludes nothing from an error.

Which bytes, and whether they may go out, others have decided; by which route they go is read off the intent.
"""

import asyncio
import logging
from collections.abc import Sequence

from runnerd.chain.errors import ChainError, RpcMalformed, RpcRefused
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
METHOD = "eth_sendRawTransaction"


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
        public = [one for one in outgoing if is_public(one[0].intent, one[1], head, rules)]
        private = [one for one in outgoing if one not in public]
        answers = [self._send_publicly(public)] if public else []
        await asyncio.gather(*answers, *(self._send_privately(*one) for one in private))

    async def _send_publicly(self, outgoing: Sequence[tuple[Tracked, Attempt]]) -> None:
        """To all nodes at once. Each node's answer counts as it comes: a dead one does not hold up a good one's."""
        waiting = list(outgoing)
        errors: dict[str, ChainError] = {}
        async for _, said in await self._network.broadcast([attempt.raw for _, attempt in outgoing]):
            answers = [said] * len(outgoing) if isinstance(said, ChainError) else said
            taken = []
            for one, answer in zip(outgoing, answers, strict=True):
                error = _find_error(one[1], answer)
                if error is not None:
                    errors[one[1].hash] = error
                elif one in waiting:
                    taken.append(one)
                    waiting.remove(one)
            await self._accepted(taken)
            if not waiting:
                return
        for tracked, attempt in waiting:
            await self._unclear(tracked, attempt, errors[attempt.hash])

    async def _send_privately(self, tracked: Tracked, attempt: Attempt) -> None:
        try:
            error = _find_error(attempt, await self._network.send_privately(attempt.raw))
        except ChainError as raised:
            error = _find_error(attempt, raised)
        if error is not None:
            await self._unclear(tracked, attempt, error)
        else:
            await self._accepted([(tracked, attempt)])

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


def _find_error(attempt: Attempt, answer: JsonValue | ChainError) -> ChainError | None:
    """What is wrong with a node's answer to these bytes; None if it says that it has them."""
    if isinstance(answer, RpcRefused) and any(word in answer.message.lower() for word in _KNOWN):
        return None
    if isinstance(answer, ChainError):
        return answer
    try:
        named = decode_hash(answer, METHOD)
    except ChainError as error:
        return error
    if named == attempt.hash:
        return None
    logger.error("the node answers with another hash", extra=fields("node_lies", tx=attempt.hash, answer=named))
    return RpcMalformed(f"it names another hash: {named}", method=METHOD)

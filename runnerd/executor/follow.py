"""Follows the open intents of one chain, block by block, until each is final: receipts in, observations out.

Asks the node and applies `intent.observe`; what follows from it (send again, replace) the wallet's lane carries out.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeAlias

from runnerd.chain.errors import ChainError, RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.types import Receipt, decode_count, decode_receipt
from runnerd.executor.aftermath import Aftermath, Settled
from runnerd.executor.intent import Broadcast, Mined, NonceTaken, NotSeen, Observation, Replace
from runnerd.executor.lane import Lane
from runnerd.executor.tracked import Book, Tracked
from runnerd.log import fields
from runnerd.network import Network
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.executor")

MAX_BATCH = 100
LOOK_EVERY_POLLS = 10
"""How many polls without a higher block until the open intents are looked at all the same."""

Answer: TypeAlias = JsonValue | RpcRefused


class Follower:
    """One per chain. `lanes` are the chain's wallets by address."""

    def __init__(self, network: Network, lanes: dict[str, Lane], book: Book, aftermath: Aftermath) -> None:
        self._network = network
        self._lanes = lanes
        self._book = book
        self._aftermath = aftermath
        book.on_ended(aftermath.forget)
        self._tasks = Tasks()

    async def run(self) -> None:
        """Until cancelled: first send again what a former process left open, then look at every new block."""
        for tracked in self._book.of_chain(self._network.config.id):
            lane = self._lanes.get(tracked.intent.wallet)
            if lane is not None:
                await self._guarded(tracked, lane.broadcast(tracked, tracked.intent.latest))
            else:
                logger.warning(
                    "intent %d is only watched: wallet %s is no operator here any more", tracked.intent.call_id,
                    tracked.intent.wallet, extra=fields("intent_without_wallet", call=tracked.intent.call_id),
                )  # fmt: skip
        head, poll_s = self._network.head, self._network.config.poll_s
        seen = -1
        while True:
            # Looks when no higher block comes as well: a head that was named once and too high must not blind us.
            block = await head.wait_beyond(seen, poll_s * LOOK_EVERY_POLLS) or head.latest
            if block is None:
                continue
            try:
                await self._look(block.number)
                seen = block.number
                continue
            except ChainError as error:
                logger.warning("receipts are not to be had: %s", error, extra=fields("receipts_unavailable"))
            except Exception:  # a defect of ours, or of this node's: it must not end the watch over this chain
                logger.exception("receipts cannot be looked at", extra=fields("receipts_failed"))
            await asyncio.sleep(poll_s)

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.cancel()

    async def _look(self, head: int) -> None:
        open_intents = self._book.of_chain(self._network.config.id)
        for start in range(0, len(open_intents), MAX_BATCH):
            await self._look_at(open_intents[start : start + MAX_BATCH], head)

    async def _look_at(self, group: list[Tracked], head: int) -> None:
        wallets = sorted({tracked.intent.wallet for tracked in group})
        requests: list[Request] = [("eth_getTransactionCount", [wallet, "latest"]) for wallet in wallets]
        hashes = [[attempt.hash for attempt in tracked.intent.attempts] for tracked in group]
        requests += [("eth_getTransactionReceipt", [tx_hash]) for per_intent in hashes for tx_hash in per_intent]
        answers = await self._network.rpc.batch(requests)
        nonces = dict(zip(wallets, answers, strict=False))
        receipts = iter(answers[len(wallets) :])
        for tracked, per_intent in zip(group, hashes, strict=True):
            found = [next(receipts) for _ in per_intent]
            await self._guarded(tracked, self._apply(tracked, per_intent, found, nonces[tracked.intent.wallet], head))

    async def _guarded(self, tracked: Tracked, work: Coroutine[Any, Any, None]) -> None:
        """One intent that cannot be looked at, or not be stored, must not keep the others from their ends."""
        try:
            await work
        except ChainError as error:
            logger.warning(
                "no receipt to be had: %s", error, extra=fields("receipt_unavailable", call=tracked.intent.call_id)
            )
        except Exception:
            logger.exception(
                "intent %d cannot be followed", tracked.intent.call_id,
                extra=fields("follow_failed", call=tracked.intent.call_id, plugin=tracked.intent.plugin),
            )  # fmt: skip

    async def _apply(self, tracked: Tracked, hashes: list[str], found: list[Answer], nonce: Answer, head: int) -> None:
        next_nonce = decode_count(_result(nonce), "eth_getTransactionCount")
        observation = _observation(tracked, list(map(_receipt, hashes, found)), next_nonce, head)
        lane = self._lanes.get(tracked.intent.wallet)
        settled = Settled()
        if isinstance(observation, Mined):
            answer = _result(found[hashes.index(observation.hash)])
            looked = await self._aftermath.settle(tracked.intent, observation, self._network.patience, answer)
            if looked is None:
                return
            settled = looked
        effects = await tracked.see(observation, self._network.patience, *settled.statements, note=settled.note)
        for effect in effects if lane is not None else ():
            assert lane is not None
            match effect:
                case Broadcast(attempt):
                    self._tasks.spawn(lane.broadcast(tracked, attempt), f"broadcast:{tracked.intent.call_id}")
                case Replace() if not tracked.is_replacing:
                    self._tasks.spawn(self._replace(lane, tracked), f"replace:{tracked.intent.call_id}")

    async def _replace(self, lane: Lane, tracked: Tracked) -> None:
        tracked.is_replacing = True
        try:
            await lane.replace(tracked)
        finally:
            tracked.is_replacing = False


def _observation(tracked: Tracked, receipts: list[Receipt | None], next_nonce: int, head: int) -> Observation:
    for receipt in receipts:
        if receipt is not None:
            return Mined(
                hash=receipt.transaction_hash,
                block=receipt.block_number,
                block_hash=receipt.block_hash,
                is_success=receipt.status == 1,
                head=max(head, receipt.block_number),
                gas_used=receipt.gas_used,
                effective_gas_price_wei=receipt.effective_gas_price_wei,
            )
    # Only a nonce that this very node counts as used, in the same batch, says more than "not seen".
    if tracked.intent.nonce is not None and next_nonce > tracked.intent.nonce:
        return NonceTaken(head)
    return NotSeen(head)


def _receipt(tx_hash: str, answer: Answer) -> Receipt | None:
    receipt = decode_receipt(_result(answer))
    if receipt is not None and receipt.transaction_hash != tx_hash:
        raise RpcMalformed(f"the receipt of {receipt.transaction_hash}, asked for {tx_hash}")
    return receipt


def _result(answer: Answer) -> JsonValue:
    if isinstance(answer, RpcRefused):
        raise answer
    return answer

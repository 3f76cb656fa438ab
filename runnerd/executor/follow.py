"""Follows the open intents of one chain, block by block, until each is final: receipts in, observations out.

Asks the node and applies `intent.observe`; what follows from it is carried out by `push`, `lane` and `audit`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, assert_never

from runnerd.chain.errors import ChainError, RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.types import Receipt, decode_count, decode_receipt
from runnerd.executor.aftermath import Aftermath
from runnerd.executor.auditor import Auditor
from runnerd.executor.observation import (
    Broadcast,
    Cancel,
    Effect,
    Finish,
    Investigate,
    Mined,
    NonceTaken,
    NotSeen,
    Observation,
    Prove,
    Push,
    Replan,
    Stale,
)
from runnerd.executor.push import Pusher
from runnerd.executor.tracked import Book, Tracked
from runnerd.executor.wanted import Cancellation, IntentState
from runnerd.log import fields
from runnerd.network import Network
from runnerd.store.errors import StoreError
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.executor")

MAX_BATCH = 100
"""Requests in one round trip: what public providers allow."""
LOOK_EVERY_POLLS = 10
"""How many polls without a higher block until the open intents are looked at all the same."""

Answer: TypeAlias = JsonValue | RpcRefused


class Follower:
    """One per chain. `pushers` are those of the chain's wallets, by address; `replan` is the executor's."""

    def __init__(
        self,
        network: Network,
        pushers: Mapping[str, Pusher],
        book: Book,
        auditor: Auditor,
        aftermath: Aftermath,
        replan: Callable[[Tracked], Coroutine[Any, Any, None]],
    ) -> None:
        self._network = network
        self._pushers = pushers
        self._book = book
        self._auditor = auditor
        self._aftermath = aftermath
        self._replan = replan
        book.on_ended(aftermath.forget)
        self._tasks = Tasks()

    async def run(self) -> None:
        """Until cancelled: look at once, for what a former process left open, and then at every new block."""
        for tracked in self._book.of_chain(self._network.config.id):
            if tracked.intent.wallet not in self._pushers:
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

    def withdraw(self, tracked: Tracked, reason: str) -> None:
        """Cancel a signed intent for `reason` at once, or else at the next blocks: until its no-op is signed."""
        tracked.withdrawn = reason
        self._tasks.spawn(self._cancel_now(tracked), f"withdraw:{tracked.intent.call_id}")

    async def _cancel_now(self, tracked: Tracked) -> None:
        effects = await self._or_cancel(tracked, ())
        await self._carry_out([(tracked, effect) for effect in effects])

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.cancel()

    async def _look(self, head: int) -> None:
        finalized = await self._network.fetch_finalized() if self._network.rules.is_final_by_tag else None
        open_intents = self._book.of_chain(self._network.config.id)
        for group in _batches(open_intents):
            await self._look_at(group, head, finalized)
        await self._carry_out(await self._auditor.look(head))

    async def _look_at(self, group: list[Tracked], head: int, finalized: int | None) -> None:
        wallets = sorted({tracked.intent.wallet for tracked in group})
        requests: list[Request] = [("eth_getTransactionCount", [wallet, "latest"]) for wallet in wallets]
        hashes = [[attempt.hash for attempt in tracked.intent.attempts] for tracked in group]
        requests += [("eth_getTransactionReceipt", [tx_hash]) for per_intent in hashes for tx_hash in per_intent]
        answers = await self._network.rpc.batch(requests)
        nonces = dict(zip(wallets, answers, strict=False))
        receipts = iter(answers[len(wallets) :])
        wanted: list[tuple[Tracked, Effect]] = []
        for tracked, per_intent in zip(group, hashes, strict=True):
            found = [next(receipts) for _ in per_intent]
            nonce = nonces[tracked.intent.wallet]
            await self._guarded(tracked, self._apply(tracked, per_intent, found, nonce, head, finalized, wanted))
        deep = [tracked for tracked, effect in wanted if effect == Prove()]
        await asyncio.gather(*(self._guarded(each, self._prove(each, head, finalized)) for each in deep))
        await self._carry_out(wanted)

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

    async def _apply(
        self, tracked: Tracked, hashes: list[str], found: list[Answer], nonce: Answer, head: int, finalized: int | None,
        wanted: list[tuple[Tracked, Effect]],
    ) -> None:  # fmt: skip
        next_nonce = decode_count(_result(nonce), "eth_getTransactionCount")
        receipts = list(map(_receipt, hashes, found))
        if hashes != [attempt.hash for attempt in tracked.intent.attempts]:
            return  # signed again, or dead, since we asked: the next look asks about all of it
        tracked.take_turn(head, is_lowest=tracked.intent.nonce is not None and tracked.intent.nonce <= next_nonce)
        # One node's word is enough to wait for more, not to end anything: see `Prove`.
        is_agreed = self._network.config.needed_nodes == 1
        for receipt, answer in zip(receipts, found, strict=True):
            if receipt is not None:
                mined = _mined(receipt, head, finalized, is_agreed=is_agreed)
                effects = await self._see_mined(tracked, mined, answer)
                break
        else:
            effects = await tracked.see(_absence(tracked, next_nonce, head), self._network.rules)
        wanted += [(tracked, effect) for effect in await self._or_cancel(tracked, effects)]

    async def _or_cancel(self, tracked: Tracked, effects: Sequence[Effect]) -> Sequence[Effect]:
        """What an operator took back is not pushed: in place of `effects` its no-op, while that is not signed."""
        is_asked = any(isinstance(effect, Cancel) for effect in effects)
        if tracked.withdrawn is None or is_asked or not tracked.intent.attempts:
            return effects
        asked = Stale(Cancellation(IntentState.CANCELLED, tracked.withdrawn))
        return await tracked.see(asked, self._network.rules) or effects

    async def _prove(self, tracked: Tracked, head: int, finalized: int | None) -> None:
        """Ask a quorum for the receipt. Raises NoQuorum: then it stays included, and the next block asks again."""
        seen = tracked.seen
        if seen is None:
            return
        requests = [("eth_getTransactionReceipt", [seen.hash])]
        (answer,) = await self._network.agreed_when_final(seen.block, requests)
        receipt = _receipt(seen.hash, answer)
        if receipt is not None and receipt.block_hash == seen.block_hash:
            await self._see_mined(tracked, _mined(receipt, head, finalized, is_agreed=True), answer)

    async def _see_mined(self, tracked: Tracked, mined: Mined, answer: Answer) -> tuple[Effect, ...]:
        """Together with what it did against what was expected of it. Not yet, if that keeps the intent from its end.

        `answer` is the receipt of which `mined` was made.
        """
        rules = self._network.rules
        settled = await self._aftermath.settle(tracked.intent, mined, rules, _result(answer))
        if settled is None:
            return ()
        try:
            return await tracked.see(mined, rules, *settled.statements, note=settled.note)
        except StoreError:
            self._aftermath.forget(tracked.intent)  # a pause of it is not stored: judged anew by the next look
            raise

    async def _carry_out(self, wanted: Sequence[tuple[Tracked, Effect]]) -> None:
        pushes: dict[str, list[tuple[Tracked, Push]]] = {}
        for tracked, effect in wanted:
            call_id = tracked.intent.call_id
            pusher = self._pushers.get(tracked.intent.wallet)
            if isinstance(effect, Replan):
                self._tasks.spawn(self._replan(tracked), f"replan:{call_id}")
                continue
            if pusher is None:
                continue  # only watched
            match effect:
                case Push():
                    pushes.setdefault(tracked.intent.wallet, []).append((tracked, effect))
                case Cancel(cancellation):
                    self._tasks.spawn(pusher.cancel(tracked, cancellation), f"cancel:{call_id}")
                case Investigate():
                    self._auditor.suspect(tracked)
                case Prove() | Finish() | Broadcast():
                    pass  # proved above; finished by `see`; broadcast by who signed
                case _:
                    assert_never(effect)
        for wallet, group in pushes.items():
            self._tasks.spawn(self._pushers[wallet].push(group), f"push:{wallet}")


def _batches(intents: Sequence[Tracked]) -> Iterator[list[Tracked]]:
    """At most MAX_BATCH requests each, unless one intent alone has more: its nonce and receipts are asked together."""
    group: list[Tracked] = []
    size = 0
    for tracked in intents:
        wanted = 1 + len(tracked.intent.attempts)
        if group and size + wanted > MAX_BATCH:
            yield group
            group, size = [], 0
        group.append(tracked)
        size += wanted
    if group:
        yield group


def _absence(tracked: Tracked, next_nonce: int, head: int) -> Observation:
    # Only a nonce that this very node counts as used, in the same batch, says more than "not seen".
    if tracked.intent.nonce is not None and next_nonce > tracked.intent.nonce:
        return NonceTaken(head)
    return NotSeen(head, tracked.in_turn_since)


def _mined(receipt: Receipt, head: int, finalized: int | None, *, is_agreed: bool) -> Mined:
    return Mined(
        hash=receipt.transaction_hash,
        block=receipt.block_number,
        block_hash=receipt.block_hash,
        is_success=receipt.status == 1,
        head=max(head, receipt.block_number),
        gas_used=receipt.gas_used,
        effective_gas_price_wei=receipt.effective_gas_price_wei,
        finalized=finalized,
        is_agreed=is_agreed,
    )


def _receipt(tx_hash: str, answer: Answer) -> Receipt | None:
    receipt = decode_receipt(_result(answer))
    if receipt is not None and receipt.transaction_hash != tx_hash:
        raise RpcMalformed(f"the receipt of {receipt.transaction_hash}, asked for {tx_hash}")
    return receipt


def _result(answer: Answer) -> JsonValue:
    if isinstance(answer, RpcRefused):
        raise answer
    return answer

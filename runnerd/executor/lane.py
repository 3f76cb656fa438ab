"""The one writer of a wallet on a chain: simulate → nonce → sign → store → broadcast, one intent at a time.

Nonces are gapless because one is allotted only in the commit that stores the bytes signed with it. Everything after
the first broadcast is watched by `follow`.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TypeAlias

from runnerd.chain.abi import AbiFunction
from runnerd.chain.errors import ChainError, FeeCapTooLow, RpcRefused, RpcUnavailable
from runnerd.chain.fees import bump
from runnerd.chain.types import decode_hash
from runnerd.executor.attempt import FRESH_S, prepare, sign_attempt
from runnerd.executor.effect_checks import EffectChecks
from runnerd.executor.expectations import ExpectationBroken, Result
from runnerd.executor.intent import (
    ENDED,
    Accepted,
    Attempt,
    Broadcast,
    Effect,
    Intent,
    IntentState,
    Signed,
    SimulationReverted,
)
from runnerd.executor.tracked import Book, Ready, Rehearsal, Tracked
from runnerd.log import fields
from runnerd.network import Network
from runnerd.pauses import Pauses
from runnerd.services.metrics import Metrics
from runnerd.store import intents
from runnerd.store.calls import JobOutcome
from runnerd.store.errors import CommitRefused, StoreError
from runnerd.wallets.errors import WalletError
from runnerd.wallets.signer import Signer

logger = logging.getLogger("runnerd.executor")

MAX_IN_FLIGHT = 16
RETRY_S = 0.5
TOO_LATE = "its deadline passed before it could be signed"
_KNOWN = ("already known", "already imported", "known transaction", "already in mempool")

Effects: TypeAlias = tuple[Effect, ...]


class Lane:
    """Serves the intents of one wallet, oldest first; one that cannot be judged now lets the others pass.

    `next_nonce` is the ledger's.
    """

    def __init__(
        self,
        network: Network,
        signer: Signer,
        next_nonce: int,
        errors: tuple[AbiFunction, ...],
        book: Book,
        pauses: Pauses,
        metrics: Metrics,
        checks: EffectChecks,
    ) -> None:
        self.network = network
        self.signer = signer
        self.next_nonce = next_nonce
        self.problem: str | None = None
        """Why this lane signs nothing any more, or None."""
        self._errors = errors
        self._book = book
        self._pauses = pauses
        self._metrics = metrics
        self._checks = checks
        self._waiting: deque[Tracked] = deque()
        self._wake = asyncio.Event()
        book.on_ended(lambda _: self._wake.set())

    def put(self, tracked: Tracked) -> None:
        """Take a planned intent that stands in the ledger."""
        self._waiting.append(tracked)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Planned intents that have no nonce yet."""
        return len(self._waiting)

    async def run(self) -> None:
        """Until cancelled.

        If the ledger refuses a commit its picture of the wallet is not ours: the lane stops, and says so in `problem`.
        """
        try:
            await self._run()
        except StoreError as error:
            self.problem = f"the ledger refused to store a signed transaction: {error}"
            logger.critical(
                "wallet %s signs nothing any more: %s", self.signer.address, error,
                extra=fields("lane_stopped", wallet=self.signer.address, chain=self.network.name),
            )  # fmt: skip
            if isinstance(error, CommitRefused):
                await self._refuse_all(self.problem)

    async def _refuse_all(self, reason: str) -> None:
        """Nothing is signed any more: whoever asks is told so, instead of waiting for ever."""
        while True:
            while self._waiting:
                tracked = self._waiting.popleft()
                try:
                    await self._book.give_up(tracked, JobOutcome.FAILED, f"not signed: {reason}")
                except StoreError as error:  # it stays planned, for the next start; the others need their ends
                    logger.error(
                        "intent %d cannot be ended: %s", tracked.intent.call_id, error,
                        extra=fields("intent_not_ended", call=tracked.intent.call_id, plugin=tracked.intent.plugin),
                    )  # fmt: skip
            self._wake.clear()
            await self._wake.wait()

    async def _run(self) -> None:
        failed_in_a_row = 0
        while True:
            while self._waiting and not self._is_flight_full:
                tracked = self._waiting[0]
                effects = await self._serve(tracked)
                if effects is None:
                    # No nonce is allotted yet, so the order is free: one intent must not hold up those behind it.
                    self._waiting.rotate(-1)
                    failed_in_a_row += 1
                    if failed_in_a_row >= len(self._waiting):
                        failed_in_a_row = 0
                        await asyncio.sleep(RETRY_S)
                else:
                    failed_in_a_row = 0
                    self._waiting.popleft()  # before `_send`, which may raise: what was signed is not given up any more
                    await self._send(tracked, effects)
            self._wake.clear()
            if not self._waiting:
                await self._wake.wait()
            elif self._is_flight_full:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), RETRY_S)
                await self._expire_waiting()

    @property
    def _is_flight_full(self) -> bool:
        return self._book.in_flight(self.network.config.id, self.signer.address) >= MAX_IN_FLIGHT

    async def _expire_waiting(self) -> None:
        """What waits behind a full flight must not wait beyond its deadline."""
        now = self._book.clock.now()
        for tracked in [tracked for tracked in self._waiting if tracked.call.deadline_at <= now]:
            self._waiting.remove(tracked)
            await self._book.give_up(tracked, JobOutcome.EXPIRED, TOO_LATE)

    async def _was_stopped(self, tracked: Tracked) -> bool:
        """Whether it must not be signed any more, by its deadline or a pause; then it has ended here."""
        if self._book.clock.now() >= tracked.call.deadline_at:
            await self._book.give_up(tracked, JobOutcome.EXPIRED, TOO_LATE)
            return True
        pause = self._pauses.of(tracked.intent.plugin, tracked.intent.vault)
        if pause is not None:
            await self._book.give_up(tracked, JobOutcome.DENIED, f"not signed: {pause}")
            return True
        return False

    async def _serve(self, tracked: Tracked) -> Effects | None:
        """What is to be done for an intent that leaves the queue: signed, denied or expired. None: it waits."""
        if await self._was_stopped(tracked):
            return ()
        try:
            ready = self._rehearsed(tracked) or await self._prepare(tracked.intent)
        except (RpcUnavailable, RpcRefused, FeeCapTooLow) as error:
            logger.warning(
                "intent %d cannot be simulated now: %s", tracked.intent.call_id, error,
                extra=fields("intent_waits", call=tracked.intent.call_id, plugin=tracked.intent.plugin),
            )  # fmt: skip
            return None
        if isinstance(ready, SimulationReverted):
            await tracked.see(ready, self.network.patience)
            return ()
        if isinstance(ready, ExpectationBroken):
            self._metrics.expected(tracked.intent.plugin, Result.DENIED)
            await self._book.give_up(tracked, JobOutcome.DENIED, ready.reason)
            return ()
        # The node may have taken seconds, and an operator who was told "paused" meanwhile must be able to rely on it.
        if await self._was_stopped(tracked):
            return ()
        nonce = self.next_nonce
        try:
            attempt = sign_attempt(self.signer, tracked.intent, nonce, ready)
        except WalletError as error:
            await self._book.give_up(tracked, JobOutcome.FAILED, f"not signed: {error}")
            return ()
        at = self._book.clock.now()
        # Stored, durably, before anyone can see the bytes. If this raises nothing was given away.
        await self._book.store.commit(intents.allot_nonce(tracked.intent, nonce, attempt, at))
        self.next_nonce = nonce + 1
        return tracked.note(Signed(nonce, attempt), self.network.patience)

    async def _send(self, tracked: Tracked, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Broadcast):
                await self.broadcast(tracked, effect.attempt)

    async def rehearse(self, intent: Intent) -> Rehearsal | None:
        """Simulate while the Decision is being committed. None when the node cannot say. Never raises."""
        try:
            outcome = await self._prepare(intent)
        except ChainError:
            return None
        except Exception:  # it is only an attempt to save time; its asker is in the middle of a commit
            logger.exception("no rehearsal", extra=fields("rehearsal_failed", call=intent.call_id))
            return None
        return Rehearsal(outcome, self._book.clock.monotonic())

    def _rehearsed(self, tracked: Tracked) -> Ready | SimulationReverted | ExpectationBroken | None:
        rehearsal, tracked.rehearsal = tracked.rehearsal, None
        if rehearsal is None or self._book.clock.monotonic() - rehearsal.at > FRESH_S:
            return None
        return rehearsal.outcome

    async def _prepare(self, intent: Intent) -> Ready | SimulationReverted | ExpectationBroken:
        return await prepare(self.network, self.signer.address, intent, self._errors, self._checks)

    async def replace(self, tracked: Tracked) -> None:
        """Sign the intent again at its nonce, with fees that replace the last attempt, and send it."""
        intent = tracked.intent
        if self._is_paused(intent):
            return
        try:
            ready = await self._prepare(intent)
        except ChainError as error:
            logger.warning("no replacement now: %s", error, extra=fields("replacement_waits", call=intent.call_id))
            return
        if tracked.intent.state in (*ENDED, IntentState.INCLUDED):
            return  # it made it while we looked
        if self._is_paused(intent):  # meanwhile
            return
        if isinstance(ready, SimulationReverted | ExpectationBroken):
            logger.warning(
                "not replaced, it would fail now: %s", ready.reason,
                extra=fields("replacement_refused", call=intent.call_id, plugin=intent.plugin),
            )  # fmt: skip
            return
        fees = bump(intent.latest.fees, ready.fees, self.network.fees)
        if fees is None or intent.nonce is None:
            logger.warning(
                "not replaced, fees would be above max_fee_per_gas_wei",
                extra=fields("replacement_capped", call=intent.call_id, plugin=intent.plugin),
            )
            return
        attempt = sign_attempt(self.signer, intent, intent.nonce, Ready(ready.block, ready.gas_limit, fees))
        add = intents.add_attempt(intent.call_id, intent.nonce, attempt, self._book.clock.now())
        await self._book.store.commit(add)
        await self._send(tracked, tracked.note(Signed(intent.nonce, attempt), self.network.patience))

    def _is_paused(self, intent: Intent) -> bool:
        """Nothing new is signed then; what is out stays out."""
        return self._pauses.of(intent.plugin, intent.vault) is not None

    async def broadcast(self, tracked: Tracked, attempt: Attempt) -> None:
        """Hand the stored bytes to the node. The bytes may be out whatever it answers: an error concludes nothing."""
        method = "eth_sendRawTransaction"
        try:
            answer = decode_hash(await self.network.rpc.call(method, ["0x" + attempt.raw.hex()]), method)
        except (RpcRefused, RpcUnavailable) as error:
            is_known = isinstance(error, RpcRefused) and any(word in error.message.lower() for word in _KNOWN)
            if not is_known:
                logger.warning(
                    "broadcast is unclear: %s", error,
                    extra=fields("broadcast_unclear", call=tracked.intent.call_id, tx=attempt.hash),
                )  # fmt: skip
                await self._book.store.commit(intents.send_error(attempt.hash, str(error)[:500]))
                return
        else:
            if answer != attempt.hash:
                logger.error(
                    "the node answers with another hash", extra=fields("node_lies", tx=attempt.hash, answer=answer)
                )
                return
        self._metrics.accepted(tracked.intent.plugin)
        at = self._book.clock.now()
        if tracked.intent.state not in (IntentState.FINAL, IntentState.REVERTED):
            await tracked.see(
                Accepted(attempt.hash),
                self.network.patience,
                intents.accepted(attempt.hash, at),
            )

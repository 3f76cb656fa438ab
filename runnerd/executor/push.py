"""Carries out what `intent` wants done about a signed transaction that waits: send it again, replace it, cancel it.

Before anything goes out a second time its batch is simulated again at head: what would revert or break an expectation
now, or is too late, is cancelled by a no-op at its nonce, never pushed.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from runnerd.chain.errors import ChainError
from runnerd.chain.fees import Fees, NoBump, bump, outbid
from runnerd.crash_points import reached
from runnerd.executor.attempt import Ready, check, prepare_noop, sign_attempt, sign_cancel
from runnerd.executor.lane import MAX_GROUP, Lane
from runnerd.executor.observation import Cancel, Effect, Push, Signed, SimulationReverted, Stale
from runnerd.executor.tracked import Book, Tracked
from runnerd.executor.wanted import Attempt, AttemptKind, Cancellation, Intent, IntentState
from runnerd.log import fields
from runnerd.pauses import Pauses
from runnerd.store import audit, intents
from runnerd.store.errors import CommitRefused
from runnerd.wallets.errors import WalletError

logger = logging.getLogger("runnerd.executor")

NO_SIMULATION = "it cannot be simulated now"
_WAITING = (IntentState.SIGNED, IntentState.SENT)


class Pusher:
    """One per lane."""

    def __init__(self, lane: Lane, book: Book, pauses: Pauses) -> None:
        self.lane = lane
        self._network = lane.network
        self._book = book
        self._pauses = pauses

    async def push(self, wanted: Sequence[tuple[Tracked, Push]]) -> None:
        """Simulate, then send again or replace. What somebody works on already is left to him. Raises StoreError."""
        for start in range(0, len(wanted), MAX_GROUP):
            group = [one for one in wanted[start : start + MAX_GROUP] if not one[0].is_busy]
            if not group:
                continue
            for tracked, _ in group:
                tracked.is_busy = True
            try:
                await self._push(group)
            finally:
                for tracked, _ in group:
                    tracked.is_busy = False

    async def cancel(self, tracked: Tracked, cancellation: Cancellation) -> None:
        """Sign a no-op at its nonce, and send it. Raises StoreError."""
        if tracked.is_busy:
            return  # the next block asks again
        tracked.is_busy = True
        try:
            await self._cancel(tracked, cancellation)
        finally:
            tracked.is_busy = False

    async def _push(self, group: list[tuple[Tracked, Push]]) -> None:
        batches = [one for one in group if one[0].intent.latest.kind is AttemptKind.BATCH]
        noops = [one for one in group if one[0].intent.latest.kind is AttemptKind.NOOP]
        # Only fees, and effects, need the whole simulation; for the same bytes it is enough that they would not revert.
        whole = [one for one in batches if one[1].is_due or one[0].intent.expect]
        outgoing = await self._simulated(whole)
        outgoing += await self._again([one for one in batches if one not in whole])
        if noops:
            try:
                ready, _ = await prepare_noop(self._network, self.lane.signer.address)
            except ChainError as error:  # a no-op needs no simulation: the same bytes go out, whatever fees are now
                _wait("no fees to be had", noops, error)
                outgoing += [(tracked, tracked.intent.latest) for tracked, _ in noops]
            else:
                for tracked, push in noops:
                    outgoing += await self._next_attempt(tracked, push, ready)
        await self.lane.broadcaster.send(*outgoing)

    async def _simulated(
        self, group: list[tuple[Tracked, Push]], *, must_differ: bool = False
    ) -> list[tuple[Tracked, Attempt]]:
        """What to send of batches that are to be replaced, or whose effects are to be looked at again.

        `must_differ`: what they have signed last would fail.
        """
        outgoing: list[tuple[Tracked, Attempt]] = []
        if not group:
            return outgoing
        try:
            prepared = await self.lane.prepare(_intents(group))
        except ChainError as error:  # it cannot be simulated, so it is not sent: the next block tries again
            _wait(NO_SIMULATION, group, error)
            return outgoing
        for (tracked, push), outcome in zip(group, prepared, strict=True):
            if isinstance(outcome, Ready):
                outgoing += await self._next_attempt(tracked, push, outcome, must_differ=must_differ)
            else:
                await self._hold_back(tracked, push, outcome)
        return outgoing

    async def _again(self, group: list[tuple[Tracked, Push]]) -> list[tuple[Tracked, Attempt]]:
        """What to send of batches whose same bytes go out again: neither fees nor an estimate are needed."""
        outgoing: list[tuple[Tracked, Attempt]] = []
        if not group:
            return outgoing
        try:
            checked = await check(self._network, self.lane.signer.address, _intents(group), self.lane.errors)
        except ChainError as error:
            _wait(NO_SIMULATION, group, error)
            return outgoing
        failing: list[tuple[Tracked, Push]] = []
        for (tracked, push), verdict in zip(group, checked, strict=True):
            if isinstance(verdict, SimulationReverted):
                failing.append((tracked, Push(is_due=True)))  # with more gas, which its state needs now, it may succeed
            elif verdict is not None:
                await self._hold_back(tracked, push, verdict)
            elif tracked.intent.state in _WAITING:  # else it made it while we looked
                outgoing.append((tracked, tracked.intent.latest))
        return outgoing + await self._simulated(failing, must_differ=True)

    async def _hold_back(self, tracked: Tracked, push: Push, outcome: SimulationReverted | ChainError) -> None:
        """It does not go out now: what would revert is cancelled, what could not be simulated waits."""
        if isinstance(outcome, ChainError):
            _wait(NO_SIMULATION, [(tracked, push)], outcome)
            return
        what = "revert"
        if outcome.is_refusal:
            what = "break an expectation" if outcome.is_breach else "need a right that a keeper must not use"
        reason = f"it would {what} at block {outcome.block}: {outcome.reason}"
        effects = await tracked.see(Stale(Cancellation(IntentState.EXPIRED, reason)), self._network.rules)
        await self._cancel_if_asked(tracked, effects)

    async def _cancel_if_asked(self, tracked: Tracked, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Cancel):
                await self._cancel(tracked, effect.cancellation)

    async def _next_attempt(
        self, tracked: Tracked, push: Push, ready: Ready, *, must_differ: bool = False
    ) -> list[tuple[Tracked, Attempt]]:
        """The attempt to send: a stored replacement if one is due and possible, else the latest again.

        `must_differ`: the latest would fail, so it is not sent, and no price is too high for its replacement but a cap.
        """
        intent = tracked.intent
        if intent.state not in _WAITING:
            return []  # it made it while we looked
        again = [] if must_differ else [(tracked, intent.latest)]
        if not push.is_due or (intent.cancellation is None and self._is_paused(intent)):
            return again
        market = replace(ready.market, high=None) if must_differ else ready.market
        fees = bump(intent.latest.fees, market, self.lane.fee_cap(intent, intent.latest.kind))
        if isinstance(fees, NoBump):
            logger.warning(
                "not replaced: %s", fees.value,
                extra=fields("replacement_refused", call=intent.call_id, plugin=intent.plugin),
            )  # fmt: skip
            return again
        try:
            attempt = await self._signed(tracked, ready, fees, intent.latest.kind, None)
        except CommitRefused as refused:  # it has ended meanwhile; the others of its group are sent all the same
            logger.warning("no new attempt: %s", refused, extra=fields("replacement_failed", call=intent.call_id))
            return []
        return [(tracked, attempt)] if attempt is not None else again

    async def _cancel(self, tracked: Tracked, cancellation: Cancellation) -> None:
        intent = tracked.intent
        if intent.state not in _WAITING or intent.cancellation is not None:
            return
        try:
            ready, used = await prepare_noop(self._network, intent.wallet)
        except ChainError as error:
            _wait("no fees to be had", [(tracked, Push(is_due=False))], error)
            return
        intent = tracked.intent
        if intent.state not in _WAITING or intent.nonce is None or used > intent.nonce:
            return  # it was included meanwhile, which is why it would revert now: the next look says so
        # However dear that was: beyond the cap by the least that is valid, for some 21,000 gas.
        fees = outbid(intent.latest.fees, ready.market, self.lane.fee_cap(intent, AttemptKind.NOOP))
        logger.warning(
            "intent %d is cancelled: %s", intent.call_id, cancellation.reason,
            extra=fields("intent_cancelled", call=intent.call_id, plugin=intent.plugin, nonce=intent.nonce),
        )  # fmt: skip
        attempt = await self._signed(tracked, ready, fees, AttemptKind.NOOP, cancellation)
        if attempt is not None:
            await self.lane.broadcaster.send((tracked, attempt))

    async def _signed(
        self, tracked: Tracked, ready: Ready, fees: Fees, kind: AttemptKind, cancellation: Cancellation | None
    ) -> Attempt | None:
        """A new attempt at the intent's nonce, stored; None if it cannot be signed now."""
        intent = tracked.intent
        assert intent.nonce is not None  # it was signed before
        gas_wei = ready.gas_limit * fees.max_fee_per_gas_wei
        objection = self._objection(intent, gas_wei) if kind is AttemptKind.BATCH else None
        if objection is not None:
            logger.warning("not replaced: %s", objection, extra=fields("replacement_refused", call=intent.call_id))
            return None
        reserved = self.lane.gas.reserve(intent, gas_wei)
        try:
            sign = sign_cancel if kind is AttemptKind.NOOP else sign_attempt
            attempt = await sign(self.lane.signer, intent, intent.nonce, ready, fees)
        except WalletError as error:
            logger.error("no new attempt: %s", error, extra=fields("replacement_failed", call=intent.call_id))
            return None
        if tracked.intent.state not in _WAITING:
            return None  # it made it while we signed
        now = self._book.clock.now()
        purpose = "cancel" if kind is AttemptKind.NOOP else "effect"
        trail = audit.append(audit.attempt(intent, intent.nonce, attempt, now, purpose))
        reached("replacement.signed")
        await self._book.store.commit(intents.add_attempt(intent, attempt, now, cancellation), trail, reserved)
        reached("replacement.stored")
        if cancellation is not None:
            reached("cancel.stored")
        if tracked.intent.nonce != intent.nonce:
            return None  # its nonce is dead meanwhile, and so is this attempt
        tracked.note(Signed(intent.nonce, attempt, cancellation), self._network.rules)
        return attempt

    def _objection(self, intent: Intent, gas_wei: int) -> str | None:
        """Why a replacement that may cost `gas_wei` must not be signed: the budget, or what is in the wallet."""
        latest = intent.latest
        more_wei = gas_wei - latest.gas_limit * latest.fees.max_fee_per_gas_wei  # it takes the place of the latest
        return self.lane.gas.check(intent, gas_wei) or self.lane.purse.objection(more_wei)

    def _is_paused(self, intent: Intent) -> bool:
        """Nothing new is signed then; what is out stays out."""
        return self._pauses.objection(intent.plugin, intent.vault, intent.actions) is not None


def _intents(group: Sequence[tuple[Tracked, Push]]) -> list[Intent]:
    return [tracked.intent for tracked, _ in group]


def _wait(why: str, group: Sequence[tuple[Tracked, Push]], error: ChainError) -> None:
    for tracked, _ in group:
        logger.warning(
            "intent %d waits, %s: %s", tracked.intent.call_id, why, error,
            extra=fields("push_waits", call=tracked.intent.call_id, plugin=tracked.intent.plugin),
        )  # fmt: skip

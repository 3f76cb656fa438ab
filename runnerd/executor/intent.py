"""The life of one intent: a pure function of state, observation and now. Nothing here asks a node or signs.

Only an observation that proves something changes the state: an RPC error or a missing receipt proves nothing. All
attempts of an intent share one nonce, so that at most one of them can ever take effect. A no-op at that nonce, a
transfer of nothing to ourselves, is how a signed intent is cancelled.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias, assert_never

from runnerd.executor.observation import (
    Accepted,
    Broadcast,
    Cancel,
    Died,
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
    Signed,
    SimulationReverted,
    Stale,
)
from runnerd.executor.wanted import ENDED, Attempt, AttemptKind, Cancellation, Intent, IntentState, Route
from runnerd.store.calls import JobOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Per chain: what is final, and how long to wait, in blocks."""

    confirmations: int
    replace_after_blocks: int
    is_final_by_tag: bool = False
    """Final is what the chain's `finalized` block includes, instead of a number of confirmations."""
    private_blocks: int = 25

    def final_at(self, block: int) -> int:
        """The head (by tag: the finalized block) from which on `block` is final: a node that is not there cannot say
        so."""
        return block if self.is_final_by_tag else block + self.confirmations - 1


class IllegalObservation(Exception):
    """An observation that cannot belong to an intent in this state: a defect in the shell."""

    def __init__(self, state: IntentState, observation: Observation) -> None:
        super().__init__(f"{type(observation).__name__} while {state}")


Step: TypeAlias = tuple[Intent, tuple[Effect, ...]]


def observe(intent: Intent, observation: Observation, now: datetime, rules: Rules) -> Step:
    """The intent after `observation`, and what to do. Raises IllegalObservation."""
    if intent.state in ENDED:
        return intent, ()
    match observation:
        case SimulationReverted():
            return _reverted_before_signing(intent, observation)
        case Signed():
            return _signed(intent, observation)
        case Accepted():
            return _accepted(intent, observation)
        case Mined():
            return _mined(intent, observation, rules)
        case NotSeen():
            return _not_seen(intent, observation, now, rules)
        case NonceTaken():
            _need_signed(intent, observation)
            return replace(intent, state=IntentState.UNRESOLVED), (Investigate(),)
        case Died():
            return _died(intent, observation, now)
        case Stale():
            return _stale(intent, observation)
        case _:
            assert_never(observation)


def is_public(intent: Intent, attempt: Attempt, head: int, rules: Rules) -> bool:
    """Whether the bytes of an attempt may go to every node at block `head`. A no-op tells nobody anything."""
    if attempt.kind is AttemptKind.NOOP:
        return True
    match intent.route:
        case Route.PUBLIC:
            return True
        case Route.PRIVATE:
            return False
        case Route.PRIVATE_FIRST:
            return _waited(intent, head) >= rules.private_blocks
        case _:
            assert_never(intent.route)


def _waited(intent: Intent, head: int) -> int:
    return head - intent.attempts[0].signed_block


def _reverted_before_signing(intent: Intent, observation: SimulationReverted) -> Step:
    if intent.state is not IntentState.PLANNED:
        raise IllegalObservation(intent.state, observation)
    what = "" if observation.is_refusal else " reverted"
    reason = f"simulation at block {observation.block}{what}: {observation.reason}"
    outcome = JobOutcome.DENIED if observation.is_refusal else JobOutcome.FAILED
    return replace(intent, state=IntentState.DENIED), (Finish(outcome, reason),)


def _signed(intent: Intent, observation: Signed) -> Step:
    attempt, is_noop = observation.attempt, observation.attempt.kind is AttemptKind.NOOP
    cancellation = intent.cancellation or observation.cancellation
    is_other_nonce = intent.nonce is not None and intent.nonce != observation.nonce
    # A no-op belongs to a cancellation, and after a cancellation nothing else is signed.
    if is_other_nonce or is_noop != (cancellation is not None) or (is_noop and not intent.attempts):
        raise IllegalObservation(intent.state, observation)
    state = IntentState.SIGNED if intent.state is IntentState.PLANNED else intent.state
    attempts = (*intent.attempts, attempt)
    signed = replace(intent, state=state, nonce=observation.nonce, attempts=attempts, cancellation=cancellation)
    return signed, (Broadcast(attempt),)


def _accepted(intent: Intent, observation: Accepted) -> Step:
    _need_attempt(intent, observation)
    attempts = tuple(
        replace(attempt, is_accepted=True) if attempt.hash == observation.hash else attempt
        for attempt in intent.attempts
    )
    state = IntentState.SENT if intent.state is IntentState.SIGNED else intent.state
    return replace(intent, state=state, attempts=attempts), ()


def _mined(intent: Intent, seen: Mined, rules: Rules) -> Step:
    _need_attempt(intent, seen)
    depth = seen.head - seen.block + 1
    if rules.is_final_by_tag:
        is_deep = seen.finalized is not None and seen.block <= seen.finalized
    else:
        is_deep = depth >= rules.confirmations
    if not is_deep or not seen.is_agreed:
        return replace(intent, state=IntentState.INCLUDED), (Prove(),) if is_deep else ()
    kind = next(attempt.kind for attempt in intent.attempts if attempt.hash == seen.hash)
    if kind is AttemptKind.NOOP:
        return _cancelled(intent, f"a no-op took its nonce {intent.nonce} in block {seen.block}", seen.hash)
    if seen.is_success:
        reason = f"included in block {seen.block}, {depth} confirmations"
        return replace(intent, state=IntentState.FINAL), (Finish(JobOutcome.ACTED, reason, seen.hash),)
    reason = f"reverted on chain in block {seen.block}"
    return replace(intent, state=IntentState.REVERTED), (Finish(JobOutcome.FAILED, reason, seen.hash),)


def _cancelled(intent: Intent, how: str, tx_hash: str = "") -> Step:
    cancellation = intent.cancellation
    assert cancellation is not None  # a no-op is signed with one only
    outcome = JobOutcome.EXPIRED if cancellation.ending is IntentState.EXPIRED else JobOutcome.DENIED
    return replace(intent, state=cancellation.ending), (Finish(outcome, f"{cancellation.reason}; {how}", tx_hash),)


def _not_seen(intent: Intent, observation: NotSeen, now: datetime, rules: Rules) -> Step:
    _need_signed(intent, observation)
    if intent.state in (IntentState.INCLUDED, IntentState.UNRESOLVED):
        # It fell out of the chain, or this node lags: either way the same bytes go out again, with every block until
        # they are accepted: the acceptance of old is worth nothing now.
        unsent = replace(intent.latest, is_accepted=False)
        intent = replace(intent, state=IntentState.SENT, attempts=(*intent.attempts[:-1], unsent))
    if intent.cancellation is None:
        if now >= intent.deadline_at:
            return intent, (Cancel(Cancellation(IntentState.EXPIRED, "its deadline passed before it was included")),)
        if intent.route is Route.PRIVATE and _waited(intent, observation.head) >= rules.private_blocks:
            reason = f"it was not included within {rules.private_blocks} blocks, and may not go out in public"
            return intent, (Cancel(Cancellation(IntentState.EXPIRED, reason)),)
    signed_block, turn = intent.latest.signed_block, observation.in_turn_since
    waited, patience = observation.head - signed_block, rules.replace_after_blocks
    is_due = turn is not None and observation.head - max(signed_block, turn) >= patience
    if is_due or (waited > 0 and waited % patience == 0):  # what waits for another is offered again now and then
        return intent, (Push(is_due),)
    return intent, () if intent.latest.is_accepted else (Push(is_due=False),)


def _died(intent: Intent, observation: Died, now: datetime) -> Step:
    if intent.state is not IntentState.UNRESOLVED:
        raise IllegalObservation(intent.state, observation)
    how = f"its nonce {intent.nonce} was used by {observation.by}, which is not ours, in block {observation.block}"
    if intent.cancellation is not None:
        return _cancelled(intent, how)
    if now >= intent.deadline_at:
        reason = f"its deadline passed; {how}"
        return replace(intent, state=IntentState.EXPIRED), (Finish(JobOutcome.EXPIRED, reason),)
    return replace(intent, state=IntentState.PLANNED, nonce=None, attempts=()), (Replan(),)


def _stale(intent: Intent, observation: Stale) -> Step:
    _need_signed(intent, observation)
    # Included or taken: what it is now is not ours to say. The next block does.
    is_waiting = intent.state in (IntentState.SIGNED, IntentState.SENT)
    if not is_waiting or intent.cancellation is not None:
        return intent, ()
    return intent, (Cancel(observation.cancellation),)


def _need_attempt(intent: Intent, observation: Accepted | Mined) -> None:
    if observation.hash not in {attempt.hash for attempt in intent.attempts}:
        raise IllegalObservation(intent.state, observation)


def _need_signed(intent: Intent, observation: Observation) -> None:
    if not intent.attempts:
        raise IllegalObservation(intent.state, observation)

"""The life of one intent: a pure function of state and observation. Nothing here asks a node or signs.

Only an observation that proves something changes the state: an RPC error or a missing receipt proves nothing. All
attempts of an intent share one nonce, so that at most one of them can ever take effect.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias, assert_never

from protocol.expectations import Expectation
from runnerd.chain.fees import Fees


class IntentState(StrEnum):
    """Where an intent stands. `final`, `reverted` and `denied` are ends."""

    PLANNED = "planned"
    SIGNED = "signed"
    SENT = "sent"
    INCLUDED = "included"
    FINAL = "final"
    REVERTED = "reverted"
    DENIED = "denied"
    UNRESOLVED = "unresolved"


ENDED = frozenset({IntentState.FINAL, IntentState.REVERTED, IntentState.DENIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One signed transaction. The bytes under a hash never change."""

    hash: str
    raw: bytes
    fees: Fees
    gas_limit: int
    signed_block: int
    is_accepted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One effect wanted on chain, keyed by its call; and what was signed for it, oldest first."""

    call_id: int
    plugin: str
    vault: str
    chain_id: int
    wallet: str
    target: str
    calldata: bytes
    value_wei: int
    state: IntentState = IntentState.PLANNED
    nonce: int | None = None
    attempts: tuple[Attempt, ...] = ()
    expect: tuple[Expectation, ...] = ()
    """What its Decision expects of it; after a restart from the stored Decision (`decisions.outcome`)."""

    @property
    def latest(self) -> Attempt:
        """The attempt that was signed last. An intent that was signed has one."""
        return self.attempts[-1]


# --- observations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SimulationReverted:
    """It would fail at block `block`; nothing was signed."""

    reason: str
    block: int


@dataclass(frozen=True, slots=True)
class Signed:
    """An attempt is stored, durably, and may be broadcast."""

    nonce: int
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Accepted:
    """A node said that it has this transaction."""

    hash: str


@dataclass(frozen=True, slots=True)
class Mined:
    """A receipt was seen, when the node's head was `head`."""

    hash: str
    block: int
    block_hash: str
    is_success: bool
    head: int
    gas_used: int
    effective_gas_price_wei: int


@dataclass(frozen=True, slots=True)
class NotSeen:
    """No receipt for any attempt, when the node's head was `head`. Proves nothing."""

    head: int


@dataclass(frozen=True, slots=True)
class NonceTaken:
    """The chain's nonce is past ours at head, and no attempt of ours has a receipt."""

    head: int


Observation: TypeAlias = SimulationReverted | Signed | Accepted | Mined | NotSeen | NonceTaken


# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send the stored bytes of this attempt (again): the same bytes under the same hash are the same transaction."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Replace:
    """It waited too long: sign a new attempt at the same nonce with higher fees, if it would still succeed."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The intent has ended; so does its call."""

    is_success: bool
    reason: str
    hash: str


Effect: TypeAlias = Broadcast | Replace | Finish


@dataclass(frozen=True, slots=True)
class Patience:
    """Per chain: how deep is final, and how long to wait before a replacement, in blocks."""

    confirmations: int
    replace_after_blocks: int


class IllegalObservation(Exception):
    """An observation that cannot belong to an intent in this state: a defect in the shell."""

    def __init__(self, state: IntentState, observation: Observation) -> None:
        super().__init__(f"{type(observation).__name__} while {state}")


def observe(intent: Intent, observation: Observation, patience: Patience) -> tuple[Intent, tuple[Effect, ...]]:
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
            return _mined(intent, observation, patience)
        case NotSeen():
            return _not_seen(intent, observation, patience)
        case NonceTaken():
            _need_signed(intent, observation)
            return replace(intent, state=IntentState.UNRESOLVED), (Broadcast(intent.latest),)
        case _:
            assert_never(observation)


def _reverted_before_signing(intent: Intent, observation: SimulationReverted) -> tuple[Intent, tuple[Effect, ...]]:
    if intent.state is not IntentState.PLANNED:
        raise IllegalObservation(intent.state, observation)
    reason = f"simulation at block {observation.block} reverted: {observation.reason}"
    return replace(intent, state=IntentState.DENIED), (Finish(is_success=False, reason=reason, hash=""),)


def _signed(intent: Intent, observation: Signed) -> tuple[Intent, tuple[Effect, ...]]:
    if intent.nonce is not None and intent.nonce != observation.nonce:
        raise IllegalObservation(intent.state, observation)
    state = IntentState.SIGNED if intent.state is IntentState.PLANNED else intent.state
    signed = replace(intent, state=state, nonce=observation.nonce, attempts=(*intent.attempts, observation.attempt))
    return signed, (Broadcast(observation.attempt),)


def _accepted(intent: Intent, observation: Accepted) -> tuple[Intent, tuple[Effect, ...]]:
    _need_attempt(intent, observation)
    attempts = tuple(
        replace(attempt, is_accepted=True) if attempt.hash == observation.hash else attempt
        for attempt in intent.attempts
    )
    state = IntentState.SENT if intent.state is IntentState.SIGNED else intent.state
    return replace(intent, state=state, attempts=attempts), ()


def _mined(intent: Intent, observation: Mined, patience: Patience) -> tuple[Intent, tuple[Effect, ...]]:
    _need_attempt(intent, observation)
    depth = observation.head - observation.block + 1
    if depth < patience.confirmations:
        return replace(intent, state=IntentState.INCLUDED), ()
    if observation.is_success:
        reason = f"included in block {observation.block}, {depth} confirmations"
        return replace(intent, state=IntentState.FINAL), (
            Finish(is_success=True, reason=reason, hash=observation.hash),
        )
    reason = f"reverted on chain in block {observation.block}"
    return replace(intent, state=IntentState.REVERTED), (
        Finish(is_success=False, reason=reason, hash=observation.hash),
    )


def _not_seen(intent: Intent, observation: NotSeen, patience: Patience) -> tuple[Intent, tuple[Effect, ...]]:
    _need_signed(intent, observation)
    if intent.state is IntentState.INCLUDED:  # it fell out of the chain, or this node lags: either way, send it again
        # The acceptance of old is worth nothing now: it is sent with every block until it is accepted again.
        unsent = replace(intent.latest, is_accepted=False)
        return replace(intent, state=IntentState.SENT, attempts=(*intent.attempts[:-1], unsent)), (Broadcast(unsent),)
    if observation.head - intent.latest.signed_block >= patience.replace_after_blocks:
        # The bytes go out again as well: a replacement may be refused, and then they are all there is.
        return intent, (Broadcast(intent.latest), Replace())
    if not intent.latest.is_accepted:
        return intent, (Broadcast(intent.latest),)
    return intent, ()


def _need_attempt(intent: Intent, observation: Accepted | Mined) -> None:
    if observation.hash not in {attempt.hash for attempt in intent.attempts}:
        raise IllegalObservation(intent.state, observation)


def _need_signed(intent: Intent, observation: Observation) -> None:
    if not intent.attempts:
        raise IllegalObservation(intent.state, observation)

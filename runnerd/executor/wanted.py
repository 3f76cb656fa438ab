"""What is wanted on chain, and what was signed for it: the values that `intent` moves from state to state."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from protocol.expectations import Expectation
from runnerd.chain.fees import Fees


class IntentState(StrEnum):
    """Where an intent stands. `final`, `reverted`, `denied`, `expired` and `cancelled` are ends."""

    PLANNED = "planned"
    SIGNED = "signed"
    SENT = "sent"
    INCLUDED = "included"
    FINAL = "final"
    REVERTED = "reverted"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNRESOLVED = "unresolved"


ENDED = frozenset(
    {IntentState.FINAL, IntentState.REVERTED, IntentState.DENIED, IntentState.EXPIRED, IntentState.CANCELLED}
)
WITHOUT_EFFECT = ENDED - {IntentState.FINAL}
"""Ends after which nothing of the batch has happened: what it was to spend is given back."""


class AttemptKind(StrEnum):
    """What an attempt does at the intent's nonce: the batch that was decided, or nothing, to cancel it."""

    BATCH = "batch"
    NOOP = "noop"


class Route(StrEnum):
    """How the bytes of an intent may go out: to every node, to the private endpoint, or private first."""

    PUBLIC = "public"
    PRIVATE = "private"
    PRIVATE_FIRST = "private_first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One signed transaction. The bytes under a hash never change."""

    hash: str
    raw: bytes
    fees: Fees
    gas_limit: int
    signed_block: int
    kind: AttemptKind = AttemptKind.BATCH
    is_accepted: bool = False


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Why a signed intent is cancelled, and how it ends once the no-op is final: `expired` or `cancelled`."""

    ending: IntentState
    reason: str

    def __post_init__(self) -> None:
        if self.ending not in (IntentState.EXPIRED, IntentState.CANCELLED):
            raise ValueError(f"a cancelled intent ends as expired or cancelled, not {self.ending}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One effect wanted on chain, keyed by its call; and what was signed for it at its nonce, oldest first."""

    call_id: int
    plugin: str
    vault: str
    chain_id: int
    wallet: str
    target: str
    calldata: bytes
    value_wei: int
    deadline_at: datetime
    """After this nothing is signed for it any more, and what was signed and is not included is cancelled."""
    route: Route = Route.PUBLIC
    max_fee_per_gas_wei: int | None = None
    """The plugin's own cap, if it has one."""
    actions: tuple[str, ...] = ()
    """Names of its actions, for kill switches. Empty: it is older than their record."""
    state: IntentState = IntentState.PLANNED
    nonce: int | None = None
    attempts: tuple[Attempt, ...] = ()
    cancellation: Cancellation | None = None
    expect: tuple[Expectation, ...] = ()
    """What its Decision expects of it; after a restart from the stored Decision (`decisions.outcome`)."""

    @property
    def latest(self) -> Attempt:
        """The attempt that was signed last. An intent that was signed has one."""
        return self.attempts[-1]

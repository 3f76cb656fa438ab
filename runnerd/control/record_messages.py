"""What the ledger has on record: calls, transactions, the history of a plugin. Part of `control.messages`."""

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from runnerd.control.message import Message

Limit: TypeAlias = Annotated[int, Meta(ge=1, le=1_000)]


class GetRuns(Message, frozen=True, tag="runs"):
    """The last calls, newest first; `plugin` None means all. `only_decided` leaves out those without a Decision."""

    plugin: str | None = None
    limit: Limit = 20
    only_decided: bool = False


class Run(Struct, frozen=True, kw_only=True):
    """One call with what came of it. `decision` is the outcome's JSON; `transaction` a hash."""

    id: int
    plugin: str
    trigger: str
    principal: str
    topic: str | None
    payload: str
    due_at: datetime
    fired_at: datetime
    finished_at: datetime | None
    state: str
    outcome: str | None
    reason: str | None
    attempts: int
    generation: int | None
    digest: str | None = None
    """Of the code that decided."""
    decide_ms: float | None
    decision: str | None
    vault: str | None
    intent_state: str | None
    nonce: int | None
    transaction: str | None
    cancelling: str | None = None
    """Why its intent is, or was, cancelled by a no-op."""


class Runs(Message, frozen=True, tag="runs_reply"):
    """Calls, newest first."""

    runs: list[Run]


class GetTransactions(Message, frozen=True, tag="transactions"):
    """The last signed transactions, newest first."""

    limit: Limit = 20


class Transaction(Struct, frozen=True, kw_only=True):
    """One signed transaction of an intent."""

    hash: str
    call_id: int
    plugin: str
    vault: str
    state: str
    nonce: int
    chain_id: int
    wallet: str
    target: str
    value_wei: int
    max_fee_per_gas_wei: int
    max_priority_fee_wei: int
    gas_limit: int
    signed_at: datetime
    accepted_at: datetime | None
    included_block: int | None
    is_success: bool | None
    gas_used: int | None
    effective_gas_price_wei: int | None
    error: str | None
    kind: str = "batch"
    """`noop`: it does nothing but use the nonce, and cancels the intent with that."""


class Transactions(Message, frozen=True, tag="transactions_reply"):
    """Transactions, newest first."""

    transactions: list[Transaction]


class GetHistory(Message, frozen=True, tag="history"):
    """What happened to a plugin's workers: starts, exits, quarantines, denied system calls; newest first."""

    plugin: str
    limit: Limit = 20


class HistoryEvent(Struct, frozen=True, kw_only=True):
    """One line of a plugin's history."""

    at: datetime
    generation: int
    kind: str
    detail: str


class History(Message, frozen=True, tag="history_reply"):
    """A plugin's history, newest first."""

    plugin: str
    events: list[HistoryEvent]

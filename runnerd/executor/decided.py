"""What the supervisor hands to the executor: a call, and the untrusted answer that a worker gave to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from protocol.actions import Outcome
from protocol.codec import encode_outcome
from protocol.messages import StateWrite
from runnerd.config.plugins import PluginConfig
from runnerd.executor.wanted import Route
from runnerd.store import audit, decisions
from runnerd.store.audit import Record
from runnerd.store.calls import JobCall
from runnerd.store.decisions import DecisionRecord, StateLimits
from runnerd.store.statement import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long the plugin's effects may take, how their bytes go out, and what they may cost per gas."""

    deadline_s: float
    route: Route
    max_fee_per_gas_wei: int | None


def terms_of(config: PluginConfig) -> Terms:
    """The terms in `[plugins.NAME]`."""
    return Terms(
        deadline_s=config.intent_deadline_s,
        route=Route(config.broadcast),
        max_fee_per_gas_wei=config.max_fee_per_gas_wei,
    )


def state_limits_of(config: PluginConfig) -> StateLimits:
    """How much state `[plugins.NAME]` may keep."""
    return StateLimits(config.max_state_bytes, config.max_state_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A Decision that the codec accepted. It is only asked for until policy says so.

    `context` is the Decide frame that led to it, as text; `decide_ms` is from sending that frame to the answer.
    """

    call: JobCall
    vault: str
    generation: int
    digest: str
    attempt: int
    context: str
    outcome: Outcome
    state_writes: Sequence[StateWrite]
    decided_at: datetime
    decide_ms: float
    terms: Terms
    state_limits: StateLimits = field(default_factory=StateLimits)
    born_with: Sequence[Statement] = ()
    """What has to stand before its Decision, in the same commit: the call itself, when nobody was asked."""


def to_store(decided: Decided) -> tuple[list[Statement], Record]:
    """The Decision with its state writes, to commit with what follows from it; and its record for the trail."""
    record = DecisionRecord(
        call_id=decided.call.id,
        plugin=decided.call.plugin,
        generation=decided.generation,
        digest=decided.digest,
        attempt=decided.attempt,
        context=decided.context,
        outcome=encode_outcome(decided.outcome),
        decided_at=decided.decided_at,
        decide_ms=decided.decide_ms,
    )
    writes = decided.state_writes
    return (
        [
            *decided.born_with,
            decisions.insert(record),
            *decisions.write_state(decided.call.plugin, writes, decided.state_limits),
        ],
        audit.decision(record, len(writes)),
    )

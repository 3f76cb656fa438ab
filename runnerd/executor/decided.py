"""What the supervisor hands to the executor: a call, and the untrusted answer that a worker gave to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from protocol.actions import Outcome
from protocol.messages import StateWrite
from runnerd.config.model import PluginConfig
from runnerd.executor.intent import Route
from runnerd.store.calls import JobCall


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

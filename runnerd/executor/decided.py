"""What the supervisor hands to the executor: a call, and the untrusted answer that a worker gave to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from protocol.actions import Outcome
from protocol.messages import StateWrite
from runnerd.store.calls import JobCall


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

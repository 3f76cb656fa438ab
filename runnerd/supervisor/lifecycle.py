"""The words of supervision: phases, what can happen to a worker, what is to be done, and what is remembered.

Values only; `machine` is the function over them, `host` the shell around it.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias


class Phase(StrEnum):
    """Where a plugin stands. Only `ready` and `unhealthy` are given calls."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    BACKOFF = "backoff"
    QUARANTINED = "quarantined"
    STOPPING = "stopping"


LIVE = frozenset({Phase.STARTING, Phase.READY, Phase.UNHEALTHY, Phase.STOPPING})
"""Phases that have a worker process, or one on its way. So has `quarantined` until the refused one has ended."""
SERVING = frozenset({Phase.READY, Phase.UNHEALTHY})


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """The operator, or the start of runnerd, wants it to run. Clears quarantine."""


@dataclass(frozen=True, slots=True)
class HelloAccepted:
    """The handshake is done: only this makes a worker ready."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It must not run as it is: sandbox refused, plugin not loadable, bad protocol, wrong vault. May come twice.

    `is_final`: it attacked; it is not probed, and runs again when an operator starts it.
    """

    reason: str
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Forbidden:
    """It may not run at all (its vault was refused): quarantined, and never probed. Only while nothing runs."""

    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The worker ended, told to or not. `jitter` is a random number in [-1, 1]."""

    reason: str
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker ended through no fault of its plugin (the zygote died)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Woke:
    """The time in `wake_at` has come."""


@dataclass(frozen=True, slots=True)
class CallReturned:
    """`decide` returned a valid Decision."""


@dataclass(frozen=True, slots=True)
class CallRaised:
    """`decide` raised, or returned nonsense."""

    error: str


@dataclass(frozen=True, slots=True)
class TickSkipped:
    """A tick was not decided because the plugin is unhealthy."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A commanded stop; never a crash."""

    then_start: bool = False


Event: TypeAlias = (
    Start
    | HelloAccepted
    | Refused
    | Forbidden
    | Exited
    | Lost
    | Woke
    | CallReturned
    | CallRaised
    | TickSkipped
    | StopRequested
)


# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker of this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Ask the worker to stop; end it when its grace has passed."""


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End the worker now."""


@dataclass(frozen=True, slots=True)
class Record:
    """Write one line into the plugin's history."""

    kind: str
    detail: str


Effect: TypeAlias = Spawn | StopWorker | KillWorker | Record


# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerState:
    """All that supervision remembers of one plugin. Times are monotonic seconds."""

    phase: Phase = Phase.STOPPED
    generation: int = 0
    since: float = 0.0
    reason: str = ""
    crashes: tuple[float, ...] = field(default=())
    restarts: int = 0
    wake_at: float | None = None
    calls_returned: int = 0
    failures: int = 0
    skips_left: int = 0
    is_probe: bool = False
    then_start: bool = False
    has_worker: bool = False
    """A process is there, or on its way. No other is spawned before its end was reported."""

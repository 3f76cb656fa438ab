"""When a plugin's worker is started, restarted, left alone or given up: a pure function of state, event and time.

`transition(state, event, now, policy)` returns the next state and the effects to carry out. It holds no clock, no
process and no timer; `host` is the shell around it. A pair that cannot happen raises, because it is a defect.
"""

from dataclasses import replace
from typing import TypeAlias, assert_never

from runnerd.config.plugins import RestartPolicy
from runnerd.supervisor.lifecycle import (
    LIVE,
    SERVING,
    CallRaised,
    CallReturned,
    Effect,
    Event,
    Exited,
    Forbidden,
    HelloAccepted,
    KillWorker,
    Lost,
    Phase,
    Record,
    Refused,
    Spawn,
    Start,
    StopRequested,
    StopWorker,
    TickSkipped,
    Woke,
    WorkerState,
)

__all__ = [
    "LIVE",
    "MAX_SKIPS",
    "SERVING",
    "CallRaised",
    "CallReturned",
    "Effect",
    "Event",
    "Exited",
    "Forbidden",
    "HelloAccepted",
    "IllegalTransition",
    "KillWorker",
    "Lost",
    "Phase",
    "Record",
    "Refused",
    "Spawn",
    "Start",
    "StopRequested",
    "StopWorker",
    "TickSkipped",
    "Woke",
    "WorkerState",
    "backoff_s",
    "transition",
]

MAX_SKIPS = 32


class IllegalTransition(Exception):
    """An event came in a phase in which it cannot happen: a defect in the shell, not in the plugin."""

    def __init__(self, phase: Phase, event: Event) -> None:
        super().__init__(f"{type(event).__name__} while {phase}")


Next: TypeAlias = tuple[WorkerState, tuple[Effect, ...]]


def transition(state: WorkerState, event: Event, now: float, policy: RestartPolicy) -> Next:
    """The next state and what to do. Raises IllegalTransition."""
    if _is_stable(state, now, policy):
        state = _forgiven(state)
    match event:
        case Start():
            return _start(state, now)
        case StopRequested():
            return _stop(state, event, now)
        case Woke():
            return _wake(state, event, now, policy)
        case HelloAccepted():
            return _hello(state, event, now)
        case Refused():
            return _refuse(state, event, now, policy)
        case Forbidden():
            return _forbid(state, event, now)
        case Exited():
            return _exit(state, event, now, policy)
        case Lost():
            return _lose(state, event, now)
        case CallReturned() | CallRaised() | TickSkipped():
            return _call(state, event, now)
        case _:
            assert_never(event)


def _start(state: WorkerState, now: float) -> Next:
    if state.phase is Phase.STOPPING:
        return replace(state, then_start=True), ()
    if state.phase in LIVE:
        return state, ()
    if state.has_worker:  # the refused one is still ending: the next starts when it has
        return replace(_enter(state, Phase.STOPPING, now, "commanded start"), then_start=True), ()
    return _spawn(_forgiven(state), now)


def _stop(state: WorkerState, event: StopRequested, now: float) -> Next:
    if state.phase is Phase.STOPPING:
        return replace(state, then_start=event.then_start), ()
    if state.has_worker:
        stopping = replace(_enter(state, Phase.STOPPING, now, "commanded stop"), then_start=event.then_start)
        return stopping, (StopWorker(),) if state.phase in LIVE else ()
    if event.then_start:
        return _start(state, now)
    return _enter(state, Phase.STOPPED, now, "commanded stop"), ()


def _wake(state: WorkerState, event: Event, now: float, policy: RestartPolicy) -> Next:
    if state.phase is Phase.BACKOFF:
        return _spawn(state, now)
    if state.phase is Phase.QUARANTINED and state.has_worker:
        return replace(state, wake_at=now + policy.probe_every_s), (KillWorker(),)
    if state.phase is Phase.QUARANTINED:
        return _spawn(replace(state, is_probe=True), now)
    raise IllegalTransition(state.phase, event)


def _hello(state: WorkerState, event: Event, now: float) -> Next:
    if state.phase is Phase.STOPPING:
        return state, ()
    if state.phase is not Phase.STARTING:
        raise IllegalTransition(state.phase, event)
    ready = replace(_enter(state, Phase.READY, now, ""), calls_returned=0, failures=0, skips_left=0)
    return ready, (Record("ready", f"generation {state.generation} is ready"),)


def _refuse(state: WorkerState, event: Refused, now: float, policy: RestartPolicy) -> Next:
    if not state.has_worker:
        raise IllegalTransition(state.phase, event)
    if state.phase is Phase.STOPPING:
        return state, (KillWorker(),)
    if state.phase is Phase.QUARANTINED:  # refused already, and not yet ended
        return (_enter(state, Phase.QUARANTINED, state.since, event.reason) if event.is_final else state), ()
    quarantined, effects = _quarantine(state, event.reason, now, policy)
    if event.is_final:
        quarantined = replace(quarantined, wake_at=None)
    return quarantined, (KillWorker(), *effects)


def _forbid(state: WorkerState, event: Forbidden, now: float) -> Next:
    if state.has_worker:
        raise IllegalTransition(state.phase, event)
    return _enter(state, Phase.QUARANTINED, now, event.reason), (Record("quarantined", event.reason),)


def _exit(state: WorkerState, event: Exited, now: float, policy: RestartPolicy) -> Next:
    if not state.has_worker:
        raise IllegalTransition(state.phase, event)
    state = replace(state, has_worker=False)
    if state.phase is Phase.QUARANTINED:  # it was ended because it was refused
        return state, ()
    if state.phase is Phase.STOPPING:
        return _stopped(state, now)
    crashes = (*(at for at in state.crashes if at > now - policy.crash_window_s), now)
    state = replace(state, crashes=crashes)
    record = Record("exited", event.reason)
    if state.is_probe or len(crashes) >= policy.crashes_to_quarantine:
        why = f"crashed {len(crashes)} times in {policy.crash_window_s:g} s, last: {event.reason}"
        quarantined, effects = _quarantine(
            state, "probe failed: " + event.reason if state.is_probe else why, now, policy
        )
        return quarantined, (record, *effects)
    delay_s = backoff_s(state.restarts, event.jitter, policy)
    state = replace(state, restarts=state.restarts + 1)
    if delay_s == 0:
        spawning, effects = _spawn(replace(state, reason=event.reason), now)
        return spawning, (record, *effects)
    waiting = replace(_enter(state, Phase.BACKOFF, now, event.reason), wake_at=now + delay_s)
    return waiting, (record,)


def _lose(state: WorkerState, event: Lost, now: float) -> Next:
    if not state.has_worker:
        raise IllegalTransition(state.phase, event)
    state = replace(state, has_worker=False)
    if state.phase is Phase.QUARANTINED:
        return state, ()
    if state.phase is Phase.STOPPING:
        return _stopped(state, now)
    spawning, effects = _spawn(state, now)
    return spawning, (Record("lost", event.reason), *effects)


def _call(state: WorkerState, event: CallReturned | CallRaised | TickSkipped, now: float) -> Next:
    if state.phase not in SERVING:
        return state, ()  # an answer that was under way while the worker stopped or ended
    match event:
        case CallReturned():
            # `since` moves only with the phase: stability counts from the last change.
            since = state.since if state.phase is Phase.READY else now
            returned = state.calls_returned + 1
            healthy = replace(  # in one step: it is taken for every call
                state, phase=Phase.READY, since=since, reason="", wake_at=None, calls_returned=returned, failures=0,
                skips_left=0,
            )  # fmt: skip
            return healthy, ()
        case CallRaised():
            failures = state.failures + 1
            skips = min(2 ** min(failures - 1, 64), MAX_SKIPS)
            since = state.since if state.phase is Phase.UNHEALTHY else now
            unhealthy = _enter(state, Phase.UNHEALTHY, since, event.error)
            return replace(unhealthy, failures=failures, skips_left=skips), ()
        case TickSkipped():
            return replace(state, skips_left=max(0, state.skips_left - 1)), ()
        case _:
            assert_never(event)


def backoff_s(restarts: int, jitter: float, policy: RestartPolicy) -> float:
    """Seconds before the next start: none for the first, then growing, capped, with ± `policy.jitter`."""
    if restarts == 0:
        return 0.0
    # The exponent is bounded: beyond this every float power is above any cap anyway.
    grown = policy.backoff_first_s * policy.backoff_factor ** min(restarts - 1, 64)
    return min(grown, policy.backoff_max_s) * (1 + policy.jitter * jitter)


def _is_stable(state: WorkerState, now: float, policy: RestartPolicy) -> bool:
    return state.phase is Phase.READY and state.calls_returned > 0 and now - state.since >= policy.stable_after_s


def _forgiven(state: WorkerState) -> WorkerState:
    """With a full restart budget."""
    return replace(state, crashes=(), restarts=0, is_probe=False)


def _spawn(state: WorkerState, now: float) -> Next:
    generation = state.generation + 1
    starting = _enter(state, Phase.STARTING, now, state.reason)
    starting = replace(starting, generation=generation, then_start=False, has_worker=True)
    return starting, (Spawn(generation),)


def _stopped(state: WorkerState, now: float) -> Next:
    if state.then_start:
        return _spawn(_forgiven(state), now)
    return _enter(state, Phase.STOPPED, now, "commanded stop"), ()


def _quarantine(state: WorkerState, reason: str, now: float, policy: RestartPolicy) -> Next:
    quarantined = replace(_enter(state, Phase.QUARANTINED, now, reason), wake_at=now + policy.probe_every_s)
    return quarantined, (Record("quarantined", reason),)


def _enter(state: WorkerState, phase: Phase, now: float, reason: str) -> WorkerState:
    return replace(state, phase=phase, since=now, reason=reason, wake_at=None)

"""The state machine of supervision: every (phase, event) pair, the numbers of docs/operations.md, any order of them."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runnerd.config.plugins import RestartPolicy
from runnerd.supervisor.machine import (
    LIVE,
    SERVING,
    CallRaised,
    CallReturned,
    Effect,
    Event,
    Exited,
    Forbidden,
    HelloAccepted,
    IllegalTransition,
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
    backoff_s,
    transition,
)

POLICY = RestartPolicy()
NOW = 1_000.0

# --- every pair ------------------------------------------------------------------------------------------------------

STATES = {
    "stopped": WorkerState(),
    "starting": WorkerState(phase=Phase.STARTING, generation=1, has_worker=True),
    "ready": WorkerState(phase=Phase.READY, generation=1, has_worker=True),
    "unhealthy": WorkerState(phase=Phase.UNHEALTHY, generation=1, has_worker=True, failures=1, skips_left=1),
    "backoff": WorkerState(phase=Phase.BACKOFF, generation=1, wake_at=NOW),
    "quarantined": WorkerState(phase=Phase.QUARANTINED, generation=1, wake_at=NOW),
    "dying": WorkerState(phase=Phase.QUARANTINED, generation=1, wake_at=NOW, has_worker=True),
    "stopping": WorkerState(phase=Phase.STOPPING, generation=1, has_worker=True),
    "turning": WorkerState(phase=Phase.STOPPING, generation=1, has_worker=True, then_start=True),
}
"""`dying`: refused, and its end not yet reported. `turning`: stopping in order to start again."""

EVENTS: dict[str, Event] = {
    "Start": Start(),
    "Hello": HelloAccepted(),
    "Refused": Refused("bad protocol"),
    "Attacked": Refused("attack: ptrace", is_final=True),
    "Forbidden": Forbidden("vault refused"),
    "Exited": Exited("exit code 1"),
    "Lost": Lost("the zygote died"),
    "Woke": Woke(),
    "Returned": CallReturned(),
    "Raised": CallRaised("ValueError"),
    "Skipped": TickSkipped(),
    "Stop": StopRequested(),
    "Restart": StopRequested(then_start=True),
}

# The phase afterwards, and what is done: S(pawn), T(ell it to stop), K(ill). "=": same phase. "!": cannot happen.
TABLE = """
           stopped        starting       ready          unhealthy      backoff        quarantined    dying          stopping       turning
Start      starting+S     =              =              =              starting+S     starting+S     stopping       =              =
Hello      !              ready          !              !              !              !              !              =              =
Refused    !              quarantined+K  quarantined+K  quarantined+K  !              !              =              =+K            =+K
Attacked   !              quarantined+K  quarantined+K  quarantined+K  !              !              =              =+K            =+K
Forbidden  quarantined    !              !              !              quarantined    =              !              !              !
Exited     !              =+S            starting+S     starting+S     !              !              =              stopped        starting+S
Lost       !              =+S            starting+S     starting+S     !              !              =              stopped        starting+S
Woke       !              !              !              !              starting+S     starting+S     =+K            !              !
Returned   =              =              =              ready          =              =              =              =              =
Raised     =              =              unhealthy      =              =              =              =              =              =
Skipped    =              =              =              =              =              =              =              =              =
Stop       =              stopping+T     stopping+T     stopping+T     stopped        stopped        stopping       =              =
Restart    starting+S     stopping+T     stopping+T     stopping+T     starting+S     starting+S     stopping       =              =
"""  # noqa: E501  # one readable table is worth the width

DONE: dict[type[Effect], str] = {Spawn: "S", StopWorker: "T", KillWorker: "K"}


def table_cells() -> list[tuple[str, str, str]]:
    """(event, state, expected) for every cell."""
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return [(row[0], state, cell) for row in rows for state, cell in zip(head, row[1:], strict=True)]


@pytest.mark.parametrize("event_name, state_name, expected", table_cells())
def test_pair_goes_where_the_table_says(event_name: str, state_name: str, expected: str) -> None:
    """Every event in every phase has one allowed result, or is a defect of the shell."""
    state, event = STATES[state_name], EVENTS[event_name]
    if expected == "!":
        with pytest.raises(IllegalTransition, match=f"{type(event).__name__} while {state.phase}"):
            transition(state, event, NOW, POLICY)
        return
    after, effects = transition(state, event, NOW, POLICY)
    done = "".join(DONE[type(effect)] for effect in effects if not isinstance(effect, Record))
    phase = "=" if after.phase is state.phase else after.phase.value
    assert (f"{phase}+{done}" if done else phase) == expected


def test_table_has_every_pair() -> None:
    """A new phase or event cannot be forgotten in the table."""
    assert {(event, state) for event, state, _ in table_cells()} == {(e, s) for e in EVENTS for s in STATES}
    assert {state.phase for state in STATES.values()} == set(Phase)
    assert {type(event) for event in EVENTS.values()} == set(Event.__args__)


# --- restarts --------------------------------------------------------------------------------------------------------


def ready(now: float = NOW, **changes: object) -> WorkerState:
    """A plugin that became ready at `now`."""
    started, _ = transition(WorkerState(), Start(), now, POLICY)
    state, _ = transition(started, HelloAccepted(), now, POLICY)
    return replace(state, **changes)  # type: ignore[arg-type]  # names of fields


def crash(state: WorkerState, now: float, jitter: float = 0.0) -> WorkerState:
    """Its worker ends; a restart that waits is waited for, and says Hello at once."""
    state, _ = transition(state, Exited("killed", jitter), now, POLICY)
    if state.phase is Phase.BACKOFF:
        assert state.wake_at is not None
        state, _ = transition(state, Woke(), state.wake_at, POLICY)
    if state.phase is Phase.STARTING:
        state, _ = transition(state, HelloAccepted(), now, POLICY)
    return state


def test_first_restart_is_at_once_then_1_2_4_up_to_60_seconds() -> None:
    """First restart at once, then 1 s × 2 up to 60 s."""
    assert [backoff_s(restarts, 0, POLICY) for restarts in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(10_000, 1.0, POLICY) == pytest.approx(72)


@pytest.mark.parametrize("jitter, factor", [(-1.0, 0.8), (0.0, 1.0), (1.0, 1.2)])
def test_backoff_varies_by_20_percent(jitter: float, factor: float) -> None:
    """Many plugins that crash together do not restart together."""
    state = replace(ready(), restarts=3, crashes=())
    waiting, effects = transition(state, Exited("killed", jitter), NOW, POLICY)
    assert waiting.phase is Phase.BACKOFF
    assert waiting.wake_at == pytest.approx(NOW + 4 * factor)
    assert effects == (Record("exited", "killed"),)


def test_five_crashes_in_ten_minutes_quarantine() -> None:
    """The fifth crash within the window ends the restarts; the reason says how many and the last one."""
    state = ready()
    for number in range(1, 5):
        state = crash(state, NOW + number)
        assert state.phase is Phase.READY
    state = crash(state, NOW + 5)
    assert state.phase is Phase.QUARANTINED
    assert state.reason == "crashed 5 times in 600 s, last: killed"


def test_crashes_older_than_the_window_do_not_count() -> None:
    """One crash every three minutes is not a storm."""
    state = ready()
    for number in range(20):
        state = crash(state, NOW + number * 180)
    assert state.phase is Phase.READY
    assert len(state.crashes) == 4


@pytest.mark.parametrize("state_name", ["starting", "ready", "dying"])
def test_attacker_is_not_probed(state_name: str) -> None:
    """Time does not make it better: it runs again when an operator says so."""
    state, _ = transition(STATES[state_name], EVENTS["Attacked"], NOW, POLICY)
    assert (state.phase, state.wake_at, state.reason) == (Phase.QUARANTINED, None, "attack: ptrace")
    rested, _ = transition(state, Exited("attack: ptrace (killed by SIGKILL)"), NOW, POLICY)
    assert rested.wake_at is None
    started, _ = transition(rested, Start(), NOW + 1, POLICY)
    assert started.phase is Phase.STARTING


def test_quarantined_is_probed_every_15_minutes_and_a_failed_probe_quarantines_at_once() -> None:
    """A probe has no budget: one failure ends it."""
    state, _ = transition(ready(), Refused("bad protocol"), NOW, POLICY)
    state, _ = transition(state, Exited("killed"), NOW + 1, POLICY)
    assert state.wake_at == NOW + 900
    probe, effects = transition(state, Woke(), NOW + 900, POLICY)
    assert effects == (Spawn(2),)
    failed, _ = transition(probe, Exited("exit code 1"), NOW + 901, POLICY)
    assert (failed.phase, failed.reason, failed.wake_at) == (
        Phase.QUARANTINED, "probe failed: exit code 1", NOW + 901 + 900,
    )  # fmt: skip


def test_probe_that_becomes_stable_is_a_probe_no_longer() -> None:
    """After 60 s in ready and a returned call, a crash restarts it again, even if decide raised in between."""
    probe = replace(ready(), is_probe=True, restarts=4)
    probe, _ = transition(probe, CallReturned(), NOW + 1, POLICY)
    probe, _ = transition(probe, CallRaised("ValueError"), NOW + 61, POLICY)
    crashed, effects = transition(probe, Exited("killed"), NOW + 62, POLICY)
    assert crashed.phase is Phase.STARTING
    assert Spawn(2) in effects


def test_refused_again_while_probed_is_quarantined_again() -> None:
    """A plugin that still cannot be loaded stays where it was."""
    probe = replace(STATES["starting"], is_probe=True)
    state, effects = transition(probe, Refused("cannot be imported"), NOW, POLICY)
    assert state.phase is Phase.QUARANTINED
    assert KillWorker() in effects


def test_forbidden_is_never_probed() -> None:
    """A refused vault does not become right by trying."""
    state, _ = transition(WorkerState(), Forbidden("the vault's operator is another"), NOW, POLICY)
    assert state.phase is Phase.QUARANTINED
    assert state.wake_at is None


@pytest.mark.parametrize("seconds, calls, is_reset", [(60, 1, True), (59.9, 1, False), (60, 0, False), (300, 0, False)])
def test_stable_worker_gets_its_budget_back(seconds: float, calls: int, is_reset: bool) -> None:
    """Stable means 60 s in ready and one returned call, both."""
    state = replace(ready(), restarts=3, crashes=(NOW - 1, NOW - 2, NOW - 3))
    for _ in range(calls):
        state, _ = transition(state, CallReturned(), NOW, POLICY)
    crashed, _ = transition(state, Exited("killed"), NOW + seconds, POLICY)
    assert (crashed.phase is Phase.STARTING) is is_reset
    assert (crashed.crashes == (NOW + seconds,)) is is_reset


def test_budget_is_given_back_before_decide_raises() -> None:
    """Ten hours of ready are not forgotten because one call raised just before the crash."""
    state = replace(ready(), restarts=3, calls_returned=1)
    state, _ = transition(state, CallRaised("ValueError"), NOW + 36_000, POLICY)
    assert state.restarts == 0


@pytest.mark.parametrize("event", [Start(), StopRequested(then_start=True)], ids=["start", "restart"])
def test_operator_clears_quarantine_and_budget(event: Event) -> None:
    """A commanded start is a fresh one."""
    state = replace(STATES["quarantined"], crashes=(1.0,) * 5, restarts=4, is_probe=True)
    started, effects = transition(state, event, NOW, POLICY)
    assert effects == (Spawn(2),)
    assert (started.crashes, started.restarts, started.is_probe) == ((), 0, False)


def test_restart_waits_for_the_end_of_a_refused_worker() -> None:
    """There are never two workers of one plugin, not even for a moment."""
    stopping, effects = transition(STATES["dying"], StopRequested(then_start=True), NOW, POLICY)
    assert effects == ()
    _, effects = transition(stopping, Exited("killed by SIGKILL"), NOW, POLICY)
    assert effects == (Spawn(2),)


def test_commanded_stop_is_not_a_crash() -> None:
    """However the worker ends after it was told to."""
    stopping, _ = transition(ready(), StopRequested(), NOW, POLICY)
    for end in (Exited("killed by SIGKILL"), Lost("the zygote died")):
        stopped, effects = transition(stopping, end, NOW, POLICY)
        assert (stopped.phase, stopped.crashes, stopped.restarts, effects) == (Phase.STOPPED, (), 0, ())


def test_lost_worker_is_not_counted() -> None:
    """The zygote's death is not the plugin's."""
    state = ready()
    for _ in range(50):
        state, effects = transition(state, Lost("the zygote died"), NOW, POLICY)
        assert isinstance(effects[-1], Spawn)
    assert (state.crashes, state.restarts, state.generation) == ((), 0, 51)


# --- unhealthy -------------------------------------------------------------------------------------------------------


def test_raising_skips_1_2_4_up_to_32_ticks() -> None:
    """An exception in decide is not a crash; the next ticks are skipped, then it is tried again."""
    state, skips = ready(), []
    for _ in range(8):
        state, effects = transition(state, CallRaised("ValueError: no"), NOW, POLICY)
        assert effects == ()
        skips.append(state.skips_left)
    assert skips == [1, 2, 4, 8, 16, 32, 32, 32]
    assert (state.phase, state.reason) == (Phase.UNHEALTHY, "ValueError: no")


def test_each_skipped_tick_brings_the_next_try_nearer() -> None:
    """And never goes below none."""
    state = ready(phase=Phase.UNHEALTHY, failures=2, skips_left=2)
    left = []
    for _ in range(3):
        state, _ = transition(state, TickSkipped(), NOW, POLICY)
        left.append(state.skips_left)
    assert left == [1, 0, 0]


def test_returned_call_heals() -> None:
    """One Decision makes it ready, and the next exception counts from one again."""
    state = ready(phase=Phase.UNHEALTHY, failures=6, skips_left=3)
    state, _ = transition(state, CallReturned(), NOW + 7, POLICY)
    assert (state.phase, state.failures, state.skips_left, state.since) == (Phase.READY, 0, 0, NOW + 7)
    state, _ = transition(state, CallRaised("ValueError"), NOW + 8, POLICY)
    assert state.skips_left == 1


def test_since_moves_only_with_the_phase() -> None:
    """Otherwise a busy plugin would never be stable, and an unhealthy one always new."""
    state = ready()
    state, _ = transition(state, CallReturned(), NOW + 5, POLICY)
    assert state.since == NOW
    state, _ = transition(state, CallRaised("ValueError"), NOW + 6, POLICY)
    state, _ = transition(state, CallRaised("ValueError"), NOW + 9, POLICY)
    assert state.since == NOW + 6


def test_new_worker_starts_healthy() -> None:
    """What the former process raised says nothing about this one."""
    state = ready(failures=5, skips_left=16, calls_returned=9)
    state = crash(state, NOW)
    assert (state.phase, state.failures, state.skips_left, state.calls_returned) == (Phase.READY, 0, 0, 0)


# --- any order -------------------------------------------------------------------------------------------------------


class Supervision(RuleBasedStateMachine):
    """A model shell with a simulated clock: it reports only what its one process could really do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.state = WorkerState()
        self.alive: list[int] = []
        self.has_said_hello = False
        self.is_wanted = False
        self.is_forbidden = False

    def send(self, event: Event) -> None:
        before = self.state
        self.state, effects = transition(before, event, self.now, POLICY)
        if isinstance(event, Exited | Lost):
            assert len(self.state.crashes) <= len(before.crashes) + 1
            if before.phase is Phase.STOPPING or isinstance(event, Lost):
                assert len(self.state.crashes) <= len(before.crashes), "a commanded or blameless end was counted"
        for effect in effects:
            if isinstance(effect, Spawn):
                assert effect.generation == before.generation + 1 == self.state.generation
                assert self.is_wanted, "a stopped plugin was started"
                assert not self.alive, "a second worker was spawned"
                self.alive.append(effect.generation)
                self.has_said_hello = False
            if isinstance(effect, KillWorker | StopWorker):
                assert self.alive, "nobody is there to be ended"

    @initialize()
    def begin(self) -> None:
        self.is_wanted = True
        self.send(Start())

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 61.0, 601.0, 901.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        while self.state.wake_at is not None and self.state.wake_at <= self.now:
            self.send(Woke())

    @rule()
    def start(self) -> None:
        self.is_wanted, self.is_forbidden = True, False
        self.send(Start())

    @rule()
    def stop(self) -> None:
        self.is_wanted, self.is_forbidden = False, False
        self.send(StopRequested())

    @rule()
    def restart(self) -> None:
        self.is_wanted, self.is_forbidden = True, False
        self.send(StopRequested(then_start=True))

    @precondition(lambda self: not self.alive)
    @rule()
    def forbid(self) -> None:
        self.is_wanted, self.is_forbidden = False, True
        self.send(Forbidden("vault refused"))

    @precondition(
        lambda self: self.alive and not self.has_said_hello and self.state.phase in (Phase.STARTING, Phase.STOPPING)
    )
    @rule()
    def say_hello(self) -> None:
        self.has_said_hello = True
        self.send(HelloAccepted())

    @precondition(lambda self: self.alive)
    @rule()
    def misbehave(self) -> None:
        self.send(Refused("bad protocol"))

    @precondition(lambda self: self.alive)
    @rule(jitter=st.floats(-1, 1))
    def exit(self, jitter: float) -> None:
        self.alive.clear()
        self.send(Exited("killed", jitter))

    @precondition(lambda self: self.alive)
    @rule()
    def lose(self) -> None:
        self.alive.clear()
        self.send(Lost("the zygote died"))

    @rule(event=st.sampled_from([CallReturned(), CallRaised("ValueError"), TickSkipped()]))
    def answer(self, event: Event) -> None:
        self.send(event)

    @invariant()
    def knows_whether_there_is_a_worker(self) -> None:
        assert self.state.has_worker is bool(self.alive)
        assert self.state.phase is Phase.QUARANTINED or (self.state.phase in LIVE) is bool(self.alive)
        assert self.state.phase not in SERVING or self.has_said_hello

    @invariant()
    def wakes_exactly_when_it_waits(self) -> None:
        waits = self.state.phase is Phase.BACKOFF or (self.state.phase is Phase.QUARANTINED and not self.is_forbidden)
        assert (self.state.wake_at is not None) is waits
        if self.state.wake_at is not None:
            longest = 72 if self.state.phase is Phase.BACKOFF else POLICY.probe_every_s
            assert self.now <= self.state.wake_at <= self.now + longest

    @invariant()
    def is_at_rest_only_if_nobody_wants_it(self) -> None:
        if self.state.phase is Phase.STOPPED:
            assert not self.is_wanted
        if self.state.phase is Phase.STOPPING:
            assert self.state.then_start is self.is_wanted

    @invariant()
    def budget_is_bounded(self) -> None:
        assert len(self.state.crashes) <= POLICY.crashes_to_quarantine
        assert 0 <= self.state.skips_left <= 32
        assert (self.state.skips_left == 0 and self.state.failures == 0) or self.state.phase is not Phase.READY


TestSupervision = Supervision.TestCase
TestSupervision.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)

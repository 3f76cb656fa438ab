"""The edges of the state machine by real processes: births, ends, commands and times that meet each other.

`tests/supervisor/test_edges_table.py` says which test takes which edge.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runnerd.control.messages import Restart
from runnerd.control.status_messages import PluginStatus
from tests.support.hasty_daemon import hasty
from tests.support.leaks import find_descendants
from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = pytest.mark.faults

HERE = Path(__file__).parent
SLOW = {"path": str(HERE / "plugins/slow_starter.py"), "class_name": "slow_starter"}
FORGER = {"path": str(HERE.parent / "hostile/plugins/forger.py"), "class_name": "forger"}
PATIENT = {"crashes_to_quarantine": 100, "backoff_first_s": 0.3, "backoff_factor": 1.0, "jitter": 0.0}
PLUGINS: dict[str, dict[str, object]] = {
    "slow": {**SLOW, "restart": {**PATIENT, "backoff_first_s": 0.01}},
    "crasher": puppet(restart=PATIENT, stop_grace_s=5.0),
    "stable": puppet(restart={**PATIENT, "backoff_first_s": 60.0, "stable_after_s": 0.3}),
    "suspect": puppet(restart={**PATIENT, "crashes_to_quarantine": 1, "probe_every_s": 0.4}),
    "forger": {**FORGER, "restart": {**PATIENT, "probe_every_s": 60.0}},
    "late": {
        **SLOW, "hello_deadline_s": 0.2,
        "restart": {**PATIENT, "crashes_to_quarantine": 2, "backoff_first_s": 0.01, "probe_every_s": 0.5},
    },
}  # fmt: skip
STARTERS = tuple(name for name in PLUGINS if name != "late")


@pytest.fixture(scope="module")
def yard(stage: Stage) -> Iterator[Scene]:
    """A daemon with one plugin for each kind of trouble, which pings ten times a second."""
    command = hasty(PING_EVERY_S=0.1, PONG_DEADLINE_S=0.5, ABORT_S=0.3)
    with stage.scene(PLUGINS, command=command, start=False) as scene:
        scene.start(*STARTERS)
        yield scene


def test_a_missed_hello_is_a_crash_and_a_failed_probe_quarantines_again(yard: Scene) -> None:
    """Twice late: quarantined; tried again by itself, late again: back at once."""
    plugin = yard.wait_plugin("late", lambda plugin: plugin.reason.startswith("probe failed: "))
    assert "no Hello within 0.2 s" in plugin.reason
    wait_for(lambda: len(yard.history("late")) >= 5, "its fifth event is in the ledger")
    kinds = [event.kind for event in reversed(yard.history("late"))]
    assert kinds[:5] == ["exited", "exited", "quarantined", "exited", "quarantined"]


def test_an_idle_worker_that_does_not_answer_a_ping_is_ended(yard: Scene) -> None:
    """No call is with it, and still it is missed: seen by its event loop alone."""
    before = ready(yard, "crasher")
    os.kill(pid_of(before), signal.SIGSTOP)
    yard.wait_plugin("crasher", lambda plugin: plugin.generation > before.generation)
    ready(yard, "crasher")
    (exited,) = [event for event in yard.history("crasher") if "did not answer for 0.5 s" in event.detail]
    assert exited.generation == before.generation


def test_a_second_crash_waits_and_is_over_by_itself(yard: Scene) -> None:
    """Backoff is a state that one sees, and time ends it."""
    first = ready(yard, "crasher")
    os.kill(pid_of(first), signal.SIGKILL)
    yard.wait_plugin("crasher", lambda plugin: plugin.generation > first.generation and plugin.state == "ready")
    second = ready(yard, "crasher")
    os.kill(pid_of(second), signal.SIGKILL)
    waiting = yard.wait_plugin("crasher", lambda plugin: plugin.state == "backoff")
    assert waiting.pid is None
    assert "killed by SIGKILL" in waiting.reason
    assert ready(yard, "crasher").generation == second.generation + 1


def test_a_restart_ends_the_wait_of_a_backoff(yard: Scene) -> None:
    """The operator does not wait, and its budget is full again."""
    os.kill(pid_of(ready(yard, "stable")), signal.SIGKILL)
    again = ready(yard, "stable", after=1)
    os.kill(pid_of(again), signal.SIGKILL)
    yard.wait_plugin("stable", lambda plugin: plugin.state == "backoff")
    restart(yard, "stable")
    assert ready(yard, "stable").generation == again.generation + 1


def test_a_worker_that_was_stable_has_its_budget_back(yard: Scene) -> None:
    """A crash now would wait a minute, had the one before not been forgiven."""
    before = ready(yard, "stable")
    os.kill(pid_of(before), signal.SIGKILL)
    second = ready(yard, "stable", after=before.generation)
    assert yard.fire("stable", do="noop").outcome == "noop"
    assert yard.fire("stable", do="wait", seconds=0.4).outcome == "noop"
    os.kill(pid_of(second), signal.SIGKILL)
    assert ready(yard, "stable", after=second.generation).generation == second.generation + 1


def test_a_probe_that_starts_is_ready_and_one_more_crash_puts_it_back(yard: Scene) -> None:
    """Quarantine is left by time, and entered again without a budget."""
    before = ready(yard, "suspect")
    os.kill(pid_of(before), signal.SIGKILL)
    quarantined = yard.wait_plugin("suspect", lambda plugin: plugin.state == "quarantined")
    assert quarantined.reason.startswith("crashed 1 times in ")
    probe = ready(yard, "suspect", after=before.generation)
    os.kill(pid_of(probe), signal.SIGKILL)
    again = yard.wait_plugin("suspect", lambda plugin: plugin.state == "quarantined")
    assert again.reason.startswith("probe failed: killed by SIGKILL")
    restart(yard, "suspect")
    ready(yard, "suspect", after=probe.generation)


def test_a_worker_killed_before_its_hello_is_started_again(yard: Scene) -> None:
    """It is a crash like any other."""
    starting = begin(yard, "slow")
    os.kill(pid_of(starting), signal.SIGKILL)
    assert ready(yard, "slow", after=starting.generation).generation == starting.generation + 1


def test_a_restart_before_hello_waits_for_the_end(yard: Scene) -> None:
    """It hears of it with its Welcome, ends in order, and the next one starts; never two at once."""
    starting = begin(yard, "slow")
    restart(yard, "slow")
    yard.wait_plugin("slow", lambda plugin: plugin.state == "stopping")
    restart(yard, "slow")
    assert ready(yard, "slow", after=starting.generation).generation == starting.generation + 1
    assert "exited" not in [event.kind for event in yard.history("slow") if event.generation == starting.generation]


def test_a_restart_waits_for_the_calls_of_the_worker(yard: Scene) -> None:
    """Its calls are answered first; a second restart meanwhile changes nothing."""
    before = ready(yard, "crasher")
    fired = yard.fire("crasher", wait_s=0, do="wait", seconds=0.4)
    wait_for(lambda: yard.state("crasher", f"begun:{fired.call_id}"), "decide has begun")
    restart(yard, "crasher")
    yard.wait_plugin("crasher", lambda plugin: plugin.state == "stopping")
    restart(yard, "crasher")
    assert ready(yard, "crasher", after=before.generation).generation == before.generation + 1
    assert yard.run(fired.call_id).reason == "waited, attempt 1"


def test_the_zygotes_death_meets_a_worker_that_starts_and_one_that_stops(yard: Scene) -> None:
    """Neither is to blame; what was to start again does, and the call of the other is decided by its successor."""
    stopping = ready(yard, "crasher")
    fired = yard.fire("crasher", wait_s=0, do="wait", until="go")
    wait_for(lambda: yard.state("crasher", f"begun:{fired.call_id}"), "decide has begun")
    starting = begin(yard, "slow")
    restart(yard, "crasher")
    zygote = yard.daemon.status().zygote_pid
    assert zygote is not None
    os.kill(zygote, signal.SIGKILL)

    assert ready(yard, "slow", after=starting.generation).generation == starting.generation + 1
    assert ready(yard, "crasher", after=stopping.generation).generation == stopping.generation + 1
    yard.fire("crasher", do="noop", put={"go": 1})
    assert yard.wait_run(fired.call_id).reason == "waited, attempt 1"
    assert ("lost", starting.generation) in [(event.kind, event.generation) for event in yard.history("slow")]


def test_a_restart_of_a_refused_worker_waits_until_it_is_gone(yard: Scene) -> None:
    """Quarantined, and its end not reported yet: the next one starts only after that."""
    before = ready(yard, "forger")
    with zygote_stopped(yard):
        fired = yard.fire("forger", wait_s=0, do="forge", frame="two_answers")
        yard.wait_plugin("forger", lambda plugin: plugin.state == "quarantined")
        restart(yard, "forger")
        assert yard.wait_plugin("forger", lambda plugin: plugin.state == "stopping").generation == before.generation
    assert ready(yard, "forger", after=before.generation).generation == before.generation + 1
    assert (yard.wait_run(fired.call_id).outcome, yard.run(fired.call_id).reason) == ("noop", "1")


def ready(yard: Scene, name: str, after: int = 0) -> PluginStatus:
    """Its status once it is ready, as a generation beyond `after`."""
    return yard.wait_plugin(name, lambda plugin: plugin.state == "ready" and plugin.generation > after)


def begin(yard: Scene, name: str) -> PluginStatus:
    """Kill a worker, and meet the next one before its Hello."""
    before = ready(yard, name)
    os.kill(pid_of(before), signal.SIGKILL)
    return yard.wait_plugin(
        name, lambda plugin: plugin.state == "starting" and plugin.generation > before.generation and bool(plugin.pid)
    )


def restart(yard: Scene, name: str) -> None:
    yard.daemon.ask(Restart(plugin=name))


def pid_of(plugin: PluginStatus) -> int:
    assert plugin.pid is not None
    return plugin.pid


@contextmanager
def zygote_stopped(yard: Scene) -> Iterator[None]:
    """Nobody reaps, and nobody is born."""
    tree = find_descendants(yard.daemon.process.pid)
    pid = next(pid for pid, command in tree.items() if command == "runnerd: zygote")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)

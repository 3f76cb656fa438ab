"""Workers die, hang and take their zygote with them: every call gets its one outcome, and nobody else notices."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.leaks import find_descendants
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.faults

DECIDE_DEADLINE_S = 1.5
RESTART_BOUND_S = 1.0
"""Generous, for a busy machine; `make bench` has the real figure."""
FORGIVING = {"crashes_to_quarantine": 50, "backoff_first_s": 0.02, "backoff_max_s": 0.02}
PLUGINS = {name: puppet(decide_deadline_s=DECIDE_DEADLINE_S, restart=FORGIVING) for name in ("victim", "left", "right")}


@pytest.fixture(scope="module")
def yard(stage: Stage) -> Iterator[Scene]:
    """A daemon with a victim and two neighbours. Crashes are forgiven at once."""
    with stage.scene(PLUGINS) as scene:
        yield scene


def test_a_worker_killed_in_decide_is_back_and_its_call_is_answered(yard: Scene) -> None:
    """kill -9 in the middle of decide: the call is decided again as attempt 2, the neighbours' pids stay."""
    before = yard.pids()
    victim = before["victim"]
    assert victim is not None
    fired = yard.fire("victim", wait_s=0, do="wait", seconds=0.3)
    wait_for(lambda: yard.state("victim", f"begun:{fired.call_id}"), "decide has begun")

    os.kill(victim, signal.SIGKILL)
    killed_at = time.monotonic()
    yard.wait_plugin("victim", lambda plugin: plugin.state == "ready" and plugin.pid != victim)
    took_s = time.monotonic() - killed_at

    print(f"kill -9 to ready again, seen by polling: {took_s * 1000:.1f} ms")
    assert took_s < RESTART_BOUND_S
    run = yard.wait_run(fired.call_id)
    assert (run.outcome, run.reason, run.attempts) == ("noop", "waited, attempt 2", 1)
    assert {name for name, pid in yard.pids().items() if pid != before[name]} == {"victim"}


def test_neighbours_act_while_a_plugin_crashes_again_and_again(yard: Scene) -> None:
    """One plugin's crashes cost another neither a call nor its process."""
    before = yard.pids()
    crashing = [yard.fire("victim", wait_s=0, do="die", attempts=2) for _ in range(3)]

    assert yard.fire("left", do="act", actions=[mint()]).outcome == "acted"
    assert [yard.wait_run(fired.call_id).outcome for fired in crashing] == ["noop"] * 3
    assert {name: pid for name, pid in yard.pids().items() if name != "victim"} == {
        name: pid for name, pid in before.items() if name != "victim"
    }


@pytest.mark.parametrize("how", ["abort", "exit", "segfault"])
def test_a_call_that_ends_its_worker_three_times_is_dead(yard: Scene, how: str) -> None:
    """It is not tried for ever: after three workers it is recorded as dead with what was last heard of them."""
    generation = yard.plugin("victim").generation

    fired = yard.fire("victim", do="die", how=how)

    assert fired.outcome == "dead"
    assert "it ended its worker 3 times, last: " in (fired.reason or "")
    assert yard.run(fired.call_id).attempts == 3
    assert yard.wait_plugin("victim", lambda plugin: plugin.state == "ready").generation == generation + 3
    assert yard.fire("victim", do="noop").outcome == "noop"


def test_a_decide_that_hangs_is_ended_with_its_stacks_in_the_log(yard: Scene) -> None:
    """After its deadline the worker gets SIGABRT: the operator sees where it hung; the call is tried again."""
    pid = yard.plugin("victim").pid
    fired = yard.fire("victim", do="hang", attempts=1)

    assert (fired.outcome, fired.reason) == ("noop", "answered, attempt 2")
    dumped = [record["message"] for record in yard.log("plugin_output") if record["plugin"] == "victim"]
    assert any("in hang_in_plugin_code" in line for line in dumped)
    (exited,) = [e for e in yard.history("victim") if f"decide of call {fired.call_id} took longer" in e.detail]
    assert f"took longer than {DECIDE_DEADLINE_S:g} s" in exited.detail
    assert yard.plugin("victim").pid != pid


def test_a_hang_that_blocks_sigabrt_is_killed(yard: Scene) -> None:
    """A second later the kernel ends it, whatever signals it refuses to hear."""
    fired = yard.fire("victim", do="hang", attempts=1, is_deaf=True)

    assert (fired.outcome, fired.reason) == ("noop", "answered, attempt 2")
    (exited,) = [e for e in yard.history("victim") if f"decide of call {fired.call_id} took longer" in e.detail]
    assert "killed by SIGKILL" in exited.detail


def test_a_call_beside_one_that_hangs_is_not_counted_to_death(yard: Scene) -> None:
    """It hangs the loop of both, so the innocent one may pay once; then it runs alone, and is answered."""
    slow = yard.fire("victim", wait_s=0, do="wait", seconds=0.4)
    wait_for(lambda: yard.state("victim", f"begun:{slow.call_id}"), "decide has begun")
    hanging = yard.fire("victim", wait_s=0, do="hang", attempts=1)

    assert yard.wait_run(hanging.call_id).reason == "answered, attempt 2"
    assert yard.wait_run(slow.call_id).reason in ("waited, attempt 1", "waited, attempt 2")


def test_all_workers_come_back_when_the_zygote_dies(yard: Scene) -> None:
    """The one death that travels: a new zygote, new workers for all, no call lost and none blamed for it."""
    status = yard.daemon.status()
    before = yard.pids()
    assert status.zygote_pid is not None
    fired = [yard.fire(name, wait_s=0, do="wait", seconds=0.3) for name in before]
    for name, call in zip(before, fired, strict=True):
        wait_for(lambda: yard.state(name, f"begun:{call.call_id}"), "decide has begun")  # noqa: B023

    os.kill(status.zygote_pid, signal.SIGKILL)

    after = yard.daemon.wait_until(
        lambda s: s.zygote_pid not in (None, status.zygote_pid) and all(p.state == "ready" for p in s.plugins)
    )
    assert {plugin.pid for plugin in after.plugins}.isdisjoint(before.values())
    assert [yard.wait_run(call.call_id).reason for call in fired] == ["waited, attempt 1"] * 3
    assert set(before.values()).isdisjoint(find_descendants(yard.daemon.process.pid))


def test_a_zygote_that_dies_at_once_again_is_replaced_again(yard: Scene) -> None:
    """Three deaths in a row, each as soon as it is seen: in the end everything runs."""
    killed: set[int] = set()
    for _ in range(3):
        pid = wait_for(lambda: {yard.daemon.status().zygote_pid} - killed - {None}, "a zygote").pop()
        assert pid is not None
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)

    yard.daemon.wait_until(lambda s: s.zygote_pid not in {None, *killed} and all(p.state == "ready" for p in s.plugins))
    assert yard.fire("left", do="act", actions=[mint()]).outcome == "acted"

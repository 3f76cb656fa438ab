"""Slow is not dead: a host that stands still, or has no CPU to give, ends no worker; one that hangs alone is ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.hasty_daemon import hasty
from tests.support.leaks import find_descendants, wait_until_gone
from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = pytest.mark.faults

SLOW = Path(__file__).parent / "plugins/slow_starter.py"
DEADLINE_S = 1.5
STANDSTILL_S = 5.0
HOGS = 8
TRIAL_S = 0.1
TOO_LONG_S = 2.5 * DEADLINE_S
HOG = """
import contextlib, os
os.nice(19)
with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as session:
    session.write("10")
print(flush=True)
while True: pass
"""
FORGIVING = {"crashes_to_quarantine": 50, "backoff_first_s": 0.02, "backoff_max_s": 0.02}
NAMES = ("victim", "left", "right")


@pytest.fixture(scope="module")
def yard(stage: Stage) -> Iterator[Scene]:
    """A daemon whose every deadline is far shorter than the standstill, pings included."""
    config = puppet(
        decide_deadline_s=DEADLINE_S, hello_deadline_s=DEADLINE_S, stop_grace_s=DEADLINE_S, restart=FORGIVING
    )
    command = hasty(PING_EVERY_S=0.2, PONG_DEADLINE_S=1.0)
    plugins = dict.fromkeys(NAMES, config) | {
        "slow_starter": {**config, "path": str(SLOW), "class_name": "slow_starter"}
    }
    with stage.scene(plugins, command=command) as scene:
        yield scene


def begin(yard: Scene, name: str, **instruction: Any) -> int:
    """A call that its worker has begun to decide."""
    fired = yard.fire(name, wait_s=0, **instruction)
    wait_for(lambda: yard.state(name, f"begun:{fired.call_id}"), "decide has begun")
    return fired.call_id


def test_a_tree_that_stands_still_for_5_s_restarts_nobody(yard: Scene) -> None:
    """Each decide, ping and birth that was under way goes on as if nothing had been; each answer counts."""
    waiting = {begin(yard, name, do="wait", until="go"): name for name in NAMES for _ in range(2)}
    before = yard.pids()
    with standing_still(yard):
        time.sleep(STANDSTILL_S)  # the fault itself
    for name in NAMES:
        assert yard.fire(name, do="noop", put={"go": 1}).outcome == "noop"

    assert {yard.wait_run(call_id).reason for call_id in waiting} == {"waited, attempt 1"}
    assert yard.pids() == before
    assert [event.kind for name in NAMES for event in yard.history(name)] == ["ready"] * len(NAMES)


def test_a_start_that_stands_still_is_no_crash(yard: Scene) -> None:
    """Hello is not late because the whole host was."""
    victim = yard.plugin("slow_starter").pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    starting = yard.wait_plugin("slow_starter", lambda plugin: plugin.state == "starting" and bool(plugin.pid))
    with standing_still(yard):
        time.sleep(2 * DEADLINE_S)  # the fault itself
    ready = yard.wait_plugin("slow_starter", lambda plugin: plugin.state == "ready")
    assert (ready.pid, ready.generation) == (starting.pid, starting.generation)


def test_a_worker_that_is_stopped_alone_is_ended_and_its_call_decided_again(yard: Scene) -> None:
    """The positive control: patience is for the host, not for one worker."""
    before = yard.pids()
    call_id = begin(yard, "victim", do="wait", seconds=0.5)
    victim = before["victim"]
    assert victim is not None
    os.kill(victim, signal.SIGSTOP)
    wait_until_gone([victim], deadline_s=3 * DEADLINE_S)

    assert yard.wait_run(call_id).reason == "waited, attempt 2"
    assert {name for name, pid in yard.pids().items() if pid != before[name]} == {"victim"}


@pytest.mark.alone
def test_decides_that_get_no_cpu_are_waited_for(yard: Scene) -> None:
    """Eight others take the CPU: decides compute far beyond their deadline, and answer. What is left is measured."""
    before = yard.pids()
    with hogs(HOGS):
        sample_s = compute(yard, TRIAL_S)
        took_s = compute(yard, cpu_s=TRIAL_S * TOO_LONG_S / sample_s)
    print(f"{TRIAL_S} s of the CPU took {sample_s:.2f} s; decided after {took_s:.2f} s of {DEADLINE_S} s")
    assert took_s > DEADLINE_S, "the control: without patience they would have been ended"
    assert yard.pids() == before


def compute(yard: Scene, cpu_s: float) -> float:
    """All compute at once, each for `cpu_s` of the CPU. Returns the seconds of the slowest."""
    calls = [begin(yard, name, do="compute", cpu_s=cpu_s) for name in NAMES]
    runs = [yard.wait_run(call_id) for call_id in calls]
    assert [run.reason for run in runs] == ["computed, attempt 1"] * len(NAMES)
    return max(run.decide_ms or 0.0 for run in runs) / 1000


@contextmanager
def standing_still(yard: Scene) -> Iterator[None]:
    """Every process of the daemon stopped. The supervisor goes first and comes back first: it sees all others still."""
    tree = [yard.daemon.process.pid, *find_descendants(yard.daemon.process.pid)]
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in tree:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Processes that compute without end, each of a session of its own, and as nice as that of all workers."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", HOG], stdout=subprocess.PIPE, start_new_session=True)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
        yield

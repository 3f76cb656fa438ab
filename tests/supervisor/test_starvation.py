"""Who waits for a CPU is told from who sleeps, hangs or computes: by the kernel's books, and on real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from runnerd.supervisor.starvation import FRESH_S, Look, ThreadTimes, Watch, read_threads, starved_share
from tests.support.scene import wait_for

HOG = "import os; os.sched_setaffinity(0, {{{cpu}}}); os.nice({nice}); print(flush=True)\nwhile True: pass"
HUNGRY = (
    "import os; os.sched_setaffinity(0, {{{cpu}}}); os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0));"
    "print(flush=True)\nwhile True: {doing}"
)


def times(ran_s: float, waited_s: float, is_runnable: bool = False) -> ThreadTimes:
    return ThreadTimes(ran_s=ran_s, waited_s=waited_s, is_runnable=is_runnable)


@pytest.mark.parametrize(
    "before, after, share",
    [
        pytest.param({}, {}, 0.0, id="it is gone"),
        pytest.param({}, {1: times(0, 9, True)}, 0.0, id="the first look knows nothing yet"),
        pytest.param({1: times(1, 1)}, {1: times(1, 1)}, 0.0, id="it sleeps"),
        pytest.param({1: times(1, 1)}, {1: times(1.1, 1.5)}, 0.5, id="it waited for half of the time"),
        pytest.param({1: times(1, 1, True)}, {1: times(1, 1, True)}, 1.0, id="it has waited all along, unbooked"),
        pytest.param({1: times(1, 1, True)}, {1: times(1.4, 1, True)}, 0.6, id="it ran for the rest"),
        pytest.param({1: times(1, 1, True)}, {1: times(2, 1, True)}, 0.0, id="it had the CPU: it hangs by itself"),
        pytest.param(
            {1: times(0, 0, True), 2: times(0, 0, True)}, {1: times(0.5, 0.5, True), 2: times(0.4, 0.6, True)}, 0.0,
            id="its threads wait for each other",
        ),
        pytest.param({1: times(0, 0), 2: times(0, 0)}, {1: times(0, 0.1), 2: times(0, 0.3)}, 0.3, id="the hungriest"),
        pytest.param({1: times(0, 0)}, {1: times(0, 5)}, 1.0, id="never more than all"),
    ],
)  # fmt: skip
def test_share_of_a_second(before: dict[int, ThreadTimes], after: dict[int, ThreadTimes], share: float) -> None:
    """See the ids."""
    assert starved_share(Look(5.0, before), Look(6.0, after)) == pytest.approx(share)


def test_no_time_has_no_share() -> None:
    """Two looks at one moment, or no first one."""
    look = Look(5.0, {1: times(0, 0, True)})
    assert starved_share(look, look) == starved_share(None, look) == 0.0


def test_look_at_what_is_not_there_finds_nothing() -> None:
    """No process yet, or none any more."""
    assert read_threads(0) == read_threads(-1) == read_threads(2**22 + 1) == {}


def test_hungry_process_is_told_from_one_that_sleeps_beside_it() -> None:
    """One CPU, a hog on it, and two processes of the CPU's idle time: one would compute, the other sleeps."""
    cpu = min(os.sched_getaffinity(0))
    nice = 19 - os.nice(0)
    with (
        running(HOG.format(cpu=cpu, nice=nice), HOG.format(cpu=cpu, nice=nice)),
        running(HUNGRY.format(cpu=cpu, doing="pass"), HUNGRY.format(cpu=cpu, doing="__import__('time').sleep(60)")) as (
            hungry,
            sleepy,
        ),
    ):
        assert share_of(hungry) > 0.6
        assert share_of(sleepy) < 0.2


def test_process_that_hangs_in_a_loop_with_a_cpu_of_its_own_is_not_starved() -> None:
    """It burns what it gets: seen as soon as the rest of the machine lets it have half a CPU."""
    with running(HOG.format(cpu=max(os.sched_getaffinity(0)), nice=0)) as (hog,):
        wait_for(lambda: share_of(hog) == 0.0, "a moment in which it has half a CPU")


def test_deadlines_of_one_worker_share_a_look() -> None:
    """It may have a thousand calls; the look is taken anew when it is old."""
    watch = Watch(os.getpid())
    first = watch.look()
    assert watch.look() is first
    assert first.threads[os.getpid()].ran_s > 0
    wait_for(lambda: watch.look() is not first, "a fresh one", 20 * FRESH_S)


def share_of(pid: int) -> float:
    """Over a good part of a second."""
    watch = Watch(pid)
    before = watch.look()
    assert before.threads
    time.sleep(0.6)  # what happens meanwhile is what is measured
    return starved_share(before, watch.look())


@contextmanager
def running(*programs: str) -> Iterator[tuple[int, ...]]:
    """Processes that have said that they run."""
    with ExitStack() as stack:
        pids = []
        for program in programs:
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
            pids.append(process.pid)
        yield tuple(pids)

"""Where a worker stands in the queue for CPU time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.sandbox import cpu

TAKE_PLACE = """
import os, sys
from pathlib import Path
from workers.sandbox import cpu
{before}
cpu.take_place({scheduling!r})
print(os.nice(0), os.sched_getscheduler(0), os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())
"""
YIELD = """
from pathlib import Path
from workers.sandbox import cpu
cpu.yield_by_session()
print(Path("/proc/self/autogroup").read_text().split()[-1])
"""


def said(code: str, *, start_new_session: bool = False) -> list[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, start_new_session=start_new_session, check=True, capture_output=True, text=True
    ).stdout.split()


def test_idle_worker_has_the_least_weight_in_the_session_of_the_others() -> None:
    """An ordinary thread, so that it interrupts another worker; of the least weight, so that nobody else is."""
    nice, policy, leads_session, leads_group = said(TAKE_PLACE.format(scheduling="idle", before=""))
    assert (leads_session, leads_group) == ("False", "True")
    assert (nice, int(policy)) in {("19", os.SCHED_OTHER), (str(os.nice(0)), os.SCHED_IDLE)}, (
        "which of them is the kernel's affair"
    )


def test_kernel_without_slices_gives_the_idle_policy() -> None:
    """Before Linux 6.12 what was asked for is not what it says afterwards."""
    before = "cpu.SLICE_NS = 10**10  # longer than any kernel gives"
    _, policy, *_ = said(TAKE_PLACE.format(scheduling="idle", before=before))
    assert int(policy) == os.SCHED_IDLE


def test_normal_worker_leaves_the_session_that_yields() -> None:
    """It competes with every other program."""
    assert said(TAKE_PLACE.format(scheduling="normal", before="")) == [
        str(os.nice(0)),
        str(os.SCHED_OTHER),
        "True",
        "True",
    ]


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not share by session")
def test_session_yields_and_ours_does_not() -> None:
    """No privilege is needed for it."""
    ours = Path("/proc/self/autogroup").read_text()
    assert said(YIELD, start_new_session=True) == [str(cpu.SESSION)]
    assert Path("/proc/self/autogroup").read_text() == ours

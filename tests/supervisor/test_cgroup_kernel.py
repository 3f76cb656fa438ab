"""Cgroups on a real kernel with cgroup v2: a user-mode Linux, since this machine may have v1 or no right to make any.

Skipped unless `RUNNERD_UML` names the program (`linux.uml` of Debian's package user-mode-linux, which can be unpacked
anywhere). It has no Landlock, so what is tried are the cgroups, not whole workers. Half a minute.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runnerd.supervisor.cgroups import SUPERVISOR

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
UML = os.environ.get("RUNNERD_UML")
INIT = f"""#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cd {REPOSITORY} && {sys.executable} -m tests.support.cgroup_probe
poweroff -f
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `cgroup_probe` says on that kernel; its disk is this one's, read-only."""
    if UML is None:
        pytest.skip("RUNNERD_UML is not set (linux.uml of the Debian package user-mode-linux)")
    init = tmp_path_factory.mktemp("uml") / "init"
    init.write_text(INIT)
    init.chmod(0o755)
    done = subprocess.run(
        [UML, "mem=768M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}", "quiet",
         "con=null", "con0=fd:0,fd:1"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        env={"HOME": str(init.parent), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    answers = [line.partition("FOUND ")[2] for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert answers, done.stdout
    return dict(json.loads(answers[0]))


def test_only_what_was_marked_as_delegated_is_found(found: dict[str, Any]) -> None:
    """By texts and attributes of a real kernel; and again after runnerd has moved aside in it."""
    assert found["unmarked"] == "/runnerd.service was not delegated"
    assert found["delegated"] == found["found again"] == "/sys/fs/cgroup/runnerd.service"
    assert found["moved to"] == f"0::/runnerd.service/{SUPERVISOR}"


def test_kernel_takes_each_limit_as_it_is_written(found: dict[str, Any]) -> None:
    """Read back."""
    assert found["settings"] == {
        "memory.max": str(64 << 20), "pids.max": "24", "cpu.max": "25000 100000", "cpu.idle": "1",
        "memory.oom.group": "1",
    }  # fmt: skip


def test_kernel_ends_a_worker_for_its_memory_and_says_so(found: dict[str, Any]) -> None:
    """200 MiB in a cgroup of 64. One that does not is not blamed."""
    status, words = found["memory"]
    assert status == -9
    assert words == "over its memory limit: 64 of 64 MiB, and ended by the kernel"
    assert found["without excess"] is None


def test_threads_end_at_their_wall_and_cpu_time_is_kept_to_its_share(found: dict[str, Any]) -> None:
    """The wall is for whoever is faster than the looks; a quarter of a CPU is a quarter of the time."""
    started, wall = found["threads"]
    assert started == wall
    used_s, throttled = found["cpu"]
    assert used_s <= 1.0, "of two seconds; by ticks of 10 ms, so not to the letter"
    assert throttled > 5


def test_cgroup_goes_with_its_worker(found: dict[str, Any]) -> None:
    """At once, or with the next worker if the last process is still in it."""
    assert found["removed"]
    assert found["busy"]
    assert found["swept"]

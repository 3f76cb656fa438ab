"""Tries `supervisor.cgroups` on a kernel with cgroup v2 and prints one JSON object. Started by `test_cgroup_kernel`.

Needs root on a machine of its own: it makes a cgroup of the root's, marks it as systemd would, and moves into it.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from protocol.zygote import Layer, LayerReport
from runnerd.supervisor.cgroups import Cgroups, NotDelegated, WorkerCgroup, find_of
from runnerd.supervisor.limits import MIB, Limits
from workers.sandbox.cgroup import enter

ROOT = Path("/sys/fs/cgroup")
UNIT = ROOT / "runnerd.service"
NOBODY = 65534
SPIN_S = 2.0


def in_child(cgroup: WorkerCgroup, deed: Callable[[], int], meanwhile: Callable[[], None] = lambda: None) -> int:
    """The exit code of a child that enters as another user, by a lent descriptor, and does it; negative: a signal."""
    entered, told = os.pipe()
    lent = os.open(cgroup.directory / "cgroup.procs", os.O_WRONLY)
    child = os.fork()
    if child == 0:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        report: LayerReport = enter(str(cgroup.directory), [lent])
        os.close(told)
        os._exit(deed() if report.is_applied and report.layer is Layer.CGROUP else 99)
    os.close(lent)
    os.close(told)
    os.read(entered, 1)  # its end: the child is in
    meanwhile()
    os.close(entered)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def hoard() -> int:
    hoarded = [bytearray(b"x") * MIB for _ in range(200)]
    return len(hoarded) & 1


def start_threads() -> int:
    threading.stack_size(64 << 10)
    wait = threading.Event().wait
    with suppress(RuntimeError):
        while threading.active_count() < 100:
            threading.Thread(target=wait, daemon=True).start()
    return threading.active_count()


def spin() -> int:
    until = time.monotonic() + SPIN_S
    while time.monotonic() < until:
        pass
    return 0


def main() -> None:
    """In the order of a supervisor's life."""
    (ROOT / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    UNIT.mkdir()
    (UNIT / "cgroup.procs").write_text(str(os.getpid()))
    found: dict[str, object] = {}
    try:
        find_of()
    except NotDelegated as reason:
        found["unmarked"] = str(reason)
    os.setxattr(UNIT, "user.delegate", b"1")
    found["delegated"] = str(find_of())
    cgroups = Cgroups(find_of())
    found["moved to"] = Path("/proc/self/cgroup").read_text().strip()
    found["found again"] = str(find_of())
    limits = Limits(memory_bytes=64 * MIB, threads=8, cpus=0.25)
    alpha = cgroups.make("alpha.1", limits, is_idle=True)
    found["memory"] = (in_child(alpha, hoard), alpha.find_excess())
    found["threads"] = (in_child(alpha, start_threads), limits.thread_wall)
    names = ("memory.max", "pids.max", "cpu.max", "cpu.idle", "memory.oom.group")
    found["settings"] = {name: (alpha.directory / name).read_text().strip() for name in names}
    cgroups.remove(alpha.directory)
    found["removed"] = not alpha.directory.exists()
    beta = cgroups.make("beta.1", limits, is_idle=False)
    in_child(beta, spin, lambda: cgroups.remove(beta.directory))
    found["busy"] = beta.directory.exists()
    used = dict(line.split() for line in (beta.directory / "cpu.stat").read_text().splitlines())
    found["cpu"] = (int(used["usage_usec"]) / 1e6, int(used["nr_throttled"]))
    found["without excess"] = beta.find_excess()
    cgroups.make("gamma.1", limits, is_idle=False)
    found["swept"] = not beta.directory.exists()
    sys.stdout.write(f"\nFOUND {json.dumps(found)}\n")


if __name__ == "__main__":
    main()

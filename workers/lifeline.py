"""Ties the life of a process to that of its parent: zygote to guardian or supervisor, worker to zygote.

Both ends are seen through /proc, because inside a pid namespace the parent's pid is 0. Called once per process, early.
"""

import os
import signal

from workers.sandbox import libc, proc


def find_own_pid() -> int:
    """The pid of this process as the host sees it."""
    return int(os.readlink("/proc/self"))


def die_with(parent: int) -> None:
    """Be killed when `parent` (a pid as the host sees it) dies, also if that happens right now.

    The order makes it sure: a dying process first gives its children a new parent and then looks for their death
    signal, so who still sees the old parent *after* asking for it will get it. Raises ProcessLookupError if it is gone.
    """
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    stat = proc.read("self/stat")
    seen = int(stat.rpartition(")")[2].split()[1])
    if seen != parent:
        raise ProcessLookupError(f"the parent {parent} is gone, now it is {seen}")

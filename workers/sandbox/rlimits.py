"""Resource limits of one worker, and its place in the queue of the out-of-memory killer.

Owns which limit means what; the figures come with the Spawn. Called by `workers.birth`, inside the namespaces.
"""

import os
import resource
from typing import Final

from protocol.zygote import Layer, LayerReport, WorkerLimits
from workers.sandbox import proc

ADDRESS_SLACK_BYTES: Final = 4 << 30
"""Address space beyond the memory limit: libraries, malloc arenas and guard pages are reserved and never filled."""


def apply(limits: WorkerLimits, *, is_counted_alone: bool) -> LayerReport:
    """Set the limits, soft and hard; a lower one of the host stays. `is_counted_alone`: in a user namespace of its own.

    Raises OSError.
    """
    table = {
        # DATA counts what can be filled: private writable memory. Shared anonymous memory and stacks made by mmap
        # would escape it, so seccomp refuses those; AS is the outer wall behind both.
        resource.RLIMIT_DATA: limits.memory_bytes,
        resource.RLIMIT_AS: limits.memory_bytes + ADDRESS_SLACK_BYTES,
        resource.RLIMIT_FSIZE: 0,  # there is no file it may write; pipes and sockets do not count
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
    }
    if is_counted_alone:
        # The kernel counts threads per user and user namespace. Without one this would count the supervisor's, the
        # zygote's and every other worker's as well: one worker could then keep all others from starting.
        table[resource.RLIMIT_NPROC] = limits.max_threads
    for kind, wanted in table.items():
        allowed = resource.getrlimit(kind)[1]
        value = wanted if allowed == resource.RLIM_INFINITY else min(wanted, allowed)
        resource.setrlimit(kind, (value, value))
    # The kernel exempts the host's root from this one limit; 8 MiB of stack each then bound the number.
    is_counted = is_counted_alone and os.getuid() != 0
    threads = f"{limits.max_threads} threads" if is_counted else "threads bounded by memory"
    detail = f"{limits.memory_bytes >> 20} MiB, {limits.max_fds} fds, {threads}, {limits.scheduling} scheduling"
    return LayerReport(layer=Layer.RLIMITS, is_applied=True, detail=detail)


def limit_fds(count: int) -> None:
    """Descriptors 0 to `count` - 1. Raises OSError.

    Last of all, after the notify fd was passed on: the kernel refuses that (ETOOMANYREFS) while more than RLIMIT_NOFILE
    descriptors are under way for this user, as when a hundred workers are asked for at once.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def be_first_to_go() -> None:
    """If the host runs out of memory the kernel ends workers before anything else. Needs /proc. Raises OSError."""
    proc.write("self/oom_score_adj", "1000")

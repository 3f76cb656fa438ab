"""A worker's place in the queue for CPU time: behind everyone else, and beside the other workers.

`SCHED_IDLE` alone would put it there, and does so before Linux 6.12. But a thread of that policy interrupts nobody, not
even another idle one: beside plugins that keep all CPUs busy, one wake-up in ten of the others waited for the kernel's
next tick (4 ms). So a worker is an ordinary thread of the least weight, with a slice that is longer than the usual
one: whoever wakes up with a shorter slice interrupts it at once, and workers share what is left among each other.

Where the kernel shares the CPU by session (autogroup) weights count within a session only: then all workers are in the
zygote's, and that yields. Called by `workers.zygote` and `workers.birth`.
"""

import ctypes
import os
import struct
import time
from typing import Final, Literal

from workers.sandbox import libc, proc

SLICE_NS: Final = 6_000_000
"""The kernel's own is 0.7 to 2.8 ms, with the number of CPUs."""
LEAST: Final = 19
SESSION: Final = 10
"""Of all workers together: a tenth of a CPU that everyone else keeps busy, so that they can be born, and answer."""
TRIES: Final = 5
EVERY_S: Final = 0.11
"""Without privileges the kernel lets one process a tenth of a second change its session."""

_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime …


def yield_by_session() -> None:
    """The session of this process takes what the others leave, if this host shares by session."""
    for _ in range(TRIES):
        try:
            proc.write("self/autogroup", str(SESSION))
        except BlockingIOError:
            time.sleep(EVERY_S)
        except OSError:  # this kernel knows no such thing
            return
        else:
            return


def take_place(scheduling: Literal["idle", "normal"]) -> None:
    """Go where the plugin's configuration says. Binds the calling thread and those it starts later. Raises OSError."""
    if scheduling == "normal":
        os.setsid()  # out of the session that yields
        return
    os.setpgid(0, 0)
    if not _has_long_slice():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _has_long_slice() -> bool:
    """Take the least weight and the slice; False where the kernel does not keep the slice."""
    wanted = (_ATTRIBUTES.size, os.SCHED_OTHER, 0, LEAST, 0, SLICE_NS, 0, 0)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES.pack(*wanted), _ATTRIBUTES.size)
    libc.syscall(libc.SYS_SCHED_SETATTR, 0, ctypes.addressof(attributes), 0)
    libc.syscall(libc.SYS_SCHED_GETATTR, 0, ctypes.addressof(attributes), _ATTRIBUTES.size, 0)
    *_, slice_ns, _, _ = _ATTRIBUTES.unpack(attributes.raw)
    return bool(slice_ns == SLICE_NS)

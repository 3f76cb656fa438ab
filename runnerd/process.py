"""What a process of ours does to itself: no core file, no debugger, enough descriptors, an end with its parent's."""

import ctypes
import os
import resource
import signal

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Be killed when `parent` (our parent's pid) ends; at once if it has already."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def protect_memory() -> None:
    """No core files, and not dumpable: other processes of this user can neither attach nor read /proc/PID/mem."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_DUMPABLE, 0)


def raise_file_limit() -> None:
    """As many descriptors as we may have: a worker takes about six, and the usual soft limit of 1,024 ends at 150.

    The soft limit is low only for programs that use select(2); this one does not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

"""What a process of ours does to itself: no core file, no debugger, enough descriptors, no deep recursion, an end with
its parent's.
"""

import ctypes
import os
import resource
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38

RECURSION_LIMIT: Final = 1_000  # CPython's default

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


def bound_recursion() -> None:
    """Set back what an import may have changed: call it when all of them are done.

    py_ecc, which libraries around Ethereum bring with them, raises the limit of the whole process to 100,000: JSON
    nested 50,000 deep from a node is then a segmentation fault instead of a RecursionError.
    """
    sys.setrecursionlimit(RECURSION_LIMIT)


def forbid_new_privileges() -> None:
    """No program that is started gives more than we have; seccomp filters of ordinary users need it."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

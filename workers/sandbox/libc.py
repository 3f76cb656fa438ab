"""The seam to system calls that Python 3.11 does not offer. All failures are OSErrors."""

import ctypes
import os
import platform
import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38

# Numbers from 424 on are the same on every architecture.
SYS_CLOSE_RANGE: Final = 436
SYS_LANDLOCK_CREATE_RULESET: Final = 444
SYS_LANDLOCK_ADD_RULE: Final = 445
SYS_LANDLOCK_RESTRICT_SELF: Final = 446
SYS_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}.get(platform.machine(), -1)
SYS_SCHED_GETATTR: Final = {"x86_64": 315, "aarch64": 275}.get(platform.machine(), -1)
SYS_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}.get(platform.machine(), -1)

_CAPABILITY_VERSION_3: Final = 0x20080522
_MAX_FD: Final = 0x7FFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.signal.restype = ctypes.c_void_p


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def syscall(number: int, *arguments: int) -> int:
    """Call the kernel with up to six integers (addresses are integers). Raises OSError; ENOSYS if `number` is -1."""
    result = int(_libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(argument) for argument in arguments)))
    if result < 0:
        raise _error()
    return result


def prctl(option: int, argument: int) -> None:
    """`prctl(2)` with one argument. Raises OSError."""
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero) < 0:
        raise _error()


def unshare(flags: int) -> None:
    """Move this process, or its next child for the pid namespace, into new namespaces. Raises OSError."""
    if _libc.unshare(ctypes.c_int(flags)) < 0:
        raise _error()


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that `fd` stands for; a pid namespace, with the next child only. Raises OSError."""
    if _libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)) < 0:
        raise _error()


def drop_capabilities() -> None:
    """Empty the permitted, effective and inheritable sets of the calling thread. Raises OSError."""
    header = _CapabilityHeader(version=_CAPABILITY_VERSION_3, pid=0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(nothing)) < 0:
        raise _error()


def close_from(first: int, last: int = _MAX_FD) -> None:
    """Close the descriptors `first` to `last`. Straight to the kernel: os.closerange of a Python that was built against
    an old glibc closes one by one, up to a million."""
    if first <= last:
        syscall(SYS_CLOSE_RANGE, first, last, 0)


def exit_on(number: signal.Signals) -> None:
    """Let a signal end this process with exit code `number`, from C: it works while Python hangs in an extension.

    Not SIG_DFL: the kernel drops signals with the default action for pid 1 of a namespace, which a worker is.
    """
    _libc.signal(number, ctypes.cast(_libc._exit, ctypes.c_void_p))


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))

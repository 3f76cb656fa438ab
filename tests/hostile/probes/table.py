"""The table of probes, and how a probe calls the kernel past every wrapper of libc."""

import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Targets: TypeAlias = dict[str, Any]
"""What there is to attack: paths, pids, a port. See `targets` in `conftest`."""
Attempt: TypeAlias = Callable[[Targets], object]

X86_64 = os.uname().machine == "x86_64"
NUMBERS = {
    "socket": (41, 198), "connect": (42, 203), "sendmsg": (46, 211), "clone": (56, 220), "vfork": (58, -1),
    "execve": (59, 221), "ptrace": (101, 117), "rt_sigqueueinfo": (129, 138), "personality": (135, 92),
    "shmget": (29, 194), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "ioprio_set": (251, 30), "unshare": (272, 97), "perf_event_open": (298, 241), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "setns": (308, 268), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "sched_setattr": (314, 274), "memfd_create": (319, 279), "bpf": (321, 280),
    "execveat": (322, 281), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "open_tree": (428, 428),
    "fsopen": (430, 430), "clone3": (435, 435), "pidfd_getfd": (438, 438),
}  # fmt: skip
"""System call numbers on x86_64 and aarch64 (-1: it has none)."""

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt. `needs_root`: an ordinary user is refused outside the sandbox as well, so there is no control.

    `denials` are the errors that count as a denial. `attack`: its worker is ended instead,
    and the plugin quarantined for this system call.
    `is_offered_by_some`: not every kernel offers it to anybody. `layer` is all that refuses it, where the host has it.
    """

    attempt: Attempt
    needs_root: bool
    denials: tuple[int, ...]
    attack: str | None
    is_offered_by_some: bool
    layer: str | None


PROBES: dict[str, Probe] = {}


def probe(
    *,
    needs_root: bool = False,
    denials: tuple[int, ...] = (errno.EPERM, errno.EACCES),
    attack: str | None = None,
    is_offered_by_some: bool = False,
    layer: str | None = None,
    is_there: bool = True,
) -> Callable[[Attempt], Attempt]:
    """Put a function into the table, unless this architecture has no such thing (`is_there`)."""

    def register(attempt: Attempt) -> Attempt:
        if is_there:
            PROBES[attempt.__name__] = Probe(attempt, needs_root, denials, attack, is_offered_by_some, layer)
        return attempt

    return register


def raw(name: str, *arguments: int | bytes | None) -> int:
    """A system call by its number."""
    number = NUMBERS[name][0 if X86_64 else 1]
    passed = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    return checked(int(libc.syscall(ctypes.c_long(number), *passed)))


def checked(result: int) -> int:
    """What a libc function returned, or its errno as an OSError."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def run_machine_code(code: str) -> int:
    """Call a function written in hex; an `int`."""
    memory = mmap.mmap(
        -1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    )
    memory.write(bytes.fromhex(code))
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))())


def in_vain(why: str) -> PermissionError:
    """For a call that was answered with success and did nothing: as good as denied."""
    return PermissionError(errno.EPERM, f"in vain: {why}")

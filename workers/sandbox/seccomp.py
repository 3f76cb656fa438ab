"""seccomp: the allowlist of `syscalls` as a BPF program, loaded for all threads at once (TSYNC).

Everything else is refused with EPERM: an author gets an error with a traceback, and the supervisor a log line through
the notify fd that `load` returns. Two things kill: code of a foreign architecture, because its numbers mean other
calls, and the few calls that mean an attack (`protocol.attacks`). Those the supervisor ends by name; the filter itself
kills for them only where nobody listens. The zygote compiles the program once; a worker only fills in two numbers.
"""

import ctypes
import errno
import os
import sys
from functools import cache
from typing import Any, Final

from protocol.attacks import ATTACKS
from protocol.zygote import Layer, LayerReport
from workers.sandbox import libc
from workers.sandbox.errors import SandboxRefusedError
from workers.sandbox.layers import REMEDY, missing
from workers.sandbox.syscalls import ALLOWED, SILENT, conditional

try:
    import pyseccomp as _library
except RuntimeError:  # libseccomp.so.2 is not installed: then `load` refuses, and `doctor` says so
    _library = None

_SET_MODE_FILTER: Final = 1
_FLAG_TSYNC: Final = 1 << 0
_FLAG_NEW_LISTENER: Final = 1 << 3
_FLAG_TSYNC_ESRCH: Final = 1 << 4
_INSTRUCTION_BYTES: Final = 8
_ALLOW: Final = 0x7FFF_0000
_OWN_PID_MARK: Final = 0xA5C3_96E1
_BIRTH_FD_MARK: Final = 0xB6D4_87F2


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def load(own_pid: int, birth_fd: int) -> tuple[int | None, tuple[LayerReport, ...]]:
    """Bind all threads of this process for good. Returns the notify fd (None where there is none) and the reports.

    From here on a refused call waits until the holder of the notify fd answers, or until nobody holds it.
    Raises SandboxRefusedError where there is no libseccomp for this machine, OSError otherwise.
    """
    try:
        program = _fill_in(compile_program(), own_pid, birth_fd)
        notify_fd = _install(program, _FLAG_TSYNC | _FLAG_TSYNC_ESRCH | _FLAG_NEW_LISTENER)
    except OSError as error:
        # EINVAL: an old libseccomp. EBUSY: a container manager listens already, and the kernel takes one listener only.
        if error.errno not in {errno.EINVAL, errno.EBUSY}:
            raise
        program = _fill_in(compile_program(is_notified=False), own_pid, birth_fd)
        if _install(program, _FLAG_TSYNC) != 0:
            raise OSError(errno.EAGAIN, "a thread could not be bound to the seccomp filter") from error
        return None, (_report(program), missing(Layer.SECCOMP_NOTIFY, os.strerror(error.errno)))
    notified = LayerReport(layer=Layer.SECCOMP_NOTIFY, is_applied=True, detail="denied calls are logged by name")
    return notify_fd, (_report(program), notified)


@cache
def compile_program(*, is_notified: bool = True, architecture: int | None = None) -> bytes:
    """The filter as BPF with two marks in it (2 ms), by default for this machine. Not within RLIMIT_FSIZE.

    Raises SandboxRefusedError where there is no libseccomp for this machine, OSError where it has no notifications.
    """
    if _library is None or libc.SYS_SECCOMP < 0:
        raise SandboxRefusedError(Layer.SECCOMP, f"no filter can be built; {REMEDY[Layer.SECCOMP]}")
    native = _library.system_arch()
    target = native if architecture is None else architecture
    program = _library.SyscallFilter(_library.NOTIFY if is_notified else _library.ERRNO(errno.EPERM))
    program.set_attr(_library.Attr.ACT_BADARCH, _library.KILL_PROCESS)
    if target != native:
        program.add_arch(target)
        program.remove_arch(native)

    def add(action: int, name: str, *comparisons: object) -> None:
        if _library.resolve_syscall(target, name) >= 0:  # negative: this architecture does not have it
            program.add_rule(action, name, *comparisons)

    for names in ALLOWED.values():
        for name in names:
            add(_ALLOW, name)
    for name, number in SILENT.items():
        add(_library.ERRNO(number), name)
    if not is_notified:  # else the name would be lost with the process
        for name in sorted(ATTACKS):
            add(_library.KILL_PROCESS, name)
    for rule in conditional(_OWN_PID_MARK, _BIRTH_FD_MARK):
        add(_ALLOW, rule.name, *(_library.Arg(c.index, _library.MASKED_EQ, c.mask, c.value) for c in rule.comparisons))
    return _export(program)


def _fill_in(program: bytes, own_pid: int, birth_fd: int) -> bytes:
    """Put the worker's numbers where the marks are: the constants that comparisons of the program compare with."""
    for mark, number in ((_OWN_PID_MARK, own_pid), (_BIRTH_FD_MARK, birth_fd)):
        program = program.replace(mark.to_bytes(4, sys.byteorder), number.to_bytes(4, sys.byteorder))
    return program


def _export(program: Any) -> bytes:
    with os.fdopen(os.memfd_create("seccomp"), "rb") as file:
        program.export_bpf(file)
        file.seek(0)
        return bytes(file.read())


def _install(program: bytes, flags: int) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    description = _Program(length=len(program) // _INSTRUCTION_BYTES, instructions=ctypes.addressof(instructions))
    return libc.syscall(libc.SYS_SECCOMP, _SET_MODE_FILTER, flags, ctypes.addressof(description))


def _report(program: bytes) -> LayerReport:
    calls = sum(map(len, ALLOWED.values()))
    detail = f"{calls} calls allowed, others by argument ({len(program) // _INSTRUCTION_BYTES} instructions)"
    return LayerReport(layer=Layer.SECCOMP, is_applied=True, detail=detail)

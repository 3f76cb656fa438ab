"""What the http process may still do once it listens: talk on the connections that it has, and those that come in.

A seccomp allowlist: no file is opened, no socket made, nobody connected to, no program started, no process looked into.
So the bytes of strangers that take it over are worth what a caller without a key may ask. Fails closed.
"""

import errno
from typing import Final

from runnerd.errors import RunnerdError
from runnerd.process import forbid_new_privileges

try:
    import pyseccomp as _library
except RuntimeError:  # libseccomp.so.2 is not installed
    _library = None

ALLOWED: Final = (
    # Connections, and waiting for them.
    "accept", "accept4", "read", "readv", "write", "writev", "recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown",
    "close", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select",
    "pselect6", "getsockname", "getpeername", "getsockopt", "setsockopt", "fcntl", "ioctl", "eventfd2",
    # Memory, and threads that are there already.
    "brk", "mmap", "munmap", "mremap", "madvise", "mprotect", "futex", "futex_waitv", "sched_yield", "membarrier",
    "set_robust_list", "rseq", "sched_getaffinity",
    # Time, chance, signals, itself.
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "getrandom",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "restart_syscall", "getpid",
    "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrusage", "uname", "sysinfo", "fstat", "lseek",
    "exit", "exit_group",
)  # fmt: skip


class NotConfined(RunnerdError):
    """The http process cannot be confined: install libseccomp2, or set `http.enabled = false`."""


def confine() -> None:
    """Bind all threads of this process for good. Raises NotConfined."""
    if _library is None:
        raise NotConfined("libseccomp is not installed: apt install libseccomp2, or set http.enabled = false")
    try:
        forbid_new_privileges()
        program = _library.SyscallFilter(_library.ERRNO(errno.EPERM))
        program.set_attr(_library.Attr.ACT_BADARCH, _library.KILL_PROCESS)
        program.set_attr(_library.Attr.CTL_TSYNC, 1)
        architecture = _library.system_arch()
        for name in ALLOWED:
            if _library.resolve_syscall(architecture, name) >= 0:  # negative: this architecture does not have it
                program.add_rule(_library.ALLOW, name)
        program.load()
    except OSError as error:
        raise NotConfined(f"seccomp: {error.strerror}") from error

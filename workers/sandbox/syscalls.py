"""The system calls of a worker, as data: what CPython 3.11–3.14, asyncio, threads, ZeroMQ, numpy and pandas need.

A call that is not here is refused (see `seccomp`). To add one, name who needs it and what hostile code can do with it.
Legacy x86_64 names (`open`, `stat`, …) have no number on aarch64 and are skipped there.
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "files: Landlock decides which can be opened; none can be made": (
        *("open", "openat", "close", "close_range", "read", "readv", "pread64", "preadv", "lseek"),
        *("stat", "lstat", "fstat", "newfstatat", "statx", "access", "faccessat", "faccessat2"),
        *("readlink", "readlinkat", "getdents64", "getcwd", "dup"),
        # ZeroMQ removes its socket file when it closes; Landlock lets it remove nothing else.
        *("unlink", "unlinkat"),
    ),
    "output: stdout, stderr, eventfds": ("write", "writev"),
    "memory": ("brk", "munmap", "mprotect", "mremap", "madvise"),
    "threads": (
        *("futex", "set_robust_list", "rseq", "set_tid_address", "gettid", "exit", "exit_group"),
        *("sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler"),
        *("sched_get_priority_min", "sched_get_priority_max"),
    ),
    "signals: handlers and masks of its own": (
        *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigsuspend", "rt_sigtimedwait"),
        *("sigaltstack", "restart_syscall", "pause"),
    ),
    "time": (
        *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times"),
        *("setitimer", "getitimer", "alarm", "timerfd_create", "timerfd_settime", "timerfd_gettime"),
    ),
    "waiting": (
        *("poll", "ppoll", "select", "pselect6", "eventfd2"),
        *("epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2"),
    ),
    "the link: the I/O thread accepts the supervisor's dial": (
        *("accept", "accept4", "getsockname", "getpeername", "shutdown"),
    ),
    "itself": (
        *("getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups"),
        *("getpgid", "getpgrp", "getsid", "getrusage", "getrlimit", "getcpu", "uname", "sysinfo"),
    ),
    "random numbers": ("getrandom",),
}

SILENT: Final[Mapping[str, int]] = {
    # glibc creates threads through clone3 and falls back to clone, whose flags a filter can see (ADR 0007).
    "clone3": errno.ENOSYS,
    # Every thread of ZeroMQ begins with setting the policy that it has anyway, and aborts if that fails. 0: "done".
    "sched_setscheduler": 0,
    # OpenBLAS would like its memory near its threads, and does not look whether it got that.
    "mbind": errno.ENOSYS,
}
"""Not carried out, answered with what callers know how to live with, and not worth a log line."""

INT: Final = 0xFFFF_FFFF
"""Mask of an `int` argument: the kernel ignores the upper half of the register, so the filter does."""
POINTER: Final = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Compare:
    """True if argument number `index`, reduced to the bits of `mask`, is `value`."""

    index: int
    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` is allowed when all comparisons hold."""

    name: str
    comparisons: tuple[Compare, ...]


_CLONE_THREAD: Final = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000  # VM, FS, FILES, SIGHAND, THREAD
_CLONE_OPTIONS: Final = 0x40000 | 0x80000 | 0x100000 | 0x200000 | 0x400000 | 0x1000000  # SYSVSEM, SETTLS, tid addresses
_MAP_TYPE: Final = 0x0F
_MAP_SHARED: Final = 0x01
_MAP_PRIVATE: Final = 0x02
_MAP_ANONYMOUS: Final = 0x20
_MAP_GROWSDOWN: Final = 0x100
_AF_UNIX: Final = 1
_SOCK_STREAM: Final = 1
_SOCK_TYPE: Final = 0x0F
_MSG_PEEK: Final = 0x02
_MSG_DONTWAIT: Final = 0x40
_MSG_WAITALL: Final = 0x100
_MSG_NOSIGNAL: Final = 0x4000
_SOL_SOCKET: Final = 1
_RLIMIT_NOFILE: Final = 7
_PRIO_PROCESS: Final = 0

_IOCTLS: Final = (
    *(0x5421, 0x541B, 0x5450, 0x5451),  # FIONBIO, FIONREAD, FIONCLEX, FIOCLEX
    *(0x5401, 0x802C542A, 0x5413),  # TCGETS, TCGETS2, TIOCGWINSZ: "is this a terminal, how wide is it"
)
_FCNTLS: Final = (0, 1, 2, 3, 4, 1030)  # DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC. SETOWN could signal others
_PRCTLS: Final = (15, 16, 0x53564D41, 23)  # SET_NAME, GET_NAME, SET_VMA: names; CAPBSET_READ: libcap, when it is loaded
_SOCKET_OPTIONS_READ: Final = (3, 4, 7, 8, 17, 30, 38, 39)
"""TYPE, ERROR, SNDBUF, RCVBUF, PEERCRED (ZeroMQ asks it of whoever dials), ACCEPTCONN, PROTOCOL, DOMAIN"""


def conditional(own_pid: int, birth_fd: int) -> tuple[Rule, ...]:
    """Calls that are harmless with some arguments only."""
    return (
        # New threads, never new processes or namespaces.
        Rule("clone", (Compare(0, POINTER & ~_CLONE_OPTIONS, _CLONE_THREAD),)),
        # Private memory, which RLIMIT_DATA counts (but not stacks that grow), and shared files, which cost nothing.
        Rule("mmap", (Compare(3, _MAP_TYPE | _MAP_GROWSDOWN, _MAP_PRIVATE),)),
        Rule("mmap", (Compare(3, _MAP_TYPE | _MAP_ANONYMOUS, _MAP_SHARED),)),
        *(Rule(name, (Compare(0, INT, own_pid),)) for name in ("kill", "tgkill")),
        *(Rule("ioctl", (Compare(1, INT, request),)) for request in _IOCTLS),
        *(Rule("fcntl", (Compare(1, INT, command),)) for command in _FCNTLS),
        *(Rule("prctl", (Compare(0, INT, option),)) for option in _PRCTLS),
        Rule("getpriority", (Compare(0, INT, _PRIO_PROCESS), Compare(1, INT, 0))),  # its own
        # Reading its own limits; and `rlimits.limit_fds`, which can only lower what is left.
        Rule("prlimit64", (Compare(0, INT, 0), Compare(2, POINTER, 0))),
        Rule("prlimit64", (Compare(0, INT, 0), Compare(1, INT, _RLIMIT_NOFILE))),
        # A pair for asyncio.run in a thread. Streams only: a datagram socket can be sent to any address on the host.
        Rule("socketpair", (Compare(0, INT, _AF_UNIX), Compare(1, _SOCK_TYPE, _SOCK_STREAM))),
        # No address, and none of the exotic flags: MSG_OOB on unix sockets was a way out of sandboxes (CVE-2025-38236).
        Rule("sendto", (Compare(3, INT & ~(_MSG_NOSIGNAL | _MSG_DONTWAIT), 0), Compare(4, POINTER, 0))),
        Rule("recvfrom", (Compare(3, INT & ~(_MSG_PEEK | _MSG_DONTWAIT | _MSG_WAITALL | _MSG_NOSIGNAL), 0),)),
        # No SO_PEERPIDFD, no socket filters.
        *(
            Rule("getsockopt", (Compare(1, INT, _SOL_SOCKET), Compare(2, INT, option)))
            for option in _SOCKET_OPTIONS_READ
        ),
        # One descriptor may be passed on, the notify fd, through the birth socket. That lies at the first number beyond
        # RLIMIT_NOFILE: once it is closed nothing can ever have this number again.
        Rule("sendmsg", (Compare(0, INT, birth_fd),)),
    )

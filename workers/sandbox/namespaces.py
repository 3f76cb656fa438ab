"""New user, network, pid, IPC and UTS namespaces: no network (not even loopback), no process to signal or trace.

The zygote descends into a user, a pid and a network namespace once. There it may make a pid namespace for each child
without any privilege on the host; the child makes the others for itself. The network is one for all workers: nobody is
in it but they, it is empty, and it belongs to the zygote, so that no worker has a right to change that; one for each
would be 0.8 ms of every start. No mount namespace: with nothing mounted in it, it would hide no file that Landlock does
not refuse. Called by `workers.zygote` and `workers.birth`, never with threads about.
"""

import os
import platform
from typing import Final

from protocol.zygote import Layer, LayerReport
from workers.sandbox import libc, proc

_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000

_FINE: Final = "fine"

APPLIED: Final = LayerReport(layer=Layer.NAMESPACES, is_applied=True, detail="user, network, pid, ipc, uts")


def descend() -> int:
    """Go on as pid 1 of a new pid namespace, in new user and network namespaces. Returns the pid of the guardian.

    That is the process that called this: it stays behind, does nothing, and ends as its child ends. When the child
    ends the kernel kills every process in the namespace. Raises OSError where the host refuses.
    """
    _enter(_CLONE_NEWUSER | _CLONE_NEWPID | _CLONE_NEWNET)
    guardian = os.getpid()
    child = os.fork()
    if child == 0:
        return guardian
    libc.close_from(0)  # whoever waits for the end of a socket waits for the child's alone
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        os.kill(guardian, os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def fork_as_pid_1() -> int:
    """`os.fork`, but the child begins a pid namespace of its own. Only after `descend`. Raises OSError."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.unshare(_CLONE_NEWPID)
        pid = os.fork()
        if pid:
            libc.setns(own, _CLONE_NEWPID)  # for the next child, which could else begin none
        return pid
    finally:
        os.close(own)


def enter() -> None:
    """In the child: a user namespace of its own, and with it no right to the zygote's network, no IPC and no host name.

    Raises OSError.
    """
    _enter(_CLONE_NEWUSER | _CLONE_NEWIPC | _CLONE_NEWUTS)


def find_obstacle() -> str | None:
    """Why workers cannot have namespaces on this host, or None: tried out in a child, because there is no way back."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _attempt(write_end)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return None if said == _FINE else said or "the attempt ended without a word"


def _attempt(answer: int) -> None:
    try:
        descend()
        child = fork_as_pid_1()
        if child:
            os.waitpid(child, 0)
        else:
            enter()
            os.write(answer, _FINE.encode())
    except OSError as error:
        os.write(answer, f"Linux {platform.release()} refuses: {error.strerror}".encode())
    finally:
        os._exit(0)


def _enter(flags: int) -> None:
    """The caller stays who it was: one user and one group are mapped, each to itself."""
    uid, gid = os.geteuid(), os.getegid()
    libc.unshare(flags)
    proc.write("self/uid_map", f"{uid} {uid} 1")
    proc.write("self/setgroups", "deny")  # or an unprivileged gid_map is refused
    proc.write("self/gid_map", f"{gid} {gid} 1")

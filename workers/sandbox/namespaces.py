"""New user, network, pid, IPC and UTS namespaces: no interfaces (not even loopback), no other process in sight.

No mount namespace: with nothing mounted in it, it would hide no file that Landlock does not refuse, and copying the
host's mount table is the costliest part on a host with many mounts. Called by `workers.birth`, before any thread.
"""

import os
import platform
from pathlib import Path
from typing import Final

from protocol.zygote import Layer, LayerReport
from workers.sandbox import libc

_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000
_ALL: Final = _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWPID | _CLONE_NEWIPC | _CLONE_NEWUTS

APPLIED: Final = LayerReport(layer=Layer.NAMESPACES, is_applied=True, detail="user, network, pid, ipc, uts")


def enter() -> None:
    """Enter them; the pid namespace begins with the *next child*. Raises OSError where the host refuses.

    The caller stays who it was: one user and one group are mapped, each to itself.
    """
    uid, gid = os.geteuid(), os.getegid()
    libc.unshare(_ALL)
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")  # or an unprivileged gid_map is refused
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")


def find_obstacle() -> str | None:
    """Why workers cannot have namespaces on this host, or None: tried out in a child, because there is no way back.

    Single-threaded callers only (it forks).
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _attempt(write_end)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as answer:
        obstacle = answer.read()
    os.waitpid(child, 0)
    return obstacle or None


def _attempt(write_end: int) -> None:
    try:
        enter()
        first = os.fork()
        if first == 0:
            os._exit(0)
        os.waitpid(first, 0)
    except OSError as error:
        os.write(write_end, f"Linux {platform.release()} refuses: {error}".encode())
    finally:
        os._exit(0)

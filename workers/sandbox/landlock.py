"""Landlock: which files a worker can open, and no TCP, no abstract unix sockets, no signals to others.

Binds the calling thread and what it starts later, so it comes before the ZeroMQ context. It cannot refuse `connect()`
to a named unix socket (seccomp does), nor `stat()`. Kernel interface: linux/landlock.h, landlock(7).
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from functools import cache
from typing import Final

from protocol.zygote import Layer, LayerReport
from workers.sandbox import libc
from workers.sandbox.errors import SandboxRefusedError
from workers.sandbox.layers import REMEDY, missing

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_FILE: Final = 1 << 5
_MAKE_SOCK: Final = 1 << 9

_FS_RIGHTS: Final = ((1, (1 << 13) - 1), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
"""(ABI that brought them, rights): all are handled, that is refused unless a rule grants them."""
_NET_ABI: Final = 4
_NET_RIGHTS: Final = 0b11  # bind and connect TCP
_SCOPE_ABI: Final = 6
_SCOPES: Final = 0b11  # abstract unix sockets, signals

_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


@cache
def find_abi() -> int:
    """The Landlock ABI of this kernel; 0 where it is missing or switched off."""
    try:
        return libc.syscall(libc.SYS_LANDLOCK_CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def apply(*, readable: Iterable[str], extra: Iterable[str], socket_dir: str | None) -> tuple[LayerReport, ...]:
    """Confine the calling thread for good. `readable` is what all workers share, `extra` the plugin's own code.

    Raises SandboxRefusedError without Landlock, or when a path of `extra` cannot be granted; OSError otherwise.
    """
    abi = find_abi()
    if not abi:
        raise SandboxRefusedError(Layer.LANDLOCK, f"this kernel has no Landlock; {REMEDY[Layer.LANDLOCK]}")
    ruleset = _create_ruleset(abi)
    for path in readable:
        _allow(ruleset, path, _READ_FILE | _READ_DIR)
    _allow(ruleset, os.devnull, _READ_FILE | _WRITE_FILE)
    for name in extra:
        try:
            _allow(ruleset, name, _READ_FILE | _READ_DIR)
        except OSError as error:
            raise SandboxRefusedError(Layer.LANDLOCK, f"cannot let the plugin read {name}: {error.strerror}") from error
    if socket_dir is not None:
        _allow(ruleset, socket_dir, _MAKE_SOCK | _REMOVE_FILE)
    libc.syscall(libc.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return _reports(abi)


def _create_ruleset(abi: int) -> int:
    attributes = _RulesetAttributes(
        fs=sum(rights for since, rights in _FS_RIGHTS if abi >= since),
        net=_NET_RIGHTS if abi >= _NET_ABI else 0,
        scoped=_SCOPES if abi >= _SCOPE_ABI else 0,
    )
    # An older kernel accepts the longer structure as long as what it does not know is zero.
    return libc.syscall(libc.SYS_LANDLOCK_CREATE_RULESET, ctypes.addressof(attributes), ctypes.sizeof(attributes), 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _READ_FILE | _WRITE_FILE  # rights that only make sense for a directory are EINVAL on a file
        rule = _PathBeneath(allowed=rights, parent_fd=fd)
        libc.syscall(libc.SYS_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(fd)


def _reports(abi: int) -> tuple[LayerReport, ...]:
    files = LayerReport(layer=Layer.LANDLOCK, is_applied=True, detail=f"ABI {abi}")
    network = (
        LayerReport(layer=Layer.LANDLOCK_NETWORK, is_applied=True, detail="no TCP bind, no TCP connect")
        if abi >= _NET_ABI
        else missing(Layer.LANDLOCK_NETWORK, f"Landlock ABI {abi}, needs {_NET_ABI}")
    )
    scopes = (
        LayerReport(layer=Layer.LANDLOCK_SCOPES, is_applied=True, detail="no signals, no abstract unix sockets")
        if abi >= _SCOPE_ABI
        else missing(Layer.LANDLOCK_SCOPES, f"Landlock ABI {abi}, needs {_SCOPE_ABI}")
    )
    return files, network, scopes

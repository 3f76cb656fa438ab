"""A zygote whose workers lack layers of the sandbox: `weak_zygote.py LAYER,LAYER,… FD SUPERVISOR_PID`.

For `prove`, and for tests of one layer by itself. Each layer's functions are replaced by ones that do nothing and say
that all is well: the worker is started all the same. There is no such switch in the program itself. `--probe` after
the layers: its workers run a probe instead of a plugin (`tests.support.probe_zygote`).
"""

import errno
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from protocol.zygote import Layer, LayerReport
from workers import inherited, zygote
from workers.sandbox import cpu, descriptors, landlock, namespaces, privileges, rlimits, seccomp

LANDLOCK = (Layer.LANDLOCK, Layer.LANDLOCK_NETWORK, Layer.LANDLOCK_SCOPES)
CLEAN_START = "clean_start"
PROBE_ZYGOTE = Path(__file__).resolve().parents[1] / "support/probe_zygote.py"


def main() -> None:
    """Weaken, and be the zygote."""
    layers = set(sys.argv.pop(1).split(",")) - {""}
    for layer in layers:
        WITHOUT[layer]()
    if layers.issuperset(LANDLOCK):  # the kernel refuses a ruleset of nothing
        landlock.apply = lambda **_: tuple(map(_pretend, LANDLOCK))
    if sys.argv[1] == "--probe":
        sys.argv.pop(1)
        runpy.run_path(str(PROBE_ZYGOTE), run_name="__main__")
    else:
        zygote.main()


def _pretend(layer: Layer) -> LayerReport:
    return LayerReport(layer=layer, is_applied=True, detail="removed for a test")


def _no_files() -> None:
    landlock._FS_RIGHTS = ()  # type: ignore[assignment, misc]
    landlock._allow = lambda *_: None


def _no_network_rules() -> None:
    landlock._NET_RIGHTS = 0  # type: ignore[misc]


def _no_scopes() -> None:
    landlock._SCOPES = 0  # type: ignore[misc]


def _no_seccomp() -> None:
    seccomp.load = lambda **_: (None, (_pretend(Layer.SECCOMP), _pretend(Layer.SECCOMP_NOTIFY)))


def _no_notification() -> None:
    install = seccomp._install

    def refuse(program: bytes, flags: int) -> int:
        if flags & seccomp._FLAG_NEW_LISTENER:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return install(program, flags)

    seccomp._install = refuse


def _no_namespaces() -> None:
    supervisor = int(sys.argv[-1])
    namespaces.find_obstacle = lambda: None
    namespaces.descend = lambda: supervisor
    namespaces.fork_as_pid_1 = os.fork
    namespaces.enter = lambda: None


def _no_privileges() -> None:
    privileges.apply = lambda: _pretend(Layer.PRIVILEGES)


def _no_limits() -> None:
    rlimits.apply = lambda *_, **__: _pretend(Layer.RLIMITS)
    rlimits.limit_fds = lambda count: None
    cpu.take_place = lambda scheduling: None


def _no_clean_start() -> None:
    descriptors.keep_only = lambda fd: None
    inherited._set_environment = lambda: None


WITHOUT: dict[str, Callable[[], None]] = {
    Layer.LANDLOCK: _no_files,
    Layer.LANDLOCK_NETWORK: _no_network_rules,
    Layer.LANDLOCK_SCOPES: _no_scopes,
    Layer.SECCOMP: _no_seccomp,
    Layer.SECCOMP_NOTIFY: _no_notification,
    Layer.NAMESPACES: _no_namespaces,
    Layer.PRIVILEGES: _no_privileges,
    Layer.RLIMITS: _no_limits,
    CLEAN_START: _no_clean_start,
}

if __name__ == "__main__":
    main()

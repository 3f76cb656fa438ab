"""What every worker may read: the interpreter's library, installed packages, shared libraries, time zones. Nothing of
the operator's.

An editable install puts a whole repository on `sys.path`: of that, only the packages `workers` and `protocol` count.
"""

import site
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Final

import protocol
import workers

_SYSTEM: Final = (
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",  # where the dynamic loader finds libraries that an extension module needs
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/urandom",
)


@cache
def runtime_paths() -> tuple[str, ...]:
    """Existing files and directories, none inside another. The zygote computes them once, for all workers."""
    schemes = sysconfig.get_paths()
    candidates = {
        *_SYSTEM,
        *(schemes[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        str(Path(sys.base_prefix) / "lib"),  # libpython, and what conda and standalone builds ship beside it
        *workers.__path__,
        *protocol.__path__,
    }
    existing = {resolved for path in candidates if (resolved := Path(path).resolve()).exists()}
    return tuple(sorted(str(path) for path in existing if existing.isdisjoint(path.parents)))

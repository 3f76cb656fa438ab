"""What all workers have in common, set up once in the zygote before the first fork, so that they share its pages.

Every object that a worker looks at for the first time is a page that the kernel copies for it. So what can be done
here is done here: modules (those that `workers.loop` imports; keep them few), environment, signals, streams, and the
rehearsal of a worker's life.
"""

import faulthandler
import gc
import io
import os
import signal
import sys
from contextlib import suppress
from typing import Final

from workers import log_handler
from workers.compaction import compact
from workers.rehearsal import rehearse
from workers.sandbox import landlock, libc, readable, seccomp
from workers.sandbox.errors import SandboxRefusedError

ENVIRONMENT: Final = {
    "LANG": "C.UTF-8",
    # Numeric libraries start a thread per core when they are imported: in many workers that is many times the cores.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""The whole environment of a worker: nothing of the host's reaches a plugin."""

UNREHEARSED: Final = ("workers.birth", "workers.sandbox", "workers.zygote", "workers.lifeline")
"""What runs between the fork and the import of the plugin, and cannot run twice."""

REHEARSALS: Final = 10
"""After that CPython has made of the bytecode what it will."""


HOLES: Final = ((range(48, 513, 16), 128 << 10), (range(4096, 512, -64), 16 << 10))
"""Sizes of objects, and how many bytes of each are filled in. First pymalloc's classes (`Objects/obmalloc.c`), from the
smallest that a bytes object fits into, then those of malloc. More gains nothing; half of it is 0.2 MiB a worker."""

_HEADER: Final = sys.getsizeof(b"")
_BALLAST: Final[list[bytes]] = []


def prepare() -> None:
    """Do once what every worker would do by itself, then put all of it out of the garbage collector's sight: a
    collection in a worker would write to every page, and so copy it."""
    _set_environment()
    _reset_signals()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    sys.dont_write_bytecode = True
    log_handler.install()
    landlock.find_abi()
    readable.runtime_paths()
    # Both here, called as `seccomp.load` calls them, for the cache: a worker may write no file any more, not even the
    # one in memory that libseccomp writes to. Where one cannot be made, each worker reports it, with the reason.
    with suppress(SandboxRefusedError, OSError):
        seccomp.compile_program()
    with suppress(SandboxRefusedError, OSError):
        seccomp.compile_program(is_notified=False)
    compact(rehearse, UNREHEARSED)
    # Its generator would give the same numbers in all workers. A plugin that imports it gets one of its own.
    sys.modules.pop("random", None)
    _forget_lookups()
    for _ in range(REHEARSALS):
        rehearse()
    gc.collect()
    _fill_holes()
    gc.freeze()


def _forget_lookups() -> None:
    """Empty CPython's cache of attribute lookups. The imports have filled it with names that no worker looks up: each
    that a worker's own name takes the place of is a name to be released, on a page that nobody else would write to."""
    with suppress(AttributeError):
        sys._clear_type_cache()  # gone from some version on


def _fill_holes() -> None:
    """Fill what is free between the zygote's objects, for good: a worker's first objects of each size would go there,
    one to a page that it would otherwise share. Now they lie side by side on pages of its own."""
    for sizes, amount in HOLES:
        for size in sizes:
            _BALLAST.extend(bytes(size - _HEADER) for _ in range(amount // size))


def _set_environment() -> None:
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(ENVIRONMENT)


def _reset_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        signal.signal(number, signal.SIG_DFL)
    for fatal in (signal.SIGTERM, signal.SIGABRT):
        libc.exit_on(fatal)
    # On SIGABRT it writes the stack of every thread to stderr, then lets the handler before it run: exit_on.
    faulthandler.enable()

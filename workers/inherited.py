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

REHEARSALS: Final = 10
"""After that CPython has made of the bytecode what it will."""


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
    for _ in range(REHEARSALS):
        rehearse()
    gc.collect()
    gc.freeze()


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

"""A worker's first milliseconds: from the fork into the locked sandbox, in the order of DESIGN §5, and on to its loop.

Owns the order and the one message to the supervisor, Born or Refused; each layer is a file of `workers.sandbox`.
Called by `workers.zygote` in the forked child. Until `run` is called not one line of plugin code has run.
"""

import asyncio
import faulthandler
import io
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

import zmq
from setproctitle import setproctitle

from protocol.limits import LINK_HWM, MAX_FRAME_BYTES
from protocol.zygote import (
    Born,
    Layer,
    LayerReport,
    LoopSettings,
    PluginSource,
    Refused,
    Spawn,
    encode,
    send_packet,
)
from workers.sandbox import descriptors, landlock, layers, libc, namespaces, privileges, readable, rlimits, seccomp
from workers.sandbox.errors import SandboxRefusedError

Run: TypeAlias = Callable[["zmq.Socket[bytes]", asyncio.AbstractEventLoop, PluginSource, LoopSettings], None]
"""What a worker does with its life: `workers.loop.run`."""

ENVIRONMENT: Final = {
    "LANG": "C.UTF-8",
    # Numeric libraries start a thread per core when they are imported: in many workers that is many times the cores.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""The whole environment of a worker: nothing of the host's reaches a plugin."""

_ADOPTION_DEADLINE_MS: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Newborn:
    """What the zygote gives to a forked child. `obstacle`: why this host has no namespaces, if it has none."""

    spawn: Spawn
    birth_fd: int
    stdout_fd: int
    stderr_fd: int
    pid_pipe: int
    zygote_pid: int
    obstacle: str | None


def be_born(newborn: Newborn, run: Run) -> NoReturn:
    """Live and die as a worker. Whatever happens, the process ends here and never returns into the zygote's stack."""
    status = 1
    try:
        _live(newborn, run)
        status = 0
    except BaseException:  # plugin code ran below: it may raise anything, and the traceback is all that is left of it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        # Not sys.exit: the interpreter would wait for threads that the plugin left behind.
        os._exit(status)


def _live(newborn: Newborn, run: Run) -> None:
    spawn = newborn.spawn
    descriptors.arrange(
        birth=newborn.birth_fd,
        stdout=newborn.stdout_fd,
        stderr=newborn.stderr_fd,
        pid_pipe=newborn.pid_pipe,
        birth_slot=spawn.limits.max_fds,
    )
    with socket.socket(fileno=spawn.limits.max_fds) as birth:
        try:
            isolation = _isolate(newborn)
            _become(f"worker: {spawn.plugin} #{spawn.generation}")
            link, loop, notify_fd, reports = _lock(spawn, isolation)
            layers.validate(reports, spawn.sandbox)
        except SandboxRefusedError as refusal:
            send_packet(birth, encode(Refused(layer=refusal.layer, reason=refusal.reason)))
            return
        send_packet(birth, encode(Born(layers=reports)), [] if notify_fd is None else [notify_fd])
    if notify_fd is not None:
        os.close(notify_fd)
    rlimits.limit_fds(spawn.limits.max_fds)
    run(link, loop, spawn.code, spawn.loop)


def _isolate(newborn: Newborn) -> LayerReport:
    """Enter the namespaces where policy and host allow, tell the zygote the worker's pid, and die with the zygote.

    A pid namespace begins with the next child, so with namespaces this returns in a grandchild of the zygote. The
    zygote is a subreaper: it adopts the grandchild when the process between them exits, at once.
    """
    is_wanted = newborn.spawn.sandbox.namespaces != "off"
    obstacle = newborn.obstacle if is_wanted else "switched off in the configuration"
    _die_with(newborn.zygote_pid)
    if obstacle is None:
        namespaces.enter()
        between = os.pidfd_open(os.getpid())
        grandchild = os.fork()
        if grandchild:
            os.write(descriptors.PID_SLOT, str(grandchild).encode())
            os._exit(0)
        _await_exit(between)
        _die_with(newborn.zygote_pid)
    else:
        os.write(descriptors.PID_SLOT, str(os.getpid()).encode())
    os.close(descriptors.PID_SLOT)
    return namespaces.APPLIED if obstacle is None else layers.missing(Layer.NAMESPACES, obstacle)


def _await_exit(pidfd: int) -> None:
    """Wait until a process is a zombie: by then its children have their new parent."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_ADOPTION_DEADLINE_MS):
        raise TimeoutError("the process between zygote and worker did not exit")
    os.close(pidfd)


def _die_with(parent: int) -> None:
    """Be killed when `parent` dies, also if that happens right now.

    The order makes it sure: a dying process first gives its children a new parent and then looks for their death
    signal, so who still sees the old parent *after* asking for the signal will get it. The parent's pid comes from
    /proc, because getppid() is 0 for a parent outside the pid namespace.
    """
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    seen = int(Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    if seen != parent:
        raise ProcessLookupError(f"the zygote {parent} is gone, the parent is {seen}")


def _become(title: str) -> None:
    """A session, an environment, signals and a name of its own."""
    os.setsid()
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        signal.signal(number, signal.SIG_DFL)
    for fatal in (signal.SIGTERM, signal.SIGABRT):
        libc.exit_on(fatal)
    # On SIGABRT it writes the stack of every thread to stderr, then lets the handler before it run: exit_on.
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    sys.dont_write_bytecode = True
    setproctitle(title)


def _lock(
    spawn: Spawn, isolation: LayerReport
) -> tuple["zmq.Socket[bytes]", asyncio.AbstractEventLoop, int | None, tuple[LayerReport, ...]]:
    """Close the sandbox around this process and return what was made on the way: the link, the loop, the notify fd."""
    limits = rlimits.apply(spawn.limits, is_counted_alone=isolation.is_applied)
    rlimits.be_first_to_go()
    privileged = privileges.apply()
    files = landlock.apply(readable=readable.runtime_paths(), extra=spawn.read_paths, socket_dir=spawn.link_dir)
    if spawn.limits.scheduling == "idle":
        rlimits.take_idle_time_only()
    # The context's threads start here: they inherit all of the above, and TSYNC binds them to what follows.
    link = _bind(spawn.link_address)
    loop = asyncio.new_event_loop()
    notify_fd, filters = seccomp.load(own_pid=os.getpid(), birth_fd=spawn.limits.max_fds)
    return link, loop, notify_fd, (limits, isolation, privileged, *files, *filters)


def _bind(address: str) -> "zmq.Socket[bytes]":
    """The worker's end of the link. The supervisor dials; a worker never connects to anything."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    link = context.socket(zmq.DEALER)
    link.setsockopt(zmq.LINGER, 0)
    link.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    link.setsockopt(zmq.SNDHWM, LINK_HWM)
    link.setsockopt(zmq.RCVHWM, LINK_HWM)
    link.bind(address)
    return link

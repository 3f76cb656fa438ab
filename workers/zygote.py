"""The zygote: a small, single-threaded process with the SDK imported, from which every worker is forked.

Started by `runnerd.supervisor.zygote` as `python -I -m workers.zygote FD SUPERVISOR_PID`. It forks on request, reaps
and reports; it holds no secret, runs no plugin code and decides nothing. `workers.birth` has what happens in the child.
"""

import gc
import importlib
import os
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from setproctitle import setproctitle

from protocol.zygote import (
    Exited,
    FromZygote,
    NotSpawned,
    Ready,
    Spawned,
    close_all,
    decode_to_zygote,
    encode,
    receive_packet,
    send_packet,
)
from workers.birth import Newborn, Run, be_born
from workers.loop import run as run_plugin
from workers.sandbox import landlock, libc, namespaces, readable, seccomp
from workers.sandbox.errors import SandboxRefusedError

PRELOAD: Final = ("asyncio", "msgspec", "zmq", "workers.loader", "workers.loop", "workers.sdk")
"""Imported before the first fork, so that all workers share the pages. Keep it small, and free of threads."""

_MAX_PID_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class _Child:
    """A process of ours that is not reaped yet; until then its pid is its own."""

    worker: str
    pid: int
    pidfd: int


class Zygote:
    """Serves one supervisor over `control`, until that closes its end. `obstacle`: why there are no namespaces."""

    def __init__(self, control: socket.socket, obstacle: str | None) -> None:
        self._control = control
        self._obstacle = obstacle
        self._pid = os.getpid()
        self._pidfds: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._is_done = False

    def serve(self) -> Newborn | None:
        """Returns None when the supervisor is gone; and, once in each forked child, what that child shall become."""
        self._watch(self._control.fileno(), self._on_request)
        self._report(Ready(pid=self._pid))
        while not self._is_done:
            for key, _ in self._selector.select():
                newborn: Newborn | None = key.data()
                if newborn is not None:
                    self._forget()
                    return newborn
        self._kill_all()
        return None

    def _forget(self) -> None:
        """In a child: let go of the objects that would close descriptors later, when other things have the numbers."""
        self._selector.close()
        self._control.close()

    def _kill_all(self) -> None:
        for pidfd in self._pidfds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    # --- a worker's way: request, fork, its pid, (the exit of the process between,) its exit -----------------------

    def _on_request(self) -> Newborn | None:
        try:
            packet, fds = receive_packet(self._control)
        except ConnectionResetError:
            packet, fds = b"", ()
        if not packet:
            self._is_done = True
            return None
        request = decode_to_zygote(packet)
        birth_fd, stdout_fd, stderr_fd = fds
        read_end, write_end = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            close_all([*fds, read_end, write_end])
            self._report(NotSpawned(worker=request.worker, reason=f"fork: {error.strerror}"))
            return None
        if pid == 0:
            return Newborn(
                spawn=request,
                birth_fd=birth_fd,
                stdout_fd=stdout_fd,
                stderr_fd=stderr_fd,
                pid_pipe=write_end,
                zygote_pid=self._pid,
                obstacle=self._obstacle,
            )
        close_all([*fds, write_end])
        child = self._adopt(request.worker, pid)
        self._watch(read_end, partial(self._on_pid, child, read_end))
        return None

    def _on_pid(self, child: _Child, pipe: int) -> None:
        """The child says which process is the worker: itself, or its own child in a pid namespace."""
        text = os.read(pipe, _MAX_PID_DIGITS)
        self._unwatch(pipe)
        if not text or int(text) == child.pid:  # nothing: it ended before it could say
            worker = child
            self._watch(child.pidfd, partial(self._on_exit, child))
        else:
            worker = self._adopt(child.worker, int(text))
            # Only after its parent's exit is the worker ours to wait for.
            self._watch(child.pidfd, partial(self._on_adoption, child, worker))
        if text:
            self._report(Spawned(worker=worker.worker, pid=worker.pid), worker.pidfd)

    def _on_adoption(self, between: _Child, worker: _Child) -> None:
        self._reap(between)
        self._watch(worker.pidfd, partial(self._on_exit, worker))

    def _on_exit(self, worker: _Child) -> None:
        status, usage = self._reap(worker)
        self._report(
            Exited(
                worker=worker.worker,
                status=os.waitstatus_to_exitcode(status),
                max_rss_bytes=usage.ru_maxrss << 10,
                cpu_s=round(usage.ru_utime + usage.ru_stime, 6),
            )
        )

    def _adopt(self, worker: str, pid: int) -> _Child:
        child = _Child(worker=worker, pid=pid, pidfd=os.pidfd_open(pid))
        self._pidfds.add(child.pidfd)
        return child

    def _reap(self, child: _Child) -> tuple[int, resource.struct_rusage]:
        _, status, usage = os.wait4(child.pid, 0)
        self._pidfds.discard(child.pidfd)
        self._unwatch(child.pidfd)
        return status, usage

    # --- plumbing --------------------------------------------------------------------------------------------------

    def _report(self, report: FromZygote, *fds: int) -> None:
        try:
            send_packet(self._control, encode(report), fds)
        except (BrokenPipeError, ConnectionResetError):
            self._is_done = True

    def _watch(self, fd: int, callback: Callable[[], Newborn | None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _unwatch(self, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)


def main(run: Run = run_plugin) -> None:
    """The process. `run` is what its workers do once they are locked in."""
    control_fd, supervisor_pid = int(sys.argv[1]), int(sys.argv[2])
    setproctitle("runnerd: zygote")
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor_pid:  # it died before it could be tied to us
        return
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a pidfd for each worker
    _prepare()
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    newborn = Zygote(control, namespaces.find_obstacle()).serve()
    if newborn is not None:
        be_born(newborn, run)


def _prepare() -> None:
    """Do once what every worker would do by itself, then put all of it out of the garbage collector's sight: a
    collection in a worker would write to every page and so copy it (4-6 MiB private instead of 7, FACTS)."""
    for module in PRELOAD:
        importlib.import_module(module)
    landlock.find_abi()
    readable.runtime_paths()
    with suppress(SandboxRefusedError, OSError):  # each worker reports it, with the reason
        seccomp.compile_program()
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main()

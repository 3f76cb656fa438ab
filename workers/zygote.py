"""The zygote: a small, single-threaded process with the SDK imported, from which every worker is forked.

Started by `runnerd.supervisor.zygote` as `python -I -m workers.zygote FD SUPERVISOR_PID`. It forks on request, reaps
and reports; it holds no secret, runs no plugin code and decides nothing. `workers.birth` has what happens in the child.
"""

from workers import forks  # isort: skip

if __name__ == "__main__":
    forks.ignore()  # before the imports below

# isort: split
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
    Spawn,
    Spawned,
    close_all,
    decode_to_zygote,
    encode,
    receive_packet,
    send_packet,
)
from workers import inherited
from workers.birth import Embryo, Run, be_born
from workers.lifeline import die_with, find_own_pid
from workers.loop import run as run_plugin
from workers.sandbox import cpu, namespaces

QUIET_S: Final = 0.02
"""A spare is made when nothing has happened for this long: workers that are being born have the CPU to themselves."""


@dataclass(slots=True, eq=False)
class _Child:
    """A worker to be; `worker` is its name once it was asked for. Until it is reaped its pid is its own."""

    pid: int
    pidfd: int
    channel: socket.socket
    has_namespaces: bool
    worker: str | None = None


class Zygote:
    """Serves one supervisor over `control`, until that closes its end. `obstacle`: why there are no namespaces.

    It keeps one spare child, forked and in its namespaces, so that a request waits only for what is the worker's own.
    """

    def __init__(self, control: socket.socket, obstacle: str | None, run: Run) -> None:
        self._control = control
        self._run = run
        self._obstacle = obstacle
        self._pid = find_own_pid()
        self._spare: _Child | None = None
        self._is_spare_wanted = True
        self._is_done = False
        self._children: set[_Child] = set()
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Returns when the supervisor is gone. A forked child lives and ends inside of it, see `be_born`."""
        self._watch(self._control.fileno(), self._on_request)
        self._report(Ready())
        while not self._is_done:
            events = self._selector.select(QUIET_S if self._is_spare_wanted else None)
            if not events:
                self._make_spare()
            for key, _ in events:
                key.data()
        for child in self._children:
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)

    # --- a request ---------------------------------------------------------------------------------------------------

    def _on_request(self) -> None:
        try:
            packet, fds = receive_packet(self._control)
        except ConnectionResetError:
            packet, fds = b"", ()
        if not packet:
            self._is_done = True
            return
        request = decode_to_zygote(packet)
        try:
            child = self._child_for(request)
            send_packet(child.channel, packet, fds)
        except OSError as error:
            self._report(NotSpawned(worker=request.worker, reason=f"no process for it: {error.strerror}"))
        else:
            child.worker = request.worker
            child.channel.close()
            self._report(Spawned(worker=request.worker), child.pidfd)
        finally:
            close_all(fds)
        self._is_spare_wanted = self._spare is None

    def _child_for(self, request: Spawn) -> _Child:
        has_namespaces = self._obstacle is None and request.sandbox.namespaces != "off"
        if self._spare is not None and self._spare.has_namespaces == has_namespaces:
            child, self._spare = self._spare, None
            return child
        return self._fork(None if has_namespaces else self._obstacle or "switched off in the configuration")

    def _make_spare(self) -> None:
        # Once per request: a spare that dies young is not replaced for ever and ever.
        self._is_spare_wanted = False
        with suppress(OSError):  # the next request meets the same, and is told
            self._spare = self._fork(self._obstacle)

    # --- a child's way: fork, exit ---------------------------------------------------------------------------------

    def _fork(self, obstacle: str | None) -> _Child:
        """Raises OSError. In the child it does not return.

        There this stack stays as it is, below the worker's, so that nothing of the zygote's is given up: an object
        that closed its descriptor later would close what has the number then. And each page that unwinding it would
        write to is a page more for every worker.
        """
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = namespaces.fork_as_pid_1() if obstacle is None else os.fork()
            except OSError:
                channel.close()
                raise
            if pid == 0:
                be_born(Embryo(channel=theirs, zygote_pid=self._pid, obstacle=obstacle), self._run)
        child = _Child(pid=pid, pidfd=os.pidfd_open(pid), channel=channel, has_namespaces=obstacle is None)
        self._children.add(child)
        self._watch(child.pidfd, partial(self._on_exit, child))
        return child

    def _on_exit(self, child: _Child) -> None:
        _, status, usage = os.wait4(child.pid, 0)
        self._selector.unregister(child.pidfd)
        self._children.discard(child)
        os.close(child.pidfd)
        if child.worker is None:  # a spare: nobody has heard of it
            child.channel.close()
            self._spare = None if child is self._spare else self._spare
            return
        self._report(
            Exited(
                worker=child.worker,
                status=os.waitstatus_to_exitcode(status),
                max_rss_bytes=usage.ru_maxrss << 10,
                cpu_s=round(usage.ru_utime + usage.ru_stime, 6),
            )
        )

    # --- plumbing --------------------------------------------------------------------------------------------------

    def _report(self, report: FromZygote, *fds: int) -> None:
        try:
            send_packet(self._control, encode(report), fds)
        except (BrokenPipeError, ConnectionResetError):
            self._is_done = True

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)


def main(run: Run = run_plugin) -> None:
    """The process. `run` is what its workers do once they are locked in."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    setproctitle("runnerd: zygote guardian")
    die_with(int(sys.argv[2]))
    cpu.yield_by_session()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a pidfd for each worker
    obstacle = namespaces.find_obstacle()
    if obstacle is None:
        die_with(namespaces.descend())
    setproctitle("runnerd: zygote")
    inherited.prepare()
    Zygote(control, obstacle, run).serve()


if __name__ == "__main__":
    main()

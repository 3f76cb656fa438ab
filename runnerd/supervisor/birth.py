"""One worker's birth as the supervisor sees it: the pipes and the socket it lends to the child, and what comes of them.

Owns the descriptors until the worker is born, then hands them over in a `BornWorker`. Used by `zygote`, which feeds it
the zygote's reports; whoever starts workers catches the errors.
"""

import asyncio
import os
import signal
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from protocol.errors import ProtocolError
from protocol.zygote import (
    Born,
    Exited,
    LayerReport,
    Refused,
    Spawn,
    Unfit,
    close_all,
    decode_from_birth,
    receive_packet,
)
from runnerd.errors import RunnerdError
from runnerd.supervisor.last_words import last_words

PIPE_BYTES: Final = 65_536
STDERR_TAIL: Final = 2_000


class BirthRefused(RunnerdError):
    """This host lacks a layer of the sandbox that the plugin may not run without; starting it again changes nothing.

    The reason says what to do; `runnerctl doctor` shows all layers.
    """

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(f"{layer} is missing: {reason}")
        self.layer = layer
        self.reason = reason


class CodeRefused(RunnerdError):
    """What the plugin's table names (its code, `pin`, `venv` or `python`) is not there, or is not what it should be.

    Nothing of it has run, and starting it again changes nothing until one of the two is changed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BirthFailed(RunnerdError):
    """The worker died or hung before its sandbox was closed: no plugin code has run. A restart may help."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ZygoteGone(BirthFailed):
    """There is no zygote, or it died during the birth: no plugin is to blame. A new zygote is started by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BornWorker:
    """A locked-in worker whose link is bound. Signals go through `pidfd`; `pid` is for display.

    The descriptors are the caller's: `stdout_fd`, `stderr_fd` (read ends, nonblocking) and `notify_fd` belong to
    whoever reads them, `close` gives back the pidfd. `exited` is done when the zygote has reaped the worker, and
    cancelled if the zygote goes first (the worker dies with it).
    """

    id: str
    pid: int
    pidfd: int
    stdout_fd: int
    stderr_fd: int
    notify_fd: int | None
    layers: tuple[LayerReport, ...]
    digest: str
    """Of its code, taken before any of that ran."""
    link_address: str
    exited: asyncio.Future[Exited] = field(repr=False)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal; a worker that is dead already is fine."""
        _signal(self.pidfd, number)

    def close(self) -> None:
        """Give back the pidfd: no signal can be sent any more."""
        os.close(self.pidfd)

    def close_pipes(self) -> None:
        """For a caller that cannot read it: close what `close` leaves open."""
        close_all([self.stdout_fd, self.stderr_fd, *([] if self.notify_fd is None else [self.notify_fd])])


class Birth:
    """From the request until the worker is born, or is known not to be.

    What settles it comes in any order: the message on the birth socket, and the zygote's reports.
    """

    def __init__(self, request: Spawn) -> None:
        """Raises OSError when this process is out of descriptors."""
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._message: Born | Refused | Unfit | None = None
        self._pidfd: int | None = None
        self._failure = "nothing was heard of it"
        self._has_lost_zygote = False
        self._notify_fd: int | None = None
        self._is_closed = False
        self.exited: asyncio.Future[Exited] = self._loop.create_future()
        with ExitStack() as undo:
            self._socket, child_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self._socket.close)
            undo.callback(child_socket.close)
            self._stdout_fd, child_stdout = os.pipe()
            undo.callback(close_all, [self._stdout_fd, child_stdout])
            self._stderr_fd, child_stderr = os.pipe()
            undo.callback(close_all, [self._stderr_fd, child_stderr])
            cgroup_fds = _open_cgroup(request.cgroup)
            undo.pop_all()
        self.lent_fds: tuple[int, ...] = (child_socket.detach(), child_stdout, child_stderr, *cgroup_fds)
        """The child's ends, in the order of `Spawn`: birth socket, stdout, stderr, and its cgroup if it has one."""
        self._owned_fds = [self._stdout_fd, self._stderr_fd]
        self._socket.setblocking(False)
        os.set_blocking(self._stdout_fd, False)
        os.set_blocking(self._stderr_fd, False)
        self._loop.add_reader(self._socket.fileno(), self._read)

    @property
    def is_born(self) -> bool:
        """Locked in, and its process is known."""
        return isinstance(self._message, Born) and self._pidfd is not None

    async def outcome(self) -> BornWorker:
        """Wait until it is settled. Raises BirthRefused, CodeRefused, BirthFailed, ZygoteGone; call `close` anyway."""
        await self._settled
        match self._message, self._pidfd:
            case Refused() as refused, _:
                raise BirthRefused(refused.layer, refused.reason)
            case Unfit() as unfit, _:
                raise CodeRefused(unfit.reason)
            case Born() as born, int() as pidfd:
                self._owned_fds.clear()
                return BornWorker(
                    id=self._request.worker,
                    pid=_pid_of(pidfd),
                    pidfd=pidfd,
                    stdout_fd=self._stdout_fd,
                    stderr_fd=self._stderr_fd,
                    notify_fd=self._notify_fd,
                    layers=born.layers,
                    digest=born.digest,
                    link_address=self._request.link_address,
                    exited=self.exited,
                )
            case _:
                tail = self._stderr_tail()
                failed = ZygoteGone if self._has_lost_zygote else BirthFailed
                raise failed(f"{self._failure}; stderr ends: {tail}" if tail else self._failure)

    def take_back(self) -> None:
        """Close the child's ends: the zygote has its copies, and only the child's exit shall end the pipes."""
        close_all(self.lent_fds)
        self.lent_fds = ()

    def close(self) -> None:
        """Close all that was not handed over, and kill the process if there is one that nobody got."""
        self._is_closed = True
        self.take_back()
        self._stop_reading()
        if self._owned_fds and self._pidfd is not None:
            _signal(self._pidfd, signal.SIGKILL)
        close_all(self._owned_fds)
        self._owned_fds.clear()

    # --- what the zygote reports -----------------------------------------------------------------------------------

    def on_spawned(self, pidfd: int) -> None:
        """The process exists. If nobody waits for it any more, it is killed."""
        if self._is_closed:
            _signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
            return
        self._pidfd = pidfd
        self._owned_fds.append(pidfd)
        self._settle_if(self.is_born)

    def on_exited(self, report: Exited) -> None:
        """The process is gone. What it said before still counts."""
        self._read()
        self.fail(f"{report.describe()} before its sandbox was closed")
        if not self.exited.done():  # who waited for it was cancelled
            self.exited.set_result(report)

    def on_zygote_end(self, reason: str) -> None:
        """The zygote is gone, and the process with it."""
        self._has_lost_zygote = not self._settled.done()
        self.fail(reason)
        self.exited.cancel()

    def fail(self, reason: str) -> None:
        """It will not be born any more, unless it is already."""
        if not self._settled.done():
            self._failure = reason
            self._settled.set_result(None)

    # --- what the child says ---------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            packet, fds = receive_packet(self._socket)
            message = decode_from_birth(packet) if packet else None
        except BlockingIOError:
            return
        except (ProtocolError, ConnectionResetError) as error:
            self.fail(f"its first message cannot be read: {error}")
            return
        self._stop_reading()
        self._message = message
        self._owned_fds.extend(fds)
        self._notify_fd = fds[0] if fds else None
        self._settle_if(self.is_born or isinstance(message, Refused | Unfit))

    def _settle_if(self, is_complete: bool) -> None:
        if is_complete and not self._settled.done():
            self._settled.set_result(None)

    def _stop_reading(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _stderr_tail(self) -> str:
        try:
            written = os.read(self._stderr_fd, PIPE_BYTES)
        except BlockingIOError:
            return ""
        return last_words(written.decode(errors="replace").strip().splitlines())[:STDERR_TAIL]


def _open_cgroup(directory: str | None) -> tuple[int, ...]:
    return () if directory is None else (os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC),)


def _signal(pidfd: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _pid_of(pidfd: int) -> int:
    """As this host sees it, whatever namespace the process lives in; -1 once it is reaped."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text("ascii").splitlines())
    return int(fields["Pid"])

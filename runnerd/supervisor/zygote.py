"""The supervisor's handle on the zygote process: starts it, asks it for workers, hears of their exits, ends it.

Owns the process, its control socket and the births under way (`birth`); knows nothing of plugins, links or restarts.
If the zygote dies every worker dies with it: `on_death` says so once, and whoever made this object makes a new one.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Self, assert_never

from protocol.errors import ProtocolError
from protocol.zygote import (
    Exited,
    FromZygote,
    NotSpawned,
    Ready,
    Spawn,
    Spawned,
    close_all,
    decode_from_zygote,
    describe_status,
    encode,
    receive_packet,
    send_packet,
)
from runnerd.errors import RunnerdError
from runnerd.log import fields
from runnerd.supervisor.birth import Birth, BirthFailed, BirthRefused, BornWorker, CodeRefused, ZygoteGone

__all__ = ["BirthFailed", "BirthRefused", "BornWorker", "CodeRefused", "Zygote", "ZygoteFailed", "ZygoteGone"]

logger = logging.getLogger("runnerd.zygote")

ENVIRONMENT: Final = {"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1"}
"""All that the zygote knows of ours. One malloc arena: each more costs every worker 0.4 MiB, for threads that wait."""
PROGRAM: Final = ("-m", "workers.zygote")
STDERR_TAIL_BYTES: Final = 2_000
PIPE_BYTES: Final = 65_536
GONE: Final = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF)
"""What asking a zygote that has ended, or is just dying, comes to."""


class ZygoteFailed(RunnerdError):
    """The zygote did not come up, so no plugin can be started. The reason ends with what it wrote to stderr."""


class Zygote:
    """A running zygote; made by `start`. All methods belong to one event loop.

    The thread of that loop must live as long as the zygote: the kernel ends the zygote with the thread that started it.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        stderr_fd: int,
        on_exit: Callable[[Exited], None],
        on_death: Callable[[str], None],
    ) -> None:
        self._process = process
        self._control = control
        self._stderr_fd = stderr_fd
        self._on_exit = on_exit
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(process.pid)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._births: dict[str, Birth] = {}
        self._sending = asyncio.Lock()
        self._is_stopping = False
        self._broken: str | None = None
        self._stderr_tail = b""
        self._loop.add_reader(control.fileno(), self._on_packet)
        self._loop.add_reader(stderr_fd, self._on_stderr)
        self._loop.add_reader(self._pidfd, self._on_end)

    @classmethod
    async def start(
        cls,
        *,
        on_exit: Callable[[Exited], None],
        on_death: Callable[[str], None],
        python: str = sys.executable,
        program: Sequence[str] = PROGRAM,
        deadline_s: float = 10.0,
    ) -> Self:
        """Start the process and wait until it serves. Raises ZygoteFailed.

        `on_exit` is called once for every worker that was born, when it is reaped; that may be before the awaiting
        `spawn` has returned. `on_death` is called once if the zygote ends unasked; then no `on_exit` follows.
        """
        zygote = cls(*_execute([python, "-I", *program]), on_exit, on_death)
        try:
            async with asyncio.timeout(deadline_s):
                await zygote._ready
        except TimeoutError as error:
            raise ZygoteFailed(zygote._with_last_words(f"the zygote is not ready after {deadline_s:g} s")) from error
        finally:
            if not zygote._ready.done() or zygote._ready.cancelled():
                await zygote.stop()
        return zygote

    @property
    def pid(self) -> int:
        """For display."""
        return self._process.pid

    async def spawn(self, request: Spawn, deadline_s: float) -> BornWorker:
        """Ask for a worker and wait until it is locked in. A `plugin#generation` can be asked for once.

        Raises BirthRefused, CodeRefused, BirthFailed, ZygoteGone; then no process and no descriptor is left behind.
        """
        if request.worker in self._births:
            raise ValueError(f"{request.worker} exists already: every start is a new generation")
        try:
            birth = Birth(request)
        except OSError as error:
            raise BirthFailed(f"no pipes for it: {error.strerror}") from error
        try:
            async with asyncio.timeout(deadline_s):
                await self._ask(request, birth)
                return await birth.outcome()
        except TimeoutError as error:
            raise BirthFailed(f"not born within {deadline_s:g} s") from error
        finally:
            birth.close()

    async def stop(self, deadline_s: float = 5.0) -> None:
        """End the zygote and with it every worker, and wait for it. Does nothing if it has ended."""
        if self._ended.done():
            return
        self._is_stopping = True
        with suppress(OSError):  # ENOTCONN: it is just dying
            self._control.shutdown(socket.SHUT_WR)
        if not await self._has_ended_within(deadline_s):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            await self._has_ended_within(deadline_s)

    async def _has_ended_within(self, deadline_s: float) -> bool:
        done, _ = await asyncio.wait([self._ended], timeout=deadline_s)
        return bool(done)

    # --- asking ----------------------------------------------------------------------------------------------------

    async def _ask(self, request: Spawn, birth: Birth) -> None:
        async with self._sending:
            while True:
                try:
                    send_packet(self._control, encode(request), birth.lent_fds)
                except BlockingIOError:
                    await self._writable()
                except (OSError, ProtocolError) as error:
                    is_gone = isinstance(error, OSError) and error.errno in GONE
                    failed = ZygoteGone if is_gone else BirthFailed
                    raise failed(f"the zygote cannot be asked: {error}") from error
                else:
                    break
        # Registered in the same step of the loop as it was sent, before any report can be read.
        self._births[request.worker] = birth
        birth.take_back()

    async def _writable(self) -> None:
        woken: asyncio.Future[None] = self._loop.create_future()
        fd = self._control.fileno()
        self._loop.add_writer(fd, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            self._loop.remove_writer(fd)

    # --- what it reports -------------------------------------------------------------------------------------------

    def _on_packet(self) -> None:
        try:
            packet, fds = receive_packet(self._control)
            if packet:
                self._on_report(decode_from_zygote(packet), fds)
                return
        except BlockingIOError:
            return
        except ConnectionResetError:
            pass
        except ProtocolError as error:
            self._broken = str(error)
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._loop.remove_reader(self._control.fileno())  # the pidfd tells the rest

    def _on_report(self, report: FromZygote, fds: tuple[int, ...]) -> None:
        match report:
            case Ready():
                if not self._ready.done():  # nobody waits any more when the start was given up
                    self._ready.set_result(None)
            case Spawned(worker=worker):
                self._births[worker].on_spawned(*fds)
            case NotSpawned(worker=worker, reason=reason):
                self._births.pop(worker).fail(reason)
            case Exited(worker=worker):
                birth = self._births.pop(worker)
                birth.on_exited(report)
                if birth.is_born:
                    self._on_exit(report)
            case _:
                assert_never(report)

    # --- its end ---------------------------------------------------------------------------------------------------

    def _on_stderr(self) -> None:
        try:
            written = os.read(self._stderr_fd, PIPE_BYTES)
        except BlockingIOError:
            return
        self._stderr_tail = (self._stderr_tail + written)[-STDERR_TAIL_BYTES:]
        for line in written.decode(errors="replace").splitlines():
            logger.warning("zygote: %s", line, extra=fields("zygote_stderr"))
        if not written:
            self._loop.remove_reader(self._stderr_fd)

    def _on_end(self) -> None:
        self._on_stderr()
        status = self._process.wait()
        for fd in (self._control.fileno(), self._stderr_fd, self._pidfd):
            self._loop.remove_reader(fd)
        self._control.close()
        close_all([self._stderr_fd, self._pidfd])
        reason = self._with_last_words(f"the zygote ended: {self._broken or describe_status(status)}")
        births, self._births = self._births, {}
        for birth in births.values():
            birth.on_zygote_end(reason)
        self._ended.set_result(None)
        if not self._ready.done():
            self._ready.set_exception(ZygoteFailed(reason))
        elif not self._is_stopping:
            self._on_death(reason)

    def _with_last_words(self, text: str) -> str:
        words = self._stderr_tail.decode(errors="replace").strip()
        return f"{text}; its stderr ends: {words}" if words else text


def _execute(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], socket.socket, int]:
    """Run the zygote; returns the process, our end of the control socket and the read end of its stderr."""
    control, inherited = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stderr_fd, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            [*command, str(inherited.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=write_end,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            pass_fds=[inherited.fileno()],
        )
    except OSError as error:
        control.close()
        os.close(stderr_fd)
        raise ZygoteFailed(f"{command[0]} cannot be started: {error.strerror}") from error
    finally:
        inherited.close()
        os.close(write_end)
    control.setblocking(False)
    os.set_blocking(stderr_fd, False)
    return process, control, stderr_fd

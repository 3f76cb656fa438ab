"""One generation of one worker, from birth to its end: process, link, handshake, output, pings and the way it is ended.

It reports messages, refusal and end to its host. Whether and when a new generation starts is not its affair.
"""

import asyncio
import logging
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from protocol.messages import FromWorker, Hello, LogRecord, Message, Ping, Pong, Refused, Stop
from protocol.zygote import Exited, LayerReport, Spawn
from runnerd.errors import explain
from runnerd.log import fields
from runnerd.supervisor.birth import BirthFailed, BirthRefused, BornWorker, CodeRefused, ZygoteGone
from runnerd.supervisor.bounds import Bounds
from runnerd.supervisor.denials import Denials
from runnerd.supervisor.last_words import last_words
from runnerd.supervisor.link import Link
from runnerd.supervisor.output import Output
from runnerd.supervisor.patience import Deadline
from runnerd.supervisor.starvation import Watch
from runnerd.supervisor.worker_log import REPORT_DROPPED_S, WorkerLog

logger = logging.getLogger("runnerd.worker")

PING_EVERY_S = 20.0
PONG_DEADLINE_S = 10.0
ABORT_S = 1.0
"""Between SIGABRT, which makes faulthandler write the stacks, and SIGKILL."""


class Birthplace(Protocol):
    """Where workers are born: the zygote."""

    async def spawn(self, request: Spawn, deadline_s: float) -> BornWorker: ...


@dataclass(frozen=True, slots=True)
class Listener:
    """What a worker's host wants to hear. `on_end` comes once, last, with the reason in words.

    `on_attack`: it was killed for this system call, or by the kernel ("SIGSYS").
    """

    on_hello: Callable[[Hello], None]
    on_message: Callable[[FromWorker], None]
    on_refused: Callable[[str], None]
    on_end: Callable[[str], None]
    on_denied: Callable[[str], None]
    on_attack: Callable[[str], None]


DEAF = Listener(*[lambda _: None] * 6)
"""Of a worker that has ended: there is nothing more to hear."""


class Worker:
    """One worker. `start` gives birth to it; it ends by itself, or by `stop`, `abort` or `kill` (before birth too)."""

    def __init__(self, request: Spawn, listener: Listener, bounds: Bounds | None = None) -> None:
        self.plugin = request.plugin
        self.generation = request.generation
        self.layers: tuple[LayerReport, ...] = ()
        self.pid = 0
        self.digest = ""
        self.is_lost = False
        self.watch = Watch()
        self._request = request
        self._listener = listener
        self._bounds = bounds or Bounds()
        self._loop = asyncio.get_running_loop()
        self._born: BornWorker | None = None
        self._link: Link | None = None
        self._outputs: list[Output] = []
        self._denials: Denials | None = None
        self._timers: dict[str, asyncio.TimerHandle | Deadline] = {}
        self._end_reason: str | None = None
        self._stop_at: float | None = None
        self._is_gone = False
        self._is_aborted = False
        self._has_ended = False
        self._has_said_hello = False
        self._log = WorkerLog(request.plugin, request.generation, self._bounds.limits)
        self._pings = 0

    @property
    def id(self) -> str:
        """`plugin#generation`: the name under which the zygote reports it."""
        return f"{self.plugin}#{self.generation}"

    async def start(self, birthplace: Birthplace, hello_deadline_s: float) -> None:
        """Be born, dial the link and wait for Hello (by callback). Reports `on_refused` or `on_end` when it fails."""
        self._expect("hello", hello_deadline_s, lambda: self.kill(f"no Hello within {hello_deadline_s:g} s"))
        try:
            Path(self._request.link_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._request = self._bounds.prepare(self._request)
            born = await birthplace.spawn(self._request, hello_deadline_s)
        except BirthRefused as refusal:
            self._listener.on_refused(f"sandbox refused: {refusal}")
            self._finish(f"sandbox refused: {refusal}")
        except CodeRefused as refusal:
            self._listener.on_refused(refusal.reason)
            self._finish(refusal.reason)
        except (BirthFailed, OSError) as failure:
            self.is_lost = isinstance(failure, ZygoteGone)
            self._finish(f"could not be started: {failure}")
        except Exception as error:  # a defect of ours must not leave the plugin in `starting` for ever
            self._finish(self._internal_error(error))
        else:
            self._adopt(born)

    def _adopt(self, born: BornWorker) -> None:
        """It is born: dial it and read its pipes, or end it if it was ended meanwhile, or cannot be dialled."""
        self._born, self.pid, self.layers, self.digest = born, born.pid, born.layers, born.digest
        self.watch.pid = born.pid
        born.exited.add_done_callback(self._on_exited)
        self._arm("dropped", REPORT_DROPPED_S, self._report_dropped)
        try:
            if self._is_gone:
                self._signal(signal.SIGKILL)
            else:
                self._link = Link(born.link_address, self._hear, self._on_link_broken, self._bounds.noise)
                self._bounds.watch(born.pid, self.kill)
            self._outputs = [
                Output(born.stdout_fd, self._log.limit, lambda line: self._log.printed(logging.INFO, line)),
                Output(born.stderr_fd, self._log.limit, lambda line: self._log.printed(logging.WARNING, line)),
            ]
            if born.notify_fd is not None:
                self._denials = Denials(
                    born.notify_fd, self._on_denial, self._on_denial_flood, self._on_attack, noise=self._bounds.noise
                )
        except Exception as error:  # out of descriptors, for instance
            for fd in (born.stdout_fd, born.stderr_fd):
                self._loop.remove_reader(fd)
            self._outputs = []
            born.close_pipes()
            self.kill(self._internal_error(error))

    def _internal_error(self, error: Exception) -> str:
        logger.error(
            "%s cannot be started", self.id, exc_info=error,
            extra=fields("worker_start_failed", plugin=self.plugin, generation=self.generation),
        )  # fmt: skip
        return explain(error)

    def send(self, message: Message) -> None:
        """Send a message on the link."""
        if self._link is not None:
            self._link.send(message)

    def send_frame(self, frame: bytes) -> None:
        """Send an encoded message on the link."""
        if self._link is not None:
            self._link.send_frame(frame)

    def stop(self, grace_s: float) -> None:
        """Ask it to finish its calls and leave; end it when the grace has passed. The first call sets the end of the
        grace; a later one says it again, for a worker that could not hear it before its Hello.
        """
        self._end_reason = self._end_reason or "commanded stop"
        if self._stop_at is None:
            self._stop_at = self._loop.time() + grace_s
            self._expect("stop", grace_s + ABORT_S, lambda: self.kill("did not stop within its grace"))
        self.send(Stop(grace_ms=max(0, int((self._stop_at - self._loop.time()) * 1000))))

    def abort(self, reason: str) -> None:
        """End it, but let it write its stacks to stderr first, and log. What else it sends now comes too late."""
        self._is_gone = self._is_aborted = True
        self._end_reason = self._end_reason or reason
        self._signal(signal.SIGABRT)
        self._expect("abort", ABORT_S, lambda: self.kill(reason))

    def kill(self, reason: str) -> None:
        """End it now. Nothing that it has sent counts any more."""
        self._is_gone = True
        self._end_reason = self._end_reason or reason
        if self._link is not None:
            self._link.close()
        self._signal(signal.SIGKILL)

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, or is being ended: what is sent to it now will not be answered."""
        return self._is_gone

    def _on_exited(self, exited: "asyncio.Future[Exited]") -> None:
        self._is_gone = True
        if exited.cancelled():
            # The zygote is gone, and so is this worker: by PDEATHSIG, and here once more to be sure.
            self._signal(signal.SIGKILL)
            self.is_lost = True
            self._finish("the zygote died")
            return
        end = exited.result()
        how = end.describe()
        if end.status == -signal.SIGSYS:  # the filter itself kills for calls of another architecture
            self._on_attack("SIGSYS")
        reason = self._end_reason or self._bounds.find_excess()
        self._finish(f"{reason} ({how})" if reason else how)

    @property
    def denials(self) -> Mapping[str, int]:
        """Denied system calls of this generation, by name."""
        return self._log.denials

    @property
    def last_words(self) -> str:
        """What it wrote to stderr before it ended, in one line."""
        return last_words(self._outputs[1].tail) if self._outputs else ""

    # --- what comes from it ------------------------------------------------------------------------------------------

    def _hear(self, message: FromWorker) -> None:
        """From the link. What goes wrong on our side ends this worker: half a handshake would leave it for ever."""
        try:
            self._on_message(message)
        except Exception as error:
            logger.exception(
                "%s of %s cannot be handled", type(message).__name__, self.id,
                extra=fields("message_failed", plugin=self.plugin, generation=self.generation),
            )  # fmt: skip
            self._refuse(explain(error))

    def _on_message(self, message: FromWorker) -> None:
        match message:
            case Hello() if self._has_said_hello:
                self._refuse("bad protocol: a second Hello")
            case Hello():
                self._has_said_hello = True
                self._disarm("hello")
                self._ping()
                self._listener.on_hello(message)
            case Refused():
                self._disarm("hello")
                self._log.not_loaded(message.reason, self._loop.time())
                self._listener.on_refused(last_words(message.reason.splitlines()))
            case LogRecord():
                self._log.record(message, self._loop.time())
            case _ if self._is_aborted:
                pass
            case Pong() if message.nonce == self._pings:
                self._disarm("pong")
                self._arm("ping", PING_EVERY_S, self._ping)
            case Pong():  # to an older Ping, or to none
                pass
            case _:
                self._listener.on_message(message)

    def _on_link_broken(self, reason: str) -> None:
        self._refuse(f"bad protocol: {reason}")

    def _refuse(self, reason: str) -> None:
        """It may not go on: its host hears why, and it is ended whatever its host makes of that."""
        self._listener.on_refused(reason)
        if not self._is_gone:
            self.kill(reason)

    def _ping(self) -> None:
        self._pings += 1
        self.send(Ping(nonce=self._pings))
        self._expect(
            "pong", PONG_DEADLINE_S, lambda: self.abort(f"its event loop did not answer for {PONG_DEADLINE_S:g} s")
        )

    def _on_denial(self, syscall: str, args: object) -> None:
        self._log.denied(syscall)
        self._listener.on_denied(syscall)

    def _on_denial_flood(self) -> None:
        self.kill("the sandbox denied it too many system calls")

    def _on_attack(self, what: str) -> None:
        self.kill(f"attack: {what}")  # first of all: the call waits until this has happened
        self._log.attacked(what)
        self._listener.on_attack(what)

    # --- its end -----------------------------------------------------------------------------------------------------

    def _signal(self, number: signal.Signals) -> None:
        if self._born is not None and not self._has_ended:
            self._born.kill(number)

    def _finish(self, reason: str) -> None:
        if self._has_ended:
            return
        self._has_ended = self._is_gone = True
        if self._link is not None:
            self._link.finish()
        for timer in self._timers.values():
            timer.cancel()
        self._release()
        self._log.report_dropped()
        self._listener.on_end(reason)
        self._let_go()

    def _report_dropped(self) -> None:
        flood = self._log.report_dropped()
        if flood is not None:
            self.kill(flood)
        self._arm("dropped", REPORT_DROPPED_S, self._report_dropped)

    def _release(self) -> None:
        """What else this generation held: pipes, pidfd, notify descriptor, directory."""
        self._bounds.close()
        for output in self._outputs:
            output.close()
        if self._denials is not None:
            self._denials.close()
        if self._born is not None:
            self._born.close()
        shutil.rmtree(self._request.link_dir, ignore_errors=True)

    def _let_go(self) -> None:
        """Of all that refers to this worker in turn: a generation costs 11 KiB until the garbage collector finds it."""
        self._timers.clear()
        self._outputs.clear()
        self._link = self._denials = None
        self._listener = DEAF

    def _expect(self, name: str, limit_s: float, strike: Callable[[], None]) -> None:
        """A deadline that the worker has to keep; it is measured in what this host lets it do."""
        self._disarm(name)
        self._timers[name] = Deadline(limit_s, strike, self.watch)

    def _arm(self, name: str, delay_s: float, action: Callable[[], None]) -> None:
        self._disarm(name)
        self._timers[name] = self._loop.call_later(delay_s, action)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

"""One generation of one worker, from birth to its end: process, link, handshake, output, pings and the way it is ended.

It reports messages, refusal and end to its host. Whether and when a new generation starts is not its affair.
"""

import asyncio
import logging
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import zmq

from protocol.messages import FromWorker, Hello, LogLevel, LogRecord, Message, Ping, Pong, Refused, Stop
from protocol.zygote import Exited, LayerReport, Spawn
from runnerd.log import fields
from runnerd.supervisor.birth import BirthFailed, BirthRefused, BornWorker
from runnerd.supervisor.denials import Denials
from runnerd.supervisor.link import Link
from runnerd.supervisor.output import Output, RateLimit, last_words

logger = logging.getLogger("runnerd.worker")

PING_EVERY_S = 10.0
PONG_DEADLINE_S = 10.0
ABORT_S = 1.0
"""Between SIGABRT, which makes faulthandler write the stacks, and SIGKILL."""
LAST_WORDS_S = 0.05
"""Between the exit of a worker that was told to stop and the last look at its link."""
_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


class Birthplace(Protocol):
    """Where workers are born: the zygote."""

    async def spawn(self, request: Spawn, deadline_s: float) -> BornWorker: ...


@dataclass(frozen=True, slots=True)
class Listener:
    """What a worker's host wants to hear. `on_end` comes once, last, with the reason in words."""

    on_hello: Callable[[Hello], None]
    on_message: Callable[[FromWorker], None]
    on_refused: Callable[[str], None]
    on_end: Callable[[str], None]
    on_denied: Callable[[str], None]


class Worker:
    """A running worker. Make it with `await Worker.start(...)`; it ends by itself, or by `stop`, `abort` or `kill`."""

    def __init__(self, request: Spawn, listener: Listener) -> None:
        self.plugin = request.plugin
        self.generation = request.generation
        self.layers: tuple[LayerReport, ...] = ()
        self.pid = 0
        self.is_lost = False
        self.denials: Counter[str] = Counter()
        self._request = request
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._born: BornWorker | None = None
        self._link: Link | None = None
        self._outputs: list[Output] = []
        self._denials: Denials | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._end_reason: str | None = None
        self._has_ended = False
        self._log_limit = RateLimit()
        self._pings = 0

    @property
    def id(self) -> str:
        """`plugin#generation`: the name under which the zygote reports it."""
        return f"{self.plugin}#{self.generation}"

    async def start(
        self, birthplace: Birthplace, context: "zmq.Context[zmq.Socket[bytes]]", hello_deadline_s: float
    ) -> None:
        """Be born, dial the link and wait for Hello (by callback). Reports `on_refused` or `on_end` when it fails."""
        link_dir = Path(self._request.link_dir)
        try:
            link_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            born = await birthplace.spawn(self._request, hello_deadline_s)
        except BirthRefused as refusal:
            self._listener.on_refused(f"sandbox refused: {refusal}")
            self._finish(f"sandbox refused: {refusal}")
            return
        except (BirthFailed, OSError) as failure:
            self._finish(f"could not be started: {failure}")
            return
        self._born, self.pid, self.layers = born, born.pid, born.layers
        self._outputs = [
            Output(born.stdout_fd, self._log_limit, lambda line: self._log_output(logging.INFO, line)),
            Output(born.stderr_fd, self._log_limit, lambda line: self._log_output(logging.WARNING, line)),
        ]
        if born.notify_fd is not None:
            self._denials = Denials(born.notify_fd, self._on_denial, self._on_denial_flood)
        self._link = Link(context, born.link_address, self._on_message, self._on_link_broken)
        born.exited.add_done_callback(self._on_exited)
        self._arm("hello", hello_deadline_s, lambda: self.kill(f"no Hello within {hello_deadline_s:g} s"))

    def send(self, message: Message) -> None:
        """Send a message on the link."""
        if self._link is not None:
            self._link.send(message)

    def send_frame(self, frame: bytes) -> None:
        """Send an encoded message on the link."""
        if self._link is not None:
            self._link.send_frame(frame)

    def stop(self, grace_s: float) -> None:
        """Ask it to finish its calls and leave; end it when the grace has passed."""
        self._end_reason = self._end_reason or "commanded stop"
        self.send(Stop(grace_ms=int(grace_s * 1000)))
        self._arm("stop", grace_s + ABORT_S, lambda: self.kill("did not stop within its grace"))

    def abort(self, reason: str) -> None:
        """End it, but let it write its stacks to stderr first."""
        self._end_reason = self._end_reason or reason
        self._signal(signal.SIGABRT)
        self._arm("abort", ABORT_S, lambda: self._signal(signal.SIGKILL))

    def kill(self, reason: str) -> None:
        """End it now."""
        self._end_reason = self._end_reason or reason
        self._signal(signal.SIGKILL)

    def _on_exited(self, exited: "asyncio.Future[Exited]") -> None:
        if exited.cancelled():
            # The zygote is gone, and so is this worker: by PDEATHSIG, and here once more to be sure.
            self._signal(signal.SIGKILL)
            self.is_lost = True
            self._finish("the zygote died")
            return
        end = exited.result()
        how = end.describe()
        reason = f"{self._end_reason} ({how})" if self._end_reason else how
        if end.status == 0:
            # It left in order, its last answers are written; our ZeroMQ may hear of them after we heard of its exit.
            self._arm("end", LAST_WORDS_S, lambda: self._finish(reason))
        else:
            self._finish(reason)

    def count_denial(self, syscall: str) -> bool:
        """Count a denied system call; True for the first of its name in this generation."""
        self.denials[syscall] += 1
        return self.denials[syscall] == 1

    @property
    def last_words(self) -> str:
        """What it wrote to stderr before it ended, in one line."""
        return last_words(self._outputs[1].tail) if self._outputs else ""

    # --- what comes from it ------------------------------------------------------------------------------------------

    def _on_message(self, message: FromWorker) -> None:
        match message:
            case Hello():
                self._disarm("hello")
                self._ping()
                self._listener.on_hello(message)
            case Refused():
                self._disarm("hello")
                self._listener.on_refused(message.reason)
            case LogRecord():
                self._log(message)
            case Pong():
                self._disarm("pong")
            case _:
                self._listener.on_message(message)

    def _on_link_broken(self, reason: str) -> None:
        self._listener.on_refused(f"bad protocol: {reason}")

    def _ping(self) -> None:
        self._pings += 1
        self.send(Ping(nonce=self._pings))
        self._arm(
            "pong", PONG_DEADLINE_S, lambda: self.abort(f"its event loop did not answer for {PONG_DEADLINE_S:g} s")
        )
        self._arm("ping", PING_EVERY_S + PONG_DEADLINE_S, self._ping)

    def _on_denial(self, syscall: str, args: object) -> None:
        logger.warning(
            "denied syscall %s", syscall,
            extra=fields("sandbox_denied", plugin=self.plugin, generation=self.generation, syscall=syscall),
        )  # fmt: skip
        self._listener.on_denied(syscall)

    def _on_denial_flood(self) -> None:
        self.kill("the sandbox denied it too many system calls")

    def _log(self, record: LogRecord) -> None:
        if self._log_limit.allows(self._loop.time()):
            logger.log(
                _LEVELS[record.level], "%s", record.message,
                extra=fields("plugin_log", plugin=self.plugin, generation=self.generation, call=record.call_id),
            )  # fmt: skip

    def _log_output(self, level: int, line: str) -> None:
        logger.log(level, "%s", line, extra=fields("plugin_output", plugin=self.plugin, generation=self.generation))

    # --- its end -----------------------------------------------------------------------------------------------------

    def _signal(self, number: signal.Signals) -> None:
        if self._born is not None and not self._has_ended:
            self._born.kill(number)

    def _finish(self, reason: str) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if self._link is not None:
            self._link.finish()
        for timer in self._timers.values():
            timer.cancel()
        self._release()
        if self._log_limit.refused:
            logger.warning(
                "%d log lines were dropped", self._log_limit.refused,
                extra=fields("plugin_log_dropped", plugin=self.plugin, dropped=self._log_limit.refused),
            )  # fmt: skip
        self._listener.on_end(reason)

    def _release(self) -> None:
        """What else this generation held: pipes, pidfd, notify descriptor, directory."""
        for output in self._outputs:
            output.close()
        if self._denials is not None:
            self._denials.close()
        if self._born is not None:
            self._born.close()
        shutil.rmtree(self._request.link_dir, ignore_errors=True)

    def _arm(self, name: str, delay_s: float, action: Callable[[], None]) -> None:
        self._disarm(name)
        self._timers[name] = self._loop.call_later(delay_s, action)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

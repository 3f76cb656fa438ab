"""The worker's main: imports the plugin, says Hello, and answers calls until it is told to stop.

Called by `workers.birth` inside the finished sandbox. Everything it sends is only *asked*: no rule that protects the
vault is enforced here.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import zmq

from protocol.codec import decode_from_supervisor, decode_from_worker, encode
from protocol.errors import ProtocolError
from protocol.limits import MAX_LOG_MESSAGE_LENGTH, MAX_TRACEBACK_LENGTH, PROTOCOL_VERSION
from protocol.messages import (
    Decide,
    DecideFailed,
    Decision,
    Hello,
    LogLevel,
    LogRecord,
    Message,
    Param,
    Ping,
    Pong,
    Refused,
    StateCompareAndSet,
    StateGet,
    StateRefused,
    StateReply,
    Stop,
    Welcome,
)
from protocol.zygote import LoopSettings
from workers import log_handler
from workers.channel import Channel
from workers.decide import DecideError, Method, decide, encodable, is_async, trace_of
from workers.loader import load
from workers.locate import PluginCode
from workers.sdk.context import Context, Log
from workers.sdk.plugin import declaration_of
from workers.sdk.scratch import Scratch
from workers.sdk.state import BlockingState, State

REFUSED_DRAIN_S = 5.0
STOP_DRAIN_S = 0.5
"""At least, to write what waits when a grace has passed; the supervisor ends a worker one second after its grace."""


class StateError(Exception):
    """The supervisor did not carry out a state request. The text is its reason."""


def run(socket: "zmq.Socket[bytes]", loop: asyncio.AbstractEventLoop, code: PluginCode, settings: LoopSettings) -> None:
    """Serve the plugin on `socket` (bound) until Stop. Returns when the worker may exit."""
    worker = WorkerLoop(socket, loop, settings)
    asyncio.set_event_loop(loop)
    serving = loop.create_task(worker.serve(code), name="serve")
    while not serving.done():
        # asyncio lets these two through the loop, whichever task raised them: one that the plugin started, say.
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_until_complete(serving)


class WorkerLoop:
    """One plugin instance, its running calls, and the state requests that wait for an answer."""

    def __init__(self, socket: "zmq.Socket[bytes]", loop: asyncio.AbstractEventLoop, settings: LoopSettings) -> None:
        self._loop = loop
        self._settings = settings
        self._channel = Channel(socket, loop, self._on_frame)
        self._calls: set[asyncio.Task[None]] = set()
        self._requests: dict[int, asyncio.Future[StateReply]] = {}
        self._next_request = 1
        self._threads: ThreadPoolExecutor | None = None
        self._params: dict[str, Param] = {}
        self._jobs: dict[str, Method] = {}
        self._stop: asyncio.Future[float] = loop.create_future()
        self._dropped = 0

    async def serve(self, code: PluginCode) -> None:
        """Hello, calls, and the end: everything between birth and exit."""
        self._channel.open()
        log_handler.route(lambda level, text: self._log(level, text, None))
        try:
            plugin = load(code)
            declared = declaration_of(plugin)
            instance = plugin()
            self._jobs = {name: getattr(instance, method) for name, method in declared.jobs.items()}
            if not all(map(is_async, self._jobs.values())):
                self._threads = ThreadPoolExecutor(self._settings.threads, thread_name_prefix="decide")
            hello = _checked(
                Hello(
                    version=PROTOCOL_VERSION,
                    generation=self._settings.generation,
                    plugin=declared.name,
                    vault=declared.vault,
                    triggers=declared.triggers,
                    reads=declared.reads,
                    digest=code.digest,
                    jobs=tuple(self._jobs),
                )
            )
        except BaseException as error:  # foreign code: a module may raise anything when it is imported
            # What it logged before goes first: Refused is the last thing that a supervisor hears of a worker.
            await asyncio.sleep(0)
            self._send(Refused(reason=encodable(trace_of(error))[-MAX_TRACEBACK_LENGTH:]))
            await self._channel.close(REFUSED_DRAIN_S)
            return
        self._channel.send(hello)
        grace_s = await self._stop
        until = self._loop.time() + grace_s
        if self._calls:
            await asyncio.wait(self._calls, timeout=grace_s)
        self._report_dropped()
        await self._channel.close(max(STOP_DRAIN_S, until - self._loop.time()))

    # --- what the supervisor sends ---------------------------------------------------------------------------------

    def _on_frame(self, frame: bytes) -> None:
        try:
            message = decode_from_supervisor(frame)
        except ProtocolError as error:
            print(f"the supervisor sent a frame that is not a message: {error}", file=sys.stderr)  # noqa: T201
            self._end(0)
            return
        match message:
            case Decide():
                if self._stop.done():  # told to stop: it waits in the supervisor for the next generation
                    return
                task = self._loop.create_task(self._call(message), name=f"call:{message.call.id}")
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
            case StateReply() | StateRefused():
                self._on_state(message)
            case Ping():
                self._send(Pong(nonce=message.nonce))
            case Welcome():
                self._params = message.params
            case Stop():
                self._end(message.grace_ms / 1000)
            case Refused():
                print(f"the supervisor refused this worker: {message.reason}", file=sys.stderr)  # noqa: T201
                self._end(0)

    def _end(self, grace_s: float) -> None:
        if not self._stop.done():
            self._stop.set_result(grace_s)

    async def _call(self, request: Decide) -> None:
        call = request.call
        method = self._jobs.get(call.job)
        if method is None:  # of a call that was asked for when the code was another
            error = f"there is no job {call.job!r}; there is {', '.join(self._jobs)}"
            self._send(DecideFailed(call_id=call.id, attempt=call.attempt, error=error, traceback=""))
            return
        state = State(Scratch(self) if call.is_dry_run else self)
        context = Context(
            call=call,
            now=request.now,
            block=request.block,
            vault=request.vault,
            reads=request.reads,
            params=self._params,
            state=state if is_async(method) else BlockingState(state, self._loop),
            log=Log(lambda level, text: self._log(level, text, call.id)),
        )
        try:
            outcome = await decide(method, context, self._threads)
            decision = Decision(call_id=call.id, attempt=call.attempt, outcome=outcome, state_writes=state.writes)
            self._channel.send(_checked(decision))
        except DecideError as error:
            self._send(DecideFailed(call_id=call.id, attempt=call.attempt, error=error.error, traceback=error.trace))
        except ProtocolError as error:
            self._send(DecideFailed(call_id=call.id, attempt=call.attempt, error=str(error), traceback=""))

    # --- state: workers.sdk.state.StateTransport ---------------------------------------------------------------------

    async def fetch(self, key: str) -> str | None:
        """The committed JSON text of `key`. Raises StateError with the supervisor's reason."""
        reply = await self._request(StateGet(request_id=self._next_request, key=key))
        return reply.value

    async def compare_and_set(self, key: str, expected: str | None, value: str | None) -> bool:
        """Set `key` at once if its committed text is `expected`. Raises StateError with the supervisor's reason."""
        request = StateCompareAndSet(request_id=self._next_request, key=key, expected=expected, value=value)
        return (await self._request(request)).is_swapped

    async def _request(self, request: StateGet | StateCompareAndSet) -> StateReply:
        self._next_request += 1
        answer: asyncio.Future[StateReply] = self._loop.create_future()
        self._requests[request.request_id] = answer
        self._send(request)
        return await answer

    def _on_state(self, message: StateReply | StateRefused) -> None:
        answer = self._requests.pop(message.request_id, None)
        if answer is None or answer.done():
            return
        if isinstance(message, StateReply):
            answer.set_result(message)
        else:
            answer.set_exception(StateError(message.reason))

    # --- what the worker sends -------------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        self._channel.send(encode(message))

    def _log(self, level: LogLevel, text: str, call_id: int | None) -> None:
        """From any thread: plugin code may log out of its own."""
        message = encodable(text)[:MAX_LOG_MESSAGE_LENGTH]
        frame = encode(LogRecord(level=level, message=message, call_id=call_id))
        self._loop.call_soon_threadsafe(self._send_log, frame)

    def _send_log(self, frame: bytes) -> None:
        if self._channel.send(frame, is_droppable=True):
            self._report_dropped()
        else:
            self._dropped += 1

    def _report_dropped(self) -> None:
        if self._dropped:
            lost = f"{self._dropped} log lines were dropped here: the supervisor did not take them in time"
            self._dropped = 0
            self._send(LogRecord(level=LogLevel.WARNING, message=lost))


def _checked(message: Hello | Decision) -> bytes:
    """The frame of what plugin code has a part in. Raises ProtocolError for what the supervisor would refuse: a plugin
    that changed an Action after it was made loses this call, and not its worker.
    """
    frame = encode(message)
    decode_from_worker(frame)
    return frame

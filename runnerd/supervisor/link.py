"""The supervisor's end of one worker's link: it dials, sends messages, and decodes what comes.

Knows messages, not their meaning. Everything that a worker can do wrong on the wire ends in one call of `on_broken`.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import zmq

from protocol.codec import decode_from_worker, encode
from protocol.errors import ProtocolError
from protocol.limits import LINK_HWM, MAX_FRAME_BYTES
from protocol.messages import FromWorker, Message

NO_REDIAL_MS = 3_600_000
HANGUP_GRACE_S = 0.5
"""A worker that has ended hangs up as well, a moment before its end is reported."""
MAX_FRAMES_PER_TURN = 64
"""Frames taken from one link before the loop may serve another: a flooding worker cannot hold the loop."""


class Link:
    """One DEALER socket, read through ZeroMQ's own descriptor and `add_reader` (half the latency of zmq.asyncio)."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        address: str,
        on_message: Callable[[FromWorker], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._on_message = on_message
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._is_pump_due = False
        self._is_closed = False
        self._hangup: asyncio.TimerHandle | None = None
        self._waiting: deque[bytes] = deque()
        self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.SNDHWM, LINK_HWM)
        self._socket.setsockopt(zmq.RCVHWM, LINK_HWM)
        # A generation is dialled once; a new one has a new address. Not -1, "never": with that, libzmq throws away what
        # has come and is not read yet when the worker hangs up (term_endpoint), and a worker's last answers with it.
        self._socket.setsockopt(zmq.RECONNECT_IVL, NO_REDIAL_MS)
        self._socket.connect(address)
        self._fd = self._socket.fileno()
        self._loop.add_reader(self._fd, self._pump)
        self._pump_soon()

    def send(self, message: Message) -> None:
        """Send at once. A worker that has stopped reading its link breaks it."""
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """Send a frame that is encoded already (the ledger stores the very same bytes)."""
        if self._is_closed:
            return
        self._waiting.append(frame)
        self._flush()
        if len(self._waiting) > LINK_HWM:
            self._break(f"it does not read its link: {len(self._waiting)} messages wait")

    def finish(self) -> None:
        """The worker has ended: take what it had sent before, then hang up. Its last words often say why."""
        while not self._is_closed and self._take_one():
            pass
        self.close()

    def close(self) -> None:
        """Hang up. Safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            if self._hangup is not None:
                self._hangup.cancel()
            self._loop.remove_reader(self._fd)
            self._socket.close(linger=0)

    def _flush(self) -> None:
        while self._waiting:
            try:
                self._socket.send(self._waiting[0], zmq.NOBLOCK)
            except zmq.Again:
                # Full, or hung up: then the zygote reports its end in a moment. Either way the frame waits here. The
                # attempt may have consumed the edge, too: asking says how it is now, and what changes later wakes us.
                if self._socket.getsockopt(zmq.EVENTS):
                    self._pump_soon()
                return
            self._waiting.popleft()
        # Sending may consume the edge that announced an incoming frame: look once more.
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._is_pump_due:
            self._is_pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pump_due = False
        for _ in range(MAX_FRAMES_PER_TURN):
            if self._is_closed:
                return
            if not self._take_one():
                if self._waiting:
                    self._flush()
                else:
                    self._look_for_hangup()
                return
        self._pump_soon()

    def _look_for_hangup(self) -> None:
        """ZeroMQ drops a connection, without a word, for a frame above MAXMSGSIZE; nothing can be written then."""
        events = self._socket.getsockopt(zmq.EVENTS)
        assert isinstance(events, int)
        if events & zmq.POLLIN:  # asking consumes the edge that announces a frame, so what it says must be followed
            self._pump_soon()
        elif not events & zmq.POLLOUT and self._hangup is None:
            self._hangup = self._loop.call_later(
                HANGUP_GRACE_S, self._break, f"it sent a frame of more than {MAX_FRAME_BYTES} bytes, or no ZMTP"
            )

    def _take_one(self) -> bool:
        """Whether there was a frame. A bad one breaks the link."""
        try:
            frame = self._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return False
        if self._socket.getsockopt(zmq.RCVMORE):
            self._break("it sent a message of several frames; the protocol has one frame per message")
            return True
        try:
            message = decode_from_worker(frame)
        except ProtocolError as error:
            self._break(str(error))
            return True
        self._on_message(message)
        return True

    def _break(self, reason: str) -> None:
        self.close()
        self._on_broken(reason)

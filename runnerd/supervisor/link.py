"""The supervisor's end of one worker's link: it dials, sends messages, and decodes what comes.

Knows messages, not their meaning. Everything that a worker can do wrong on the wire ends in one call of `on_broken`.
What a worker sends without being asked has its ration (`noise`): then it is not heard for a moment, so that all others
are. A link holds one frame and one read of it, and what is more waits in the kernel; a link that is closed costs
nothing.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from time import perf_counter

from protocol.codec import decode_from_worker, encode
from protocol.errors import ProtocolError
from protocol.limits import (
    FRAME_BURST,
    FRAME_BYTES_BURST,
    LINK_HWM,
    MAX_FRAME_BYTES_PER_S,
    MAX_FRAMES_PER_S,
)
from protocol.messages import DecideFailed, Decision, FromWorker, Message, StateCompareAndSet, StateGet
from runnerd.supervisor.noise import Noise, Ration
from runnerd.supervisor.rate import RateLimit
from runnerd.supervisor.zmtp import GREETING, READY, Inbox, pack

SCHEME = "ipc://"
READ_BYTES = 65_536
MAX_FRAMES_PER_TURN = 64
TURN_S = 0.0005
"""One link's share of a turn of the loop: one read, or one of these two, whichever is used up first. Small frames take
10 to 20 µs each with what comes of them, a frame of 1 MiB up to 3 ms.
"""
MAX_FRAMES_AT_END = 1_000
AT_END_S = 0.004
"""What is still taken of a worker that has ended, whichever is used up first."""


class Link:
    """One connection to a worker's socket, which speaks ZMTP (`zmtp`)."""

    def __init__(
        self,
        address: str,
        on_message: Callable[[FromWorker], None],
        on_broken: Callable[[str], None],
        noise: Noise | None = None,
    ) -> None:
        """`noise` is shared with the other links. Raises OSError when this process is out of descriptors."""
        self._on_message = on_message
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox()
        self._pump_due: asyncio.Handle | None = None
        self._uninvited = 0
        self._ration = Ration(noise or Noise())
        self._is_closed = False
        self._is_hung_up = False
        self._has_more = False
        self._opening: deque[bytes] = deque([GREETING + READY])
        self._waiting: deque[bytes] = deque()
        self._frames = RateLimit(MAX_FRAMES_PER_S, FRAME_BURST)
        self._bytes = RateLimit(MAX_FRAME_BYTES_PER_S, FRAME_BYTES_BURST)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._dial(address.removeprefix(SCHEME))
        except BaseException:
            self._socket.close()
            raise

    def _dial(self, path: str) -> None:
        try:
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            self._is_hung_up = True  # it died as soon as it was born: the zygote reports its end in a moment
        else:
            self._loop.add_reader(self._socket.fileno(), self._on_readable)
            self._flush()

    def send(self, message: Message) -> None:
        """Send at once. A worker that has stopped reading its link breaks it."""
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """Send a frame that is encoded already (the ledger stores the very same bytes)."""
        if self._is_closed or self._is_hung_up:
            return
        self._waiting.append(pack(frame))
        self._flush()
        if len(self._waiting) > LINK_HWM:
            self._break(f"it does not read its link: {len(self._waiting)} messages wait")

    def finish(self) -> None:
        """The worker has ended: take what it had sent before, within bounds, then hang up. It often says why."""
        until = perf_counter() + AT_END_S
        for _ in range(MAX_FRAMES_AT_END):
            while not self._is_closed and not (is_taken := self._take_one()) and self._receive():
                pass
            if self._is_closed or not is_taken or perf_counter() >= until:
                break
        self.close()

    def close(self) -> None:
        """Hang up. Safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            if self._pump_due is not None:
                self._pump_due.cancel()
            self._ration.end_rest()
            self._hang_up()
            self._socket.close()

    # --- out ----------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Send what the kernel takes. Messages wait until the worker's READY: libzmq drops a peer that is faster."""
        while not self._is_hung_up and (queue := self._opening or (self._waiting if self._inbox.is_ready else None)):
            try:
                sent = self._socket.send(queue[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:  # it has hung up, or ended; what it had sent is still to be read
                self._loop.remove_writer(self._socket.fileno())
                self._waiting.clear()
                self._opening.clear()
                return
            if sent < len(queue[0]):
                queue[0] = queue[0][sent:]
            else:
                queue.popleft()
        if not self._is_closed:
            self._loop.remove_writer(self._socket.fileno())

    # --- in -----------------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if self._pump_due is None:  # else a flood would have one pump more in each turn
            self._pump()

    def _pump_again(self) -> None:
        self._pump_due = None
        self._ration.end_rest()
        if not self._is_hung_up:
            self._loop.add_reader(self._socket.fileno(), self._on_readable)
        self._pump()

    def _pump(self) -> None:
        """Take this link's share of the turn. The others are next, and if it was noise, it then rests."""
        self._uninvited = 0
        began = perf_counter()  # not the loop's time: uvloop's stands still within a turn
        frames = self._take_share(began + TURN_S)
        if self._is_closed:
            return
        if self._uninvited:
            now = perf_counter()
            rest_s = self._ration.rest_after(now, (now - began) * self._uninvited / frames)
            if rest_s:
                # Nor is the kernel asked about it meanwhile: it would say in each turn that there is more.
                self._loop.remove_reader(self._socket.fileno())
                self._pump_due = self._loop.call_later(rest_s, self._pump_again)
                return
        if self._has_more:
            self._pump_due = self._loop.call_soon(self._pump_again)

    def _take_share(self, until: float) -> int:
        """The number of frames taken. `_has_more`: there may be some that no descriptor will tell of."""
        frames = 0
        has_read = False
        while not self._is_closed:
            self._has_more = frames >= MAX_FRAMES_PER_TURN or perf_counter() >= until
            if self._has_more:
                break
            if self._take_one():
                frames += 1
            elif has_read or not self._receive():
                break  # if there is more, the descriptor says so in the next turn
            else:
                has_read = True
        return frames

    def _receive(self) -> bool:
        """Read once. False if there was nothing."""
        if self._is_hung_up:
            return False
        try:
            received = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        if not received:  # no offence by itself: its exit is reported next, or its Pong will be missed
            self._hang_up()
            return False
        self._inbox.feed(received)
        return True

    def _hang_up(self) -> None:
        if not self._is_hung_up:
            self._is_hung_up = True
            self._waiting.clear()
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())

    def _take_one(self) -> bool:
        """Whether there was a frame. A bad one breaks the link."""
        was_ready = self._inbox.is_ready
        try:
            frame = self._inbox.take()
            message = None if frame is None else decode_from_worker(frame)
        except ProtocolError as error:
            self._break(str(error))
            return True
        if self._inbox.is_ready and not was_ready:
            self._flush()
        if frame is None or message is None:
            return False
        # An answer needs a call, and one that has none is refused; everything else may come without being asked for.
        if isinstance(message, Decision | DecideFailed):
            self._on_message(message)
            return True
        if not isinstance(message, StateGet | StateCompareAndSet):  # of a call as well: their answers have a pace
            self._uninvited += 1
        if self._has_room_for(len(frame)):
            self._on_message(message)
        return True

    def _has_room_for(self, size: int) -> bool:
        now = self._loop.time()
        if not self._frames.allows(now):
            self._break(f"it sent more than {MAX_FRAMES_PER_S} frames a second, after a burst of {FRAME_BURST}")
        elif not self._bytes.allows(now, size):
            self._break(
                f"it sent more than {MAX_FRAME_BYTES_PER_S} bytes a second, after a burst of {FRAME_BYTES_BURST}"
            )
        return not self._is_closed

    def _break(self, reason: str) -> None:
        self.close()
        self._on_broken(reason)

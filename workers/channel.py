"""The worker's end of its link: frames out and in, on the event loop, through ZeroMQ's own file descriptor.

Owns the order and the bound of what waits to be sent; knows nothing of messages. Used by `workers.loop` alone.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import zmq

MAX_WAITING = 10_000
"""Frames that may wait for the supervisor. Beyond it droppable ones (log records) are dropped and counted."""


class Channel:
    """A bound DEALER socket read through `add_reader`: half the latency of zmq.asyncio (FACTS)."""

    def __init__(
        self, socket: "zmq.Socket[bytes]", loop: asyncio.AbstractEventLoop, on_frame: Callable[[bytes], None]
    ) -> None:
        self._socket = socket
        self._loop = loop
        self._on_frame = on_frame
        self._waiting: deque[bytes] = deque()
        self._is_pump_due = False
        self.dropped = 0

    def open(self) -> None:
        """Start reading. Frames reach `on_frame` one by one, in the loop."""
        self._loop.add_reader(self._socket.fileno(), self._pump)
        self._pump_soon()

    def send(self, frame: bytes, *, is_droppable: bool = False) -> None:
        """Send, or queue while the supervisor is not there or is slow. Keeps the order."""
        if is_droppable and len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(frame)
        self._flush()

    async def drain(self, deadline_s: float) -> None:
        """Wait until all is handed to ZeroMQ, or the deadline has passed."""
        until = self._loop.time() + deadline_s
        while self._waiting and self._loop.time() < until:
            await asyncio.sleep(0.005)
            self._pump()

    def _flush(self) -> None:
        while self._waiting:
            try:
                self._socket.send(self._waiting[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._waiting.popleft()
        # Sending may have consumed the edge on the descriptor that announced an incoming frame: look again.
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._is_pump_due:
            self._is_pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pump_due = False
        while True:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._on_frame(frame)
        if self._waiting:
            self._flush()

"""ZMTP 3.0 as the supervisor reads it from a worker: a greeting, READY, then whole messages of one bounded frame each.

Written out because libzmq bounds a frame but not a message: a worker that writes parts without end to its connection
made the supervisor 2 GiB larger in four seconds. Here a header is refused before its body is read, and no more than one
frame is held. Pure: `link` owns the socket. The standard is RFC 23 (https://rfc.zeromq.org/spec/23/), mechanism NULL.
"""

from typing import Final

from protocol.errors import ProtocolError
from protocol.limits import MAX_FRAME_BYTES

GREETING: Final = b"\xff\0\0\0\0\0\0\0\1\x7f" + b"\3\0" + b"NULL".ljust(20, b"\0") + bytes(32)
"""Signature, version 3.0, mechanism, as-server (no), filler."""

MAX_COMMAND_BYTES: Final = 512
_MORE: Final = 1
_LONG: Final = 2
_COMMAND: Final = 4
_SHORT_SIZE: Final = 255


def pack(body: bytes, flags: int = 0) -> bytes:
    """A message (or command) of one frame, as it goes over the wire."""
    if len(body) > _SHORT_SIZE:
        return bytes([flags | _LONG]) + len(body).to_bytes(8) + body
    return bytes([flags, len(body)]) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + len(value).to_bytes(4) + value


READY: Final = pack(b"\5READY" + _property(b"Socket-Type", b"DEALER") + _property(b"Identity", b""), _COMMAND)


class Inbox:
    """Bytes in, message bodies out, in order. Every refusal is a ProtocolError, and the last thing that happens."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._has_greeting = False
        self.is_ready = False
        """Whether the worker's READY has come: only then may messages be sent to it."""

    def feed(self, received: bytes) -> None:
        """Add what was read. Call `take` until it is None before feeding more: that is what bounds the memory."""
        self._buffer += received

    def take(self) -> bytes | None:
        """The next message, None while it is not complete. Raises ProtocolError."""
        if not self._has_greeting and not self._take_greeting():
            return None
        while (frame := self._take_frame()) is not None:
            is_command, body = frame
            if not is_command:
                return body
            if not body.startswith(b"\5READY"):
                raise ProtocolError("its first ZMTP command is not READY")
            self.is_ready = True
        return None

    def _take_greeting(self) -> bool:
        greeting = bytes(self._buffer[: len(GREETING)])
        if greeting[:1] not in (b"", b"\xff"):  # said at once: who speaks something else may never send 64 bytes
            raise ProtocolError("it does not speak ZMTP")
        if len(greeting) < len(GREETING):
            return False
        if greeting[9] != GREETING[9] or greeting[10] < GREETING[10]:
            raise ProtocolError("it does not speak ZMTP 3")
        if greeting[12:32] != GREETING[12:32]:
            raise ProtocolError("its ZMTP mechanism is not NULL")
        del self._buffer[: len(GREETING)]
        self._has_greeting = True
        return True

    def _take_frame(self) -> tuple[bool, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        flags, size, start = buffer[0], buffer[1], 2
        if flags & _LONG:
            if len(buffer) < 9:
                return None
            size, start = int.from_bytes(buffer[1:9]), 9
        self._check_header(flags, size)
        end = start + size
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            body = bytes(view[start:end])
        del buffer[:end]
        return bool(flags & _COMMAND), body

    def _check_header(self, flags: int, size: int) -> None:
        if flags & ~(_MORE | _LONG | _COMMAND):
            raise ProtocolError("it set unknown flags in a ZMTP frame")
        if flags & _MORE:
            raise ProtocolError("it sent a message of several frames; the protocol has one frame per message")
        if size > MAX_FRAME_BYTES:
            raise ProtocolError(f"it sent a frame of {size} bytes, the limit is {MAX_FRAME_BYTES}")
        if flags & _COMMAND and (self.is_ready or size > MAX_COMMAND_BYTES):
            raise ProtocolError("it sent a ZMTP command that is not its READY")
        if not flags & _COMMAND and not self.is_ready:
            raise ProtocolError("it sent a message before its ZMTP READY")

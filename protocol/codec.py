"""Messages to frames and back. A frame is one JSON object; JSON because uint256 does not fit msgpack's 64 bits.

Whatever a peer sends is bytes until a function here has accepted it. Every refusal is a `ProtocolError`.
"""

from typing import TypeVar

import msgspec

from protocol.actions import Outcome
from protocol.density import check_density
from protocol.errors import ProtocolError
from protocol.limits import MAX_FRAME_BYTES, PROTOCOL_VERSION
from protocol.messages import FromSupervisor, FromWorker, Hello, Message, Version

M = TypeVar("M")

_encoder = msgspec.json.Encoder()
_from_worker: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)
_from_supervisor: msgspec.json.Decoder[FromSupervisor] = msgspec.json.Decoder(FromSupervisor)
_outcome: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


class _Opening(msgspec.Struct):
    """What every version of Hello has had and will have: enough to name the other side's version."""

    type: str
    version: Version


_opening = msgspec.json.Decoder(_Opening)


def encode(message: Message) -> bytes:
    """The frame of `message`. Raises ProtocolError when it is too large or cannot be written as JSON."""
    try:
        frame = _encoder.encode(message)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"{type(message).__name__} cannot be encoded: {type(error).__name__}") from error
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError(f"{type(message).__name__} takes {len(frame)} bytes, the limit is {MAX_FRAME_BYTES}")
    return frame


def decode_from_worker(frame: bytes) -> FromWorker:
    """The message that a worker sent. Raises ProtocolError, and nothing else, for whatever is not one."""
    _check_size(frame)
    check_density(frame)
    message = _decode(_from_worker, frame)
    if isinstance(message, Hello) and message.version != PROTOCOL_VERSION:
        raise _wrong_version(message.version)
    return message


def decode_from_supervisor(frame: bytes) -> FromSupervisor:
    """The message that the supervisor sent. Raises ProtocolError, and nothing else, for whatever is not one."""
    _check_size(frame)
    return _decode(_from_supervisor, frame)


def encode_outcome(outcome: Outcome) -> str:
    """The JSON text of an outcome that was decoded before: what the ledger keeps of an answer."""
    return _encoder.encode(outcome).decode()


def _check_size(frame: bytes) -> None:
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError(f"frame of {len(frame)} bytes, the limit is {MAX_FRAME_BYTES}")


def decode_outcome(text: str) -> Outcome:
    """The outcome that `encode_outcome` wrote. Raises ProtocolError when it is not one by today's limits."""
    return _decode(_outcome, text.encode())


def _decode(decoder: msgspec.json.Decoder[M], frame: bytes) -> M:
    try:
        return decoder.decode(frame)
    except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        other = _opening_version(frame)
        if other is not None and other != PROTOCOL_VERSION:
            raise _wrong_version(other) from error
        raise ProtocolError(f"not a message of this protocol: {_printable(str(error))}") from error


def _opening_version(frame: bytes) -> int | None:
    try:
        opening = _opening.decode(frame)
    except (ValueError, RecursionError):
        return None
    return opening.version if opening.type == "hello" else None


def _wrong_version(version: int) -> ProtocolError:
    return ProtocolError(
        f"the worker speaks protocol {version}, this runnerd speaks {PROTOCOL_VERSION}: "
        "install the same runnerd release on both sides"
    )


def _printable(text: str) -> str:
    """The decoder quotes names out of the frame: keep them short, and keep control characters out of terminals."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])

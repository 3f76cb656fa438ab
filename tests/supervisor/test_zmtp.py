"""ZMTP as the supervisor reads it: whole messages of one frame, and a refusal of everything else from its header on."""

import pytest

from protocol.errors import ProtocolError
from protocol.limits import MAX_FRAME_BYTES
from runnerd.supervisor.zmtp import GREETING, MAX_COMMAND_BYTES, READY, Inbox, pack


def opened() -> Inbox:
    """After the handshake."""
    inbox = Inbox()
    inbox.feed(GREETING + READY)
    assert inbox.take() is None
    assert inbox.is_ready
    return inbox


BODIES = [b"", b"a", b"b" * 255, b"c" * 256, b"d" * 70_000, b"e"]


@pytest.mark.parametrize("step", [1, 2, 9, 64, 1_000, 1 << 20])
def test_messages_come_whole_whatever_the_pieces(step: int) -> None:
    """Short and long frames, behind a handshake, cut anywhere."""
    wire = GREETING + READY + b"".join(map(pack, BODIES))
    inbox = Inbox()
    taken = []
    for at in range(0, len(wire), step):
        inbox.feed(wire[at : at + step])
        while (body := inbox.take()) is not None:
            taken.append(body)
    assert taken == BODIES


def test_later_version_with_another_size_in_its_signature_is_understood() -> None:
    """As libzmq 4.3 greets: 3.1, and a length that means something to version 1 only."""
    inbox = Inbox()
    inbox.feed(b"\xff" + bytes(7) + b"\1\x7f\3\1" + GREETING[12:] + READY + pack(b"hello"))
    assert inbox.take() == b"hello"


@pytest.mark.parametrize(
    "header, reason",
    [
        (b"\1\5", "several frames"),
        (b"\3" + (9).to_bytes(8), "several frames"),
        (b"\2" + (MAX_FRAME_BYTES + 1).to_bytes(8), f"a frame of {MAX_FRAME_BYTES + 1} bytes"),
        (b"\2" + b"\xff" * 8, "a frame of 18446744073709551615 bytes"),
        (b"\x08\5", "unknown flags"),
        (b"\xfd\5", "unknown flags"),
        (b"\4\5", "a ZMTP command"),
        (READY, "a ZMTP command"),
    ],
    ids=["more", "more, long", "giant", "endless", "flag", "flags", "command", "second READY"],
)
def test_header_is_refused_before_its_body_comes(header: bytes, reason: str) -> None:
    """So nothing of it is ever held."""
    inbox = opened()
    inbox.feed(header)
    with pytest.raises(ProtocolError, match=reason):
        inbox.take()


@pytest.mark.parametrize(
    "wire, reason",
    [
        (b"GET / HTTP/1.1", "does not speak ZMTP"),
        (b"\xff" + bytes(8) + b"\x7f\1" + bytes(53), "does not speak ZMTP 3"),
        (GREETING.replace(b"NULL", b"PLAI"), "mechanism is not NULL"),
        (GREETING + pack(b"early"), "before its ZMTP READY"),
        (GREETING + pack(b"\5ERROR\2no", 4), "not READY"),
        (GREETING + b"\6" + (MAX_COMMAND_BYTES + 1).to_bytes(8), "not its READY"),
    ],
    ids=["http", "version", "mechanism", "message", "ERROR", "giant command"],
)
def test_other_opening_is_refused(wire: bytes, reason: str) -> None:
    """With what is wrong with it."""
    inbox = Inbox()
    inbox.feed(wire)
    with pytest.raises(ProtocolError, match=reason):
        inbox.take()

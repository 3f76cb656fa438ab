"""Golden bytes: the frames of every message, byte for byte, in both directions."""

from typing import get_args

import pytest

from protocol.codec import decode_from_supervisor, decode_from_worker, encode
from protocol.messages import FromSupervisor, FromWorker, Message
from tests.protocol.golden import SUPERVISOR_FRAMES, WORKER_FRAMES

BOTH = [*WORKER_FRAMES.items(), *SUPERVISOR_FRAMES.items()]


@pytest.mark.parametrize("message, frame", [pair for _, pair in BOTH], ids=[name for name, _ in BOTH])
def test_a_message_is_these_bytes(message: Message, frame: bytes) -> None:
    """A stranger's worker depends on them."""
    assert encode(message) == frame


@pytest.mark.parametrize("message, frame", WORKER_FRAMES.values(), ids=WORKER_FRAMES)
def test_these_bytes_are_a_message_of_a_worker(message: FromWorker, frame: bytes) -> None:
    """And of no other content."""
    assert decode_from_worker(frame) == message


@pytest.mark.parametrize("message, frame", SUPERVISOR_FRAMES.values(), ids=SUPERVISOR_FRAMES)
def test_these_bytes_are_a_message_of_the_supervisor(message: FromSupervisor, frame: bytes) -> None:
    """And of no other content."""
    assert decode_from_supervisor(frame) == message


def test_every_message_has_golden_bytes() -> None:
    """A new message, or an old one in a new direction, needs its bytes written down first."""
    assert {type(message) for message, _ in WORKER_FRAMES.values()} == set(get_args(FromWorker))
    assert {type(message) for message, _ in SUPERVISOR_FRAMES.values()} == set(get_args(FromSupervisor))
    assert {type(message) for _, (message, _) in BOTH} == set(Message.__subclasses__())

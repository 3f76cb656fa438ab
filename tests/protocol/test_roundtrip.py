"""Every message that can be made comes out of a frame as it went in."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.actions import Act, Noop, Outcome
from protocol.codec import decode_from_supervisor, decode_from_worker, encode, encode_outcome
from protocol.limits import INT_MAX, INT_MIN
from protocol.messages import Decision, FromSupervisor, FromWorker, Message
from tests.protocol import strategies


@pytest.mark.parametrize("kind", get_args(FromWorker), ids=lambda kind: kind.__name__)
@given(data=st.data())
@strategies.QUICK
def test_a_workers_message_survives_the_wire(data: st.DataObject, kind: type[Message]) -> None:
    """Field by field, whatever the fields hold."""
    message = data.draw(strategies.MESSAGES[kind])
    assert decode_from_worker(encode(message)) == message


@pytest.mark.parametrize("kind", get_args(FromSupervisor), ids=lambda kind: kind.__name__)
@given(data=st.data())
@strategies.QUICK
def test_a_supervisors_message_survives_the_wire(data: st.DataObject, kind: type[Message]) -> None:
    """Field by field, whatever the fields hold."""
    message = data.draw(strategies.MESSAGES[kind])
    assert decode_from_supervisor(encode(message)) == message


@given(strategies.outcomes)
@strategies.QUICK
def test_the_ledger_keeps_the_text_of_the_frame(outcome: Outcome) -> None:
    """What is recorded of an answer is what was said, not a second rendering of it."""
    frame = encode(Decision(call_id=1, attempt=1, outcome=outcome))
    assert encode_outcome(outcome).encode() in frame


@pytest.mark.parametrize("number", [INT_MAX, INT_MIN, INT_MAX - 1, INT_MIN + 1, 2**64, 2**53 + 1, 0, -1])
def test_an_integer_is_exact(number: int) -> None:
    """uint256 and int256 to the last digit: no float is ever in between."""
    frame = encode(strategies.acting({"x": number}))
    assert str(number).encode() in frame
    assert decode_from_worker(frame) == strategies.acting({"x": number})


def test_bytes_and_addresses_are_exact() -> None:
    """Bytes travel as hex text; an address keeps the case of its checksum."""
    address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    everything = bytes(range(256))
    decoded = decode_from_worker(encode(strategies.acting({"a": address, "b": everything, "c": b""})))
    assert isinstance(decoded, Decision)
    assert isinstance(decoded.outcome, Act)
    assert decoded.outcome.actions[0].args == {"a": address, "b": "0x" + everything.hex(), "c": "0x"}


def test_every_message_has_a_strategy() -> None:
    """A new message is tested from its first day."""
    assert set(strategies.MESSAGES) == set(Message.__subclasses__())


def test_a_noop_is_told_from_an_act() -> None:
    """The two outcomes share no field, so neither can be read as the other."""
    decoded = decode_from_worker(encode(Decision(call_id=1, attempt=1, outcome=Noop("quiet"))))
    assert isinstance(decoded, Decision)
    assert decoded.outcome == Noop("quiet")

"""Values: what may travel in actions and reads, alike for who builds them and for who reads them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import INT_MAX, INT_MIN, MAX_ARRAY_LENGTH, MAX_STRING_LENGTH
from protocol.values import PlainValue, Value, to_value
from tests.protocol.strategies import QUICK, values

_decoder = msgspec.json.Decoder(Value)


@given(values)
@QUICK
def test_a_value_in_wire_form_stays_as_it_is(value: Value) -> None:
    """And is what the decoder reads."""
    assert to_value(value) == value
    assert _decoder.decode(msgspec.json.encode(value)) == value


@pytest.mark.parametrize(
    "plain, value",
    [
        (b"", "0x"),
        (b"\x00\xff", "0x00ff"),
        (bytearray(b"\x01"), "0x01"),
        ((1, (2, (3,))), [1, [2, [3]]]),
        ([True, 1, "x"], [True, 1, "x"]),
        (INT_MAX, INT_MAX),
        (INT_MIN, INT_MIN),
        (b"\xab" * 4_095, "0x" + "ab" * 4_095),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_bytes_become_hex_and_tuples_lists(plain: PlainValue, value: Value) -> None:
    """The two conversions there are; a boolean stays a boolean."""
    made = to_value(plain)
    assert made == value
    assert repr(made) == repr(value)


@pytest.mark.parametrize(
    "plain, reason",
    [
        (INT_MAX + 1, "does not fit int256 or uint256"),
        (INT_MIN - 1, "does not fit int256 or uint256"),
        (1.0, "a float cannot travel"),
        (float("nan"), "a float cannot travel"),
        (None, "a NoneType cannot travel"),
        ({"a": 1}, "a dict cannot travel"),
        ({1}, "a set cannot travel"),
        (memoryview(b"x"), "a memoryview cannot travel"),
        ([[[[1]]]], "nested deeper than 3"),
        ([[[()]]], "nested deeper than 3"),
        ([1] * (MAX_ARRAY_LENGTH + 1), "longer than 256 items"),
        ("x" * (MAX_STRING_LENGTH + 1), "longer than 8192 characters"),
        (b"x" * 4_096, "longer than 8192 characters"),
        ("\ud800", "lone surrogate"),
        ([[1, 2.5]], "a float cannot travel"),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0][:20],
)
def test_what_cannot_travel_is_refused_with_its_reason(plain: Any, reason: str) -> None:
    """An author reads it in a unit test, not in the ledger."""
    with pytest.raises(ValueError, match=reason):
        to_value(plain)


def test_a_list_that_holds_itself_is_refused() -> None:
    """Depth is bounded before anything is copied."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested deeper than 3"):
        to_value(loop)


@given(st.binary(max_size=100))
@QUICK
def test_hex_text_holds_all_bytes(data: bytes) -> None:
    """Exact, whatever the bytes."""
    text = to_value(data)
    assert isinstance(text, str)
    assert bytes.fromhex(text.removeprefix("0x")) == data

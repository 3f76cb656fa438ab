"""Values that travel in actions and reads: exact integers, booleans, text, and lists of them three deep.

Bytes and addresses travel as `0x` hex text; the supervisor reads them by the ABI type that the catalogue names.
There is no float: msgspec refuses one when it decodes, and `to_value` refuses one when a plugin builds it.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, TypeAlias

from msgspec import Meta

from protocol.limits import INT_MAX, INT_MIN, MAX_ARRAY_LENGTH, MAX_STRING_LENGTH

Text: TypeAlias = Annotated[str, Meta(max_length=MAX_STRING_LENGTH)]
_Array = Meta(max_length=MAX_ARRAY_LENGTH)

# Spelled out instead of recursive: the type itself bounds the depth, so a deep frame fails at its first brackets.
Depth1: TypeAlias = bool | int | Text | Annotated[list[bool | int | Text], _Array]
Depth2: TypeAlias = bool | int | Text | Annotated[list[Depth1], _Array]
Value: TypeAlias = bool | int | Text | Annotated[list[Depth2], _Array]

PlainValue: TypeAlias = bool | int | str | bytes | Sequence["PlainValue"]
"""What a plugin may pass where a Value is wanted: bytes become `0x` hex, tuples become lists."""

MAX_DEPTH = 3
# Tuples, because `isinstance` with a union takes four times as long, and this runs for each value of each Action.
_BYTES = (bytes, bytearray)
_LISTS = (list, tuple)


def to_value(plain: PlainValue, *, depth: int = 0) -> Value:
    """The wire form of `plain`.

    Raises ValueError for integers outside int256/uint256, text or arrays that are too long, nesting deeper than three,
    and anything that is not an integer, boolean, text, bytes or a sequence of them (floats above all).
    """
    if isinstance(plain, bool):
        return plain
    if isinstance(plain, int):
        if not INT_MIN <= plain <= INT_MAX:
            raise ValueError("integer does not fit int256 or uint256")
        return int(plain)
    if isinstance(plain, _BYTES):
        return _bounded("0x" + bytes(plain).hex())
    if isinstance(plain, str):
        return _bounded(str(plain))
    if isinstance(plain, _LISTS):
        if depth == MAX_DEPTH:
            raise ValueError(f"lists are nested deeper than {MAX_DEPTH}")
        if len(plain) > MAX_ARRAY_LENGTH:
            raise ValueError(f"list is longer than {MAX_ARRAY_LENGTH} items")
        return [to_value(item, depth=depth + 1) for item in plain]  # type: ignore[misc]  # depth is bounded just above
    raise ValueError(f"a {type(plain).__name__} cannot travel; allowed: int, bool, str, bytes, lists of them")


def count_values(values: Iterable[object], limit: int) -> int:
    """How many values there are, in lists at any depth too, and the lists themselves. Stops at one beyond `limit`."""
    count = 0
    waiting = list(values)
    while waiting and count <= limit:
        value = waiting.pop()
        count += 1
        if isinstance(value, _LISTS):
            waiting.extend(value)
    return count


def is_unicode(text: str) -> bool:
    """Whether `text` can be UTF-8. JSON text with a lone surrogate (`\\ud800`) is refused when it is decoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bounded(text: str) -> str:
    if len(text) > MAX_STRING_LENGTH:
        raise ValueError(f"text is longer than {MAX_STRING_LENGTH} characters")
    if not is_unicode(text):
        raise ValueError("text holds a lone surrogate and cannot be encoded as UTF-8")
    return text

"""Refuses ABI data that would decode to too much, before it is decoded. Pure; used by `abi` for what contracts return.

The head of an array may point anywhere, so a thousand heads can share one long array: 64 KiB of `uint256[][]` took
eth_abi 3.3 s. Only lengths and offsets are looked at here; whether the data is well formed is eth_abi's business.
"""

from collections.abc import Iterable
from itertools import repeat
from typing import assert_never

from protocol.limits import MAX_ARRAY_LENGTH
from runnerd.chain.abi_types import AbiType, ArrayOf, Elementary, Kind, TupleOf
from runnerd.chain.errors import AbiError

MAX_VALUES = 4_096
"""Elementary values in one decoded answer, after every pointer is followed."""


def check_bounds(shapes: Iterable[AbiType], data: bytes) -> None:
    """Raises AbiError when an array is longer than a frame carries, or all of them together are."""
    _Walk(data).members(shapes, 0)


class _Walk:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._values = 0

    def members(self, shapes: Iterable[AbiType], base: int) -> None:
        """Values side by side: each in its place, or where its place points to, counted from `base`."""
        head = base
        for shape in shapes:
            if is_dynamic(shape):
                offset = self._word(head)
                if offset is None:
                    return
                self._value(shape, base + offset)
                head += 32
            else:
                self._value(shape, head)
                head += _static_size(shape)

    def _value(self, shape: AbiType, at: int) -> None:
        match shape:
            case Elementary():
                self._values += 1
                if self._values > MAX_VALUES:
                    raise AbiError(f"more than {MAX_VALUES} values")
            case TupleOf(items=items):
                self.members(items, at)
            case ArrayOf(item=item, length=None):
                length = self._word(at)
                if length is not None:
                    if length > MAX_ARRAY_LENGTH:
                        raise AbiError(f"an array of {length} items, the limit is {MAX_ARRAY_LENGTH}")
                    self.members(repeat(item, length), at + 32)
            case ArrayOf(item=item, length=length):
                self.members(repeat(item, length or 0), at)
            case _:
                assert_never(shape)

    def _word(self, at: int) -> int | None:
        """The word at `at`, or None beyond the data, which eth_abi will refuse."""
        return int.from_bytes(self._data[at : at + 32], "big") if at + 32 <= len(self._data) else None


def is_dynamic(shape: AbiType) -> bool:
    """Whether the type's size depends on its value: it is then encoded behind a pointer."""
    match shape:
        case Elementary(kind=kind):
            return kind is Kind.BYTES or kind is Kind.STRING
        case ArrayOf(item=item, length=length):
            return length is None or is_dynamic(item)
        case TupleOf(items=items):
            return any(is_dynamic(item) for item in items)
        case _:
            assert_never(shape)


def _static_size(shape: AbiType) -> int:
    match shape:
        case Elementary():
            return 32
        case ArrayOf(item=item, length=length):
            return _static_size(item) * (length or 0)
        case TupleOf(items=items):
            return sum(_static_size(item) for item in items)
        case _:
            assert_never(shape)

"""Strict crossing between wire values (`protocol.values.Value`) and what eth_abi takes and gives. Pure.

Nothing is guessed: a bool is no integer, text is no number, an address has 20 bytes and a right checksum, `bytesN` has
exactly N bytes. Errors name the argument, the value and what is allowed.
"""

import re
from collections.abc import Sequence
from typing import assert_never, cast

from protocol.values import Value, to_value
from runnerd.chain.abi_types import AbiType, ArrayOf, Elementary, Kind, TupleOf
from runnerd.chain.address import address_bytes, checksum_address, parse_address
from runnerd.chain.errors import AbiError, printable

AbiValue = bool | int | bytes | str | tuple["AbiValue", ...]
"""What eth_abi encodes: addresses as 20 bytes, arrays and structs as tuples."""

_HEX = re.compile(r"0x([0-9a-fA-F]{2})*\Z")


def to_abi(value: Value, shape: AbiType, where: str) -> AbiValue:
    """`value` as eth_abi wants a `shape`. `where` names it in errors: "strike", "path[2]". Raises AbiError."""
    match shape:
        case Elementary():
            return _elementary(value, shape, where)
        case ArrayOf(item=item, length=length):
            items = _items(value, shape, where, length)
            return tuple(to_abi(each, item, f"{where}[{i}]") for i, each in enumerate(items))
        case TupleOf(items=shapes):
            items = _items(value, shape, where, len(shapes))
            pairs = enumerate(zip(items, shapes, strict=True))
            return tuple(to_abi(each, item, f"{where}[{i}]") for i, (each, item) in pairs)
        case _:
            assert_never(shape)


def from_abi(value: AbiValue, shape: AbiType, where: str) -> Value:
    """What eth_abi decoded as a `shape`, as a wire value: addresses checksummed, bytes as hex, structs as lists.

    Raises AbiError for text, arrays or byte strings longer than a frame carries (`protocol.limits`).
    """
    try:
        return to_value(_checksummed(value, shape))
    except ValueError as error:
        raise AbiError(f"{where} ({shape}): {error}") from None


def _elementary(value: Value, shape: Elementary, where: str) -> AbiValue:
    match shape.kind:
        case Kind.UINT | Kind.INT:
            return _integer(value, shape, where)
        case Kind.BOOL:
            if not isinstance(value, bool):
                raise _mismatch(value, shape, where, "true or false")
            return value
        case Kind.ADDRESS:
            if not isinstance(value, str):
                raise _mismatch(value, shape, where, "text with 0x and 40 hex digits")
            try:
                return address_bytes(parse_address(value))
            except AbiError as error:
                raise AbiError(f"argument {where}: {error}") from None
        case Kind.FIXED_BYTES:
            data = _bytes(value, shape, where)
            if len(data) != shape.size:
                raise AbiError(f"argument {where}: {len(data)} bytes given, {shape} takes exactly {shape.size}")
            return data
        case Kind.BYTES:
            return _bytes(value, shape, where)
        case Kind.STRING:
            if not isinstance(value, str):
                raise _mismatch(value, shape, where, "text")
            return _utf8(value, where)
        case _:
            assert_never(shape.kind)


def _integer(value: Value, shape: Elementary, where: str) -> int:
    lowest, highest = 0, (1 << shape.size) - 1
    if shape.kind is Kind.INT:
        lowest, highest = -(1 << (shape.size - 1)), (1 << (shape.size - 1)) - 1
    if isinstance(value, bool) or not isinstance(value, int):
        raise _mismatch(value, shape, where, "an integer")
    if not lowest <= value <= highest:
        raise AbiError(f"argument {where}: {value} does not fit {shape}, allowed: {lowest} to {highest}")
    return value


def _bytes(value: Value, shape: Elementary, where: str) -> bytes:
    if not isinstance(value, str) or not _HEX.match(value):
        raise _mismatch(value, shape, where, "text with 0x and an even number of hex digits")
    return bytes.fromhex(value[2:])


def _utf8(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise AbiError(f"argument {where}: the text holds a lone surrogate and is not UTF-8") from None
    return value


def _items(value: Value, shape: AbiType, where: str, length: int | None) -> Sequence[Value]:
    if not isinstance(value, list):
        raise _mismatch(value, shape, where, "a list")
    if length is not None and len(value) != length:
        raise AbiError(f"argument {where}: {len(value)} items given, {shape} takes exactly {length}")
    return cast("list[Value]", value)  # its items are one level less deep


def _checksummed(value: AbiValue, shape: AbiType) -> AbiValue:
    match shape:
        case Elementary():
            return checksum_address(value) if shape.kind is Kind.ADDRESS and isinstance(value, str) else value
        case ArrayOf(item=item):
            return tuple(_checksummed(each, item) for each in _members(value))
        case TupleOf(items=shapes):
            return tuple(_checksummed(each, item) for each, item in zip(_members(value), shapes, strict=True))
        case _:
            assert_never(shape)


def _members(value: AbiValue) -> tuple[AbiValue, ...]:
    assert isinstance(value, tuple)  # eth_abi decodes arrays and structs to tuples
    return value


def _mismatch(value: Value, shape: AbiType, where: str, wanted: str) -> AbiError:
    kind = {bool: "a boolean", int: "an integer", str: "text", list: "a list"}.get(type(value), type(value).__name__)
    shown = f" ({printable(repr(value), 40)})" if isinstance(value, bool | int | str) else ""
    return AbiError(f"argument {where}: {kind}{shown} given, {shape} takes {wanted}")

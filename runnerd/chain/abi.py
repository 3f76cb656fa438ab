"""Calldata of a declared function from named arguments, and values from what it returned. The codec itself is eth_abi.

Used by the executor's policy (actions), by `reads` (views) and by `revert` (custom errors). Fragments are parsed once,
when the configuration is read; `encode_call` with two words takes about 20 µs.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError

from protocol.values import Value
from runnerd.chain.abi_bounds import check_bounds
from runnerd.chain.abi_fragment import parse_error, parse_event, parse_function
from runnerd.chain.abi_types import AbiEvent, AbiFunction, AbiParameter
from runnerd.chain.abi_values import AbiValue, from_abi, to_abi
from runnerd.chain.errors import AbiError, printable

__all__ = [
    "AbiEvent",
    "AbiFunction",
    "AbiParameter",
    "decode_outputs",
    "decode_parameters",
    "encode_call",
    "parse_error",
    "parse_event",
    "parse_function",
]

MAX_RETURN_BYTES = 64 << 10
"""More is refused before decoding: what a contract returns has to fit a frame of the wire."""


def encode_call(function: AbiFunction, args: Mapping[str, Value]) -> bytes:
    """Selector and encoded arguments. Raises AbiError naming an unknown, missing or unfitting argument."""
    inputs = function.inputs
    if len(args) != len(inputs) or any(parameter.name not in args for parameter in inputs):
        raise _wrong_names(function, args)
    values = [to_abi(args[parameter.name], parameter.shape, parameter.name) for parameter in inputs]
    try:
        return function.selector + encode([parameter.type for parameter in inputs], values)
    except EncodingError as error:  # a defect of ours, since to_abi is stricter; still named
        raise AbiError(f"{function.signature}: {printable(str(error))}") from None


def decode_outputs(function: AbiFunction, data: bytes) -> Value | tuple[Value, ...]:
    """What a call returned: the value of a single output, else a tuple, () for none. Raises AbiError.

    No data where outputs are declared means, on the EVM, that there is no contract at the address.
    """
    if function.outputs and not data:
        raise AbiError(f"{function.name} returned nothing: no contract at this address, or not this function")
    values = decode_parameters(function.outputs, data, f"output of {function.name}")
    return values[0] if len(values) == 1 else values


def decode_parameters(parameters: Sequence[AbiParameter], data: bytes, what: str) -> tuple[Value, ...]:
    """The wire values in ABI-encoded `data`; `what` names it in errors. Raises AbiError."""
    if len(data) > MAX_RETURN_BYTES:
        raise AbiError(f"{what}: {len(data)} bytes, the limit is {MAX_RETURN_BYTES}")
    try:
        check_bounds((parameter.shape for parameter in parameters), data)
    except AbiError as error:
        raise AbiError(f"{what}: {error}") from None
    try:
        decoded = cast("tuple[AbiValue, ...]", decode([parameter.type for parameter in parameters], data))
    except (DecodingError, ValueError, OverflowError) as error:  # ValueError: text that is not UTF-8
        types = ", ".join(parameter.type for parameter in parameters)
        raise AbiError(f"{what}: {len(data)} bytes that are not ({types}): {printable(str(error), 120)}") from None
    return tuple(
        from_abi(value, parameter.shape, parameter.name or f"{what} {i + 1}")
        for i, (value, parameter) in enumerate(zip(decoded, parameters, strict=True))
    )


def _wrong_names(function: AbiFunction, args: Mapping[str, Value]) -> AbiError:
    expected = [parameter.name for parameter in function.inputs]
    missing = [name for name in expected if name not in args]
    unknown = [name for name in args if name not in expected]
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    problems += [f"unknown: {', '.join(unknown)}"] if unknown else []
    allowed = ", ".join(f"{parameter.name} ({parameter.type})" for parameter in function.inputs) or "none"
    return AbiError(f"arguments of {function.name}: {printable('; '.join(problems))}; allowed: {allowed}")

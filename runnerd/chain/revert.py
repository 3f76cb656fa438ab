"""Why a call reverted, in one readable line: from revert data, and from the shapes in which nodes answer. Pure.

Formats: `Error(string)` and `Panic(uint256)` of https://docs.soliditylang.org/en/latest/control-structures.html#revert,
custom errors that the catalogue declares, bare text (vyper's raw_revert), else hex. Used by `reads` and `simulate`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from protocol.values import Value
from runnerd.chain.abi import decode_parameters, parse_error
from runnerd.chain.abi_types import AbiFunction
from runnerd.chain.errors import AbiError, RpcRefused, printable
from runnerd.chain.json_values import JsonValue

MAX_REASON_LENGTH = 200
EXECUTION_REVERTED = 3
"""The JSON-RPC code that geth, and after it the execution API specification, gives a revert."""

ERROR_STRING = parse_error("Error(string reason)")
PANIC = parse_error("Panic(uint256 code)")

PANIC_MEANINGS: Final[Mapping[int, str]] = {
    0x00: "generic compiler panic",
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division or modulo by zero",
    0x21: "conversion to an enum out of range",
    0x22: "storage byte array badly encoded",
    0x31: "pop of an empty array",
    0x32: "array index out of range",
    0x41: "too much memory allocated",
    0x51: "call of an uninitialised internal function",
}

# What the EVM itself can end a call with, in the words of geth, erigon, reth, nethermind and anvil. Anything else in
# an eth_call error (unknown block, rate limit, timeout) says nothing of the call.
_EXECUTION_WORDS: Final = (
    "revert",
    "out of gas",
    "outofgas",
    "invalid opcode",
    "opcodenotfound",
    "invalid jump",
    "invalidjump",
    "stack underflow",
    "stackunderflow",
    "stack limit reached",
    "gas required exceeds",
    "insufficient funds",
    "insufficient balance",
    "invalidfeopcode",
    "max initcode size exceeded",
    "write protection",
)
_MAX_NESTING = 4


def decode_revert(data: bytes, errors: Sequence[AbiFunction] = ()) -> str:
    """One line, at most 200 characters and printable, for what a call reverted with. Never raises.

    `errors` are the custom errors that the operator declared; the first one whose selector and data fit is named.
    """
    if not data:
        return "reverted without a reason"
    selector, body = data[:4], data[4:]
    if selector == ERROR_STRING.selector:
        values = _decode(ERROR_STRING, body)
        if values is not None and isinstance(values[0], str):
            return printable(values[0], MAX_REASON_LENGTH) or "reverted with an empty reason"
    if selector == PANIC.selector:
        values = _decode(PANIC, body)
        if values is not None and isinstance(values[0], int):
            return f"panic 0x{values[0]:02x}: {PANIC_MEANINGS.get(values[0], 'unknown code')}"[:MAX_REASON_LENGTH]
    for error in errors:
        if error.selector == selector and (values := _decode(error, body)) is not None:
            pairs = zip(error.inputs, values, strict=True)
            shown = ", ".join(
                f"{parameter.name}={value}" if parameter.name else str(value) for parameter, value in pairs
            )
            return printable(f"{error.name}({shown})", MAX_REASON_LENGTH)
    text = _plain_text(data)
    return printable(text if text is not None else f"unknown error 0x{data.hex()}", MAX_REASON_LENGTH)


def find_revert_data(refused: RpcRefused) -> bytes | None:
    """The revert data in a node's error, or None when it gives none. b"" is a revert without data.

    Known shapes of error.data: "0x…" (geth, reth, erigon, anvil), "Reverted 0x…" (parity, nethermind), and objects that
    hold one of these under data, result, return or originalError (hardhat, ganache).
    """
    return _find(refused.data, _MAX_NESTING)


def is_execution_failure(refused: RpcRefused) -> bool:
    """Whether a refused eth_call or eth_estimateGas means that the call itself fails; else the node could not tell."""
    if refused.code == EXECUTION_REVERTED or find_revert_data(refused) is not None:
        return True
    message = refused.message.lower()
    return any(word in message for word in _EXECUTION_WORDS)


def revert_reason(refused: RpcRefused, errors: Sequence[AbiFunction] = ()) -> str:
    """One readable line for a refused call: its decoded revert data, else the node's own words."""
    data = find_revert_data(refused)
    if data:
        return decode_revert(data, errors)
    message = printable(refused.message.strip(), MAX_REASON_LENGTH)
    is_bare = message.lower() in {"", "execution reverted", "vm execution error."}
    return decode_revert(b"", errors) if is_bare else message


def _decode(error: AbiFunction, body: bytes) -> tuple[Value, ...] | None:
    try:
        return decode_parameters(error.inputs, body, error.name)
    except AbiError:
        return None


def _plain_text(data: bytes) -> str | None:
    try:
        text = data.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return None
    return text if len(text) >= 4 and text.isprintable() else None


def _find(data: JsonValue, nesting: int) -> bytes | None:
    if isinstance(data, str):
        text = data.removeprefix("Reverted ").strip()
        if not text.startswith("0x"):
            return None
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            return None
    if isinstance(data, dict) and nesting:
        preferred = [data[key] for key in ("data", "result", "return", "originalError") if key in data]
        others = [value for value in data.values() if isinstance(value, dict)]
        for candidate in preferred + others:
            found = _find(candidate, nesting - 1)
            if found is not None:
                return found
    return None

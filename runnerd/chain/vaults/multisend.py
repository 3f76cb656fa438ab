"""Several calls as one for a Safe: `multiSend` of the library MultiSendCallOnly, which the Safe runs by delegatecall.

Used by every kind of vault that is a Safe. Also makes the call of the intent registry, which comes first where one is
configured: deploy/contracts/IntentRegistry.vy refuses an id that this caller used before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from runnerd.chain.abi import parse_function
from runnerd.chain.address import address_bytes, checksum_address
from runnerd.chain.errors import AbiError
from runnerd.chain.vault import Call
from runnerd.chain.vaults.erc7821 import check_call, check_intent_id

MULTI_SEND = parse_function("multiSend(bytes transactions) payable")
USE_INTENT = parse_function("use(bytes32 id)")
_FIXED_BYTES: Final = 1 + 20 + 32 + 32


class Operation(IntEnum):
    """How a Safe makes its one call."""

    CALL = 0
    DELEGATE_CALL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCall:
    """The one call that stands for a batch."""

    to: str
    value_wei: int
    data: bytes
    operation: Operation


def as_one_call(calls: Sequence[Call], intent_id: bytes, multisend: str, intent_registry: str | None) -> OneCall:
    """A single call is itself; several go through `multisend`, all or none. Raises AbiError."""
    check_intent_id(intent_id)
    if not calls:
        raise AbiError("a batch needs at least one call")
    if intent_registry is not None:
        calls = [Call(to=intent_registry, value_wei=0, data=USE_INTENT.selector + intent_id), *calls]
    if len(calls) == 1:
        call = calls[0]
        return OneCall(to=check_call(call), value_wei=call.value_wei, data=call.data, operation=Operation.CALL)
    return OneCall(to=multisend, value_wei=0, data=encode_multi_send(calls), operation=Operation.DELEGATE_CALL)


def encode_multi_send(calls: Sequence[Call]) -> bytes:
    """Calldata of `multiSend`: each call packed as operation, to, value, length and data, one after the other."""
    packed = b"".join(
        b"".join(
            (
                bytes([Operation.CALL]),
                address_bytes(check_call(call)),
                _word(call.value_wei),
                _word(len(call.data)),
                call.data,
            )
        )
        for call in calls
    )
    return b"".join((MULTI_SEND.selector, _word(32), _word(len(packed)), packed, bytes(-len(packed) % 32)))


def decode_multi_send(data: bytes) -> tuple[Call, ...]:
    """The calls in the calldata of `multiSend`, for who has to read them. Raises AbiError."""
    length = int.from_bytes(data[36:68])
    packed = data[68 : 68 + length]
    if data[:4] != MULTI_SEND.selector or data[4:36] != _word(32) or len(packed) != length:
        raise AbiError("not the calldata of multiSend(bytes)")
    calls = []
    while packed:
        size = int.from_bytes(packed[53:_FIXED_BYTES])
        if packed[0] != Operation.CALL or len(packed) < _FIXED_BYTES + size:
            raise AbiError("multiSend: a call is cut short, or is no plain call")
        calls.append(
            Call(
                to=checksum_address("0x" + packed[1:21].hex()),
                value_wei=int.from_bytes(packed[21:53]),
                data=packed[_FIXED_BYTES : _FIXED_BYTES + size],
            )
        )
        packed = packed[_FIXED_BYTES + size :]
    return tuple(calls)


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")

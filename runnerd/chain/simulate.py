"""Would this transaction succeed, at a named block, and with how much gas? Asked before signing and before each bump.

eth_estimateGas runs the whole transaction, and says how a failing one reverts: an eth_call beside it would tell nothing
more and cost as much again. There is never a default gas limit: no estimate, no transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runnerd.chain.abi_types import AbiFunction
from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.reads import block_parameter
from runnerd.chain.revert import find_revert_data, is_execution_failure, revert_reason
from runnerd.chain.types import Block, decode_count, decode_data

DEFAULT_GAS_MARGIN_PERCENT = 20
"""State moves between simulation and inclusion; unused gas is not paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallMessage:
    """A transaction as far as the EVM looks at it: sender and target are checksummed addresses."""

    sender: str
    to: str
    data: bytes
    value_wei: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """It succeeds. `gas_limit` is the estimate with the margin, at most what a block holds."""

    gas_limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted:
    """It fails at this block: one readable line, and the raw revert data if the node gave it."""

    reason: str
    data: bytes | None


def build_simulation(block: Block, message: CallMessage) -> Request:
    """The request; the caller may put more into the same round trip."""
    call: JsonParam = {
        "from": message.sender,
        "to": message.to,
        "data": "0x" + message.data.hex(),
        "value": hex(message.value_wei),
    }
    return "eth_estimateGas", [call, block_parameter(block)]


def build_check(block: Block, message: CallMessage, gas_limit: int | None) -> Request:
    """The request whether a transaction that is signed already, with its gas limit, still succeeds. None: with all the
    gas that the node gives.

    It runs once, where an estimate runs again and again to find the least gas: a quarter of the node's time.
    """
    call: dict[str, JsonParam] = {
        "from": message.sender,
        "to": message.to,
        "data": "0x" + message.data.hex(),
        "value": hex(message.value_wei),
    }
    if gas_limit is not None:
        call["gas"] = hex(gas_limit)
    return "eth_call", [call, block_parameter(block)]


def decode_check(answer: JsonValue | RpcRefused, *, errors: Sequence[AbiFunction] = ()) -> Reverted | None:
    """How it fails now, or None when it succeeds. Raises RpcRefused when the node did not run it, RpcMalformed for an
    odd answer."""
    if not isinstance(answer, RpcRefused):
        decode_data(answer, "eth_call")
        return None
    if is_execution_failure(answer):
        return Reverted(reason=revert_reason(answer, errors), data=find_revert_data(answer))
    raise answer


def decode_simulation(
    block: Block,
    answer: JsonValue | RpcRefused,
    *,
    gas_margin_percent: int = DEFAULT_GAS_MARGIN_PERCENT,
    errors: Sequence[AbiFunction] = (),
) -> Simulated | Reverted:
    """What the answer means. Raises RpcRefused when the node did not run it, RpcMalformed for an odd answer."""
    if isinstance(answer, RpcRefused):
        if is_execution_failure(answer):
            return Reverted(reason=revert_reason(answer, errors), data=find_revert_data(answer))
        raise answer
    estimate = decode_count(answer, "eth_estimateGas")
    if estimate > block.gas_limit:
        return Reverted(reason=f"needs {estimate} gas, a block holds {block.gas_limit}", data=None)
    with_margin = -(-estimate * (100 + gas_margin_percent) // 100)
    return Simulated(gas_limit=min(with_margin, block.gas_limit))

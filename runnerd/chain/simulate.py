"""Would this transaction succeed, at a named block, and with how much gas? Asked before signing and before each bump.

eth_call and eth_estimateGas go in one round trip. There is never a default gas limit: no estimate, no transaction.
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


def build_simulation(block: Block, message: CallMessage) -> tuple[Request, Request]:
    """The two requests, to go in one batch; the caller may put more into the same round trip."""
    call: JsonParam = {
        "from": message.sender,
        "to": message.to,
        "data": "0x" + message.data.hex(),
        "value": hex(message.value_wei),
    }
    at = block_parameter(block)
    return ("eth_call", [call, at]), ("eth_estimateGas", [call, at])


def decode_simulation(
    block: Block,
    call_answer: JsonValue | RpcRefused,
    estimate_answer: JsonValue | RpcRefused,
    *,
    gas_margin_percent: int = DEFAULT_GAS_MARGIN_PERCENT,
    errors: Sequence[AbiFunction] = (),
) -> Simulated | Reverted:
    """What the two answers mean. Raises RpcRefused when the node did not run it, RpcMalformed for odd answers."""
    for answer in (call_answer, estimate_answer):
        if isinstance(answer, RpcRefused):
            if is_execution_failure(answer):
                return Reverted(reason=revert_reason(answer, errors), data=find_revert_data(answer))
            raise answer
    assert not isinstance(call_answer, RpcRefused)  # both were looked at above
    assert not isinstance(estimate_answer, RpcRefused)
    estimate = decode_count(estimate_answer, "eth_estimateGas")
    if estimate > block.gas_limit:
        return Reverted(reason=f"needs {estimate} gas, a block holds {block.gas_limit}", data=None)
    decode_data(call_answer, "eth_call")  # only whether it is an answer at all: what it returns is nobody's business
    with_margin = -(-estimate * (100 + gas_margin_percent) // 100)
    return Simulated(gas_limit=min(with_margin, block.gas_limit))

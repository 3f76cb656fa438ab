"""All named reads of one decision: one round trip, one block, so that a plugin never sees a mixture of two states.

The block is named by its hash (EIP-1898, https://eips.ethereum.org/EIPS/eip-1898) and must be canonical: a reorg in
between gives an error, never values of two chains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from protocol.values import Value, to_value
from runnerd.chain.abi import decode_outputs, encode_call
from runnerd.chain.abi_types import AbiFunction
from runnerd.chain.address import parse_address
from runnerd.chain.errors import AbiError, ReadFailed, ReadFailure, RpcRefused
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.revert import is_execution_failure, revert_reason
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.types import Block, decode_data


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """One named view call. Built once from the configuration: the constructor encodes, and raises AbiError."""

    name: str
    to: str
    function: AbiFunction
    args: Mapping[str, Value] = field(default_factory=dict)
    errors: Sequence[AbiFunction] = ()
    call: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        call = {"to": parse_address(self.to), "data": "0x" + encode_call(self.function, self.args).hex()}
        object.__setattr__(self, "call", call)


def block_parameter(block: Block) -> JsonParam:
    """The EIP-1898 parameter for exactly this block, refused by the node once it is no longer canonical."""
    return {"blockHash": block.hash, "requireCanonical": True}


async def fetch_reads(
    rpc: NodeBatches, block: Block, requests: Sequence[ReadRequest], *, timeout_s: float | None = None
) -> dict[str, Value]:
    """The values of all reads at `block`, by name; a function with several outputs, or none, gives a list.

    Raises ReadFailed with every read that reverted or did not decode; RpcRefused when the node cannot serve this block
    (not there yet, no longer canonical, pruned); RpcUnavailable.
    """
    at = block_parameter(block)
    calls: list[Request] = [("eth_call", [request.call, at]) for request in requests]
    answers = await rpc.batch(calls, timeout_s=timeout_s)
    values: dict[str, Value] = {}
    failures: list[ReadFailure] = []
    for request, answer in zip(requests, answers, strict=True):
        try:
            values[request.name] = _value(request, answer)
        except AbiError as error:
            failures.append(ReadFailure(name=request.name, reason=str(error)))
    if failures:
        raise ReadFailed(failures, block_number=block.number)
    return values


def _value(request: ReadRequest, answer: JsonValue | RpcRefused) -> Value:
    if isinstance(answer, RpcRefused):
        if is_execution_failure(answer):
            raise AbiError(f"reverted: {revert_reason(answer, request.errors)}")
        raise RpcRefused(answer.code, answer.message, answer.data, method=f"{answer.method} (read {request.name})")
    value = decode_outputs(request.function, decode_data(answer, f"eth_call (read {request.name})"))
    if not isinstance(value, tuple):
        return value
    try:
        return to_value(value)
    except ValueError as error:  # several outputs, one of them nested three deep already
        raise AbiError(f"{request.function.name}: {error}") from None

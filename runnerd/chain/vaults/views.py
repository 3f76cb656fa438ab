"""Questions to a contract, and to an address whether it has code: requests for a batch, and what their answers say."""

from collections.abc import Mapping

from protocol.values import Value
from runnerd.chain.abi import AbiFunction, decode_outputs, encode_call
from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.types import decode_data


def build_view(to: str, function: AbiFunction, args: Mapping[str, Value] | None = None) -> Request:
    """Call a view at the newest block."""
    return "eth_call", [{"to": to, "data": "0x" + encode_call(function, args or {}).hex()}, "latest"]


def decode_view(function: AbiFunction, answer: JsonValue | RpcRefused) -> Value | tuple[Value, ...]:
    """What the view returned. Raises RpcRefused or AbiError."""
    if isinstance(answer, RpcRefused):
        raise answer
    return decode_outputs(function, decode_data(answer, "eth_call"))


def build_code_request(address: str) -> Request:
    """Ask for the code at an address, at the newest block."""
    return "eth_getCode", [address, "latest"]


def decode_code(answer: JsonValue | RpcRefused) -> bytes:
    """The code; none is no bytes. Raises RpcRefused."""
    if isinstance(answer, RpcRefused):
        raise answer
    return decode_data(answer, "eth_getCode")

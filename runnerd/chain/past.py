"""What one mined transaction changed: its block's state and its parent's, a trace where the node has one. Pure.

A block holds other transactions too. Only a trace shows one alone; without it, `decode_neighbours` says which others
could have touched the vault, as far as their senders and targets show it.
"""

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from runnerd.chain.errors import ChainError, RpcMalformed, RpcRefused, printable
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.probe import Measure
from runnerd.chain.types import Hash, Quantity, Receipt, decode_data, decode_quantity

T = TypeVar("T")
W = TypeVar("W", bound=msgspec.Struct)

_Address = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]


class _Header(msgspec.Struct, rename="camel"):
    hash: Hash
    parent_hash: Hash


class _Transaction(msgspec.Struct, rename="camel"):
    hash: Hash
    from_: _Address = msgspec.field(name="from")
    to: _Address | None = None


class _FullBlock(msgspec.Struct, rename="camel"):
    transactions: list[_Transaction]


class _Account(msgspec.Struct):
    balance: Quantity | None = None


class _Difference(msgspec.Struct):
    pre: dict[str, _Account]
    post: dict[str, _Account]


def build_past(measure: Measure, parent_hash: str, block_hash: str) -> list[Request]:
    """Two requests: the measure in the state before a block, and after it."""
    requests: list[Request] = []
    for block in (parent_hash, block_hash):
        at: JsonParam = {"blockHash": block, "requireCanonical": True}
        if measure.data:
            requests.append(("eth_call", [{"to": measure.to, "data": "0x" + measure.data.hex()}, at]))
        else:
            requests.append(("eth_getBalance", [measure.to, at]))
    return requests


def decode_past(measure: Measure, answer: JsonValue) -> int | None:
    """One of its two numbers; None when the view returned nothing. Raises RpcMalformed."""
    if not measure.data:
        return decode_quantity(answer, "eth_getBalance")
    data = decode_data(answer, "eth_call")
    return int.from_bytes(data[:32], "big", signed=measure.is_signed) if len(data) >= 32 else None


def build_trace(receipt: Receipt) -> Request:
    """What it changed, account by account. Many public nodes refuse this."""
    options: JsonParam = {"diffMode": True, "disableCode": True, "disableStorage": True}
    return "debug_traceTransaction", [receipt.transaction_hash, {"tracer": "prestateTracer", "tracerConfig": options}]


def decode_trace(answer: JsonValue, address: str) -> int:
    """By how much the transaction changed the native balance of `address`. Raises RpcMalformed."""
    difference = _convert(answer, _Difference, "debug_traceTransaction")
    before, after = (
        {account.lower(): state.balance for account, state in side.items()}
        for side in (difference.pre, difference.post)
    )
    last = after.get(address.lower())
    if last is None:  # an account, or its balance, that is only in `pre` was not changed
        return 0
    return int(last, 16) - int(before.get(address.lower()) or "0x0", 16)


def decode_parent(answer: JsonValue) -> str:
    """The hash of a block's parent. Raises RpcMalformed, also for null: the node has no such block (any more)."""
    return _convert(answer, _Header, "eth_getBlockByHash").parent_hash.lower()


def decode_neighbours(answer: JsonValue, tx_hash: str, *involved: str) -> str:
    """Which other transactions of a full block come from or go to one of `involved`, in words; "" if none."""
    addresses = {address.lower() for address in involved}
    others = [
        transaction
        for transaction in _convert(answer, _FullBlock, "eth_getBlockByHash").transactions
        if transaction.hash.lower() != tx_hash.lower()
        and addresses & {transaction.from_.lower(), (transaction.to or "").lower()}
    ]
    return f"{len(others)} other transactions of operator or vault" if others else ""


def given(answer: JsonValue | RpcRefused) -> JsonValue:
    """An answer of a batch; raises the refusal that stands in its place."""
    if isinstance(answer, RpcRefused):
        raise answer
    return answer


def or_none(find: Callable[[], T]) -> T | None:
    """What it finds; None where the node refused or answered oddly: one piece of evidence less."""
    try:
        return find()
    except ChainError:
        return None


def _convert(answer: JsonValue, wanted: type[W], method: str) -> W:
    try:
        return msgspec.convert(answer, wanted)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RpcMalformed(printable(str(error)), method=method) from None

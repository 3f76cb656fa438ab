"""What a node says about blocks, receipts and fees, as typed structs, and the border functions that make them.

Shapes: https://ethereum.github.io/execution-apis. Amounts are wei. Hashes are `0x` hex in lower case. Unknown fields
are ignored (nodes add some), missing or malformed ones raise RpcMalformed.
"""

import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from runnerd.chain.errors import RpcMalformed, printable
from runnerd.chain.json_values import JsonValue

Quantity = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{1,64}\Z")]
Count = Annotated[str, Meta(pattern=r"^0x0{0,48}[0-7]?[0-9a-fA-F]{1,15}\Z")]
"""Block numbers, gas, times, nonces: at most MAX_COUNT. More is nonsense, and the ledger would refuse it."""
Hash = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{64}\Z")]
Data = Annotated[str, Meta(pattern=r"^0x([0-9a-fA-F]{2})*\Z")]

MAX_COUNT = (1 << 63) - 1
"""What a `bigint` column holds."""

_AT = re.compile(r" - at `\$\.?(.*)`\Z")
_W = TypeVar("_W")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A block's header, as far as it is used. `base_fee_wei` is None before London (EIP-1559)."""

    number: int
    hash: str
    timestamp: int
    base_fee_wei: int | None
    gas_limit: int
    """At most MAX_COUNT: some private chains have blocks without a limit, and name 2^64 - 1 or more."""
    parent_hash: str = ""
    """Empty where a node left it out; who follows the chain refuses such a block."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a mined transaction. `status` is 1 for success, 0 for a revert. Not final until its block is."""

    transaction_hash: str
    block_number: int
    block_hash: str
    status: int
    gas_used: int
    effective_gas_price_wei: int


class FeeHistory(msgspec.Struct, frozen=True, kw_only=True):
    """eth_feeHistory. `base_fees_wei` has one entry more than there are blocks: the last one is the next block's.

    `gas_used_ratios` and `rewards_wei` have one entry per block, oldest first; a reward entry has one number per
    percentile asked for, in wei per gas.
    """

    oldest_block: int
    base_fees_wei: tuple[int, ...]
    gas_used_ratios: tuple[float, ...]
    rewards_wei: tuple[tuple[int, ...], ...]


class _WireBlock(msgspec.Struct, rename="camel"):
    number: Count
    hash: Hash
    timestamp: Count
    gas_limit: Quantity
    base_fee_per_gas: Quantity | None = None
    parent_hash: Hash | None = None


class _WireReceipt(msgspec.Struct, rename="camel"):
    transaction_hash: Hash
    block_number: Count
    block_hash: Hash
    status: Annotated[str, Meta(pattern=r"^0x[01]\Z")]
    gas_used: Count
    effective_gas_price: Quantity


class _WireFeeHistory(msgspec.Struct, rename="camel"):
    oldest_block: Count
    base_fee_per_gas: Annotated[list[Quantity], Meta(min_length=1)]
    gas_used_ratio: list[float]
    reward: list[list[Quantity]] | None = None


def decode_block(answer: JsonValue, method: str = "eth_getBlockByNumber") -> Block:
    """The header in an eth_getBlockBy… answer. Raises RpcMalformed, also for null: a pending or unknown block."""
    wire = _convert(answer, _WireBlock, method)
    return Block(
        number=int(wire.number, 16),
        hash=wire.hash.lower(),
        timestamp=int(wire.timestamp, 16),
        base_fee_wei=None if wire.base_fee_per_gas is None else int(wire.base_fee_per_gas, 16),
        gas_limit=min(int(wire.gas_limit, 16), MAX_COUNT),
        parent_hash=(wire.parent_hash or "").lower(),
    )


def decode_receipt(answer: JsonValue, method: str = "eth_getTransactionReceipt") -> Receipt | None:
    """The receipt, or None when this node knows none: which is one node's word, not proof of absence."""
    if answer is None:
        return None
    wire = _convert(answer, _WireReceipt, method)
    return Receipt(
        transaction_hash=wire.transaction_hash.lower(),
        block_number=int(wire.block_number, 16),
        block_hash=wire.block_hash.lower(),
        status=int(wire.status, 16),
        gas_used=int(wire.gas_used, 16),
        effective_gas_price_wei=int(wire.effective_gas_price, 16),
    )


def decode_fee_history(answer: JsonValue, method: str = "eth_feeHistory") -> FeeHistory:
    """The fees of recent blocks. Raises RpcMalformed when the lists do not belong together."""
    wire = _convert(answer, _WireFeeHistory, method)
    rewards = wire.reward or []
    blocks = len(wire.base_fee_per_gas) - 1
    for field, rows in (("gasUsedRatio", len(wire.gas_used_ratio)), ("reward", len(rewards) or blocks)):
        if rows != blocks:
            raise RpcMalformed(f"{rows} entries for {blocks} blocks", method=method, field=field)
    return FeeHistory(
        oldest_block=int(wire.oldest_block, 16),
        base_fees_wei=tuple(int(fee, 16) for fee in wire.base_fee_per_gas),
        gas_used_ratios=tuple(wire.gas_used_ratio),
        rewards_wei=tuple(tuple(int(reward, 16) for reward in row) for row in rewards),
    )


def decode_quantity(answer: JsonValue, method: str) -> int:
    """An amount such as eth_getBalance's."""
    return int(_convert(answer, Quantity, method), 16)


def decode_count(answer: JsonValue, method: str) -> int:
    """A number that fits the ledger's columns, such as eth_chainId's or eth_getTransactionCount's."""
    return int(_convert(answer, Count, method), 16)


def decode_data(answer: JsonValue, method: str) -> bytes:
    """Bytes such as eth_call's or eth_getCode's."""
    return bytes.fromhex(_convert(answer, Data, method)[2:])


def decode_hash(answer: JsonValue, method: str) -> str:
    """A 32-byte hash such as eth_sendRawTransaction's, in lower case."""
    return _convert(answer, Hash, method).lower()


def _convert(answer: JsonValue, wanted: type[_W], method: str) -> _W:
    try:
        return msgspec.convert(answer, wanted)
    except (msgspec.ValidationError, RecursionError) as error:
        text = str(error)
        place = _AT.search(text)
        reason = printable(_AT.sub("", text))
        raise RpcMalformed(reason, method=method, field=place.group(1) if place else "") from None

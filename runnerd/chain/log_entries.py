"""Logs of many blocks, as eth_getLogs gives them. Bounded decoding; what they mean is `abi_event`'s.

https://ethereum.github.io/execution-apis, and EIP-234 for the form that names one block by its hash.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from runnerd.chain.errors import RpcMalformed, printable
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.logs import MAX_LOGS
from runnerd.chain.types import Count, Data, Hash


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One log and where it stands. Hashes and the address are in lower case."""

    address: str
    topics: tuple[str, ...]
    data: bytes
    block_number: int
    block_hash: str
    transaction_hash: str
    index: int


class _WireEntry(msgspec.Struct, rename="camel"):
    address: Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]
    topics: Annotated[tuple[Hash, ...], Meta(max_length=4)]
    data: Data
    block_number: Count
    block_hash: Hash
    transaction_hash: Hash
    log_index: Count
    removed: bool = False


_Entries = Annotated[list[_WireEntry], Meta(max_length=MAX_LOGS)]


def in_block(block_hash: str, addresses: Sequence[str], topics: Sequence[str | None]) -> Request:
    """All logs of one block that fit."""
    return "eth_getLogs", [{"blockHash": block_hash, "address": list(addresses), "topics": list(topics)}]


def in_range(first: int, last: int, addresses: Sequence[str], topics: Sequence[str | None]) -> Request:
    """All logs of these blocks that fit, both ends among them."""
    where: JsonParam = {
        "fromBlock": hex(first), "toBlock": hex(last), "address": list(addresses), "topics": list(topics)
    }  # fmt: skip
    return "eth_getLogs", [where]


def decode_entries(answer: JsonValue) -> list[LogEntry]:
    """In the order of the chain. Raises RpcMalformed."""
    try:
        wire = msgspec.convert(answer, _Entries)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RpcMalformed(printable(str(error)), method="eth_getLogs") from None
    entries = {
        (entry.block_number, entry.index): entry
        for entry in (
            LogEntry(
                address=one.address.lower(),
                topics=tuple(topic.lower() for topic in one.topics),
                data=bytes.fromhex(one.data[2:]),
                block_number=int(one.block_number, 16),
                block_hash=one.block_hash.lower(),
                transaction_hash=one.transaction_hash.lower(),
                index=int(one.log_index, 16),
            )
            for one in wire
            if not one.removed
        )
    }
    return [entries[key] for key in sorted(entries)]

"""Whether a Safe carried out a SafeTx: its `ExecutionSuccess` events, looked through by hash. Pure.

Safes from 1.4.1 on index the hash, 1.3 has it in the data: both are read.
"""

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from eth_hash.auto import keccak
from msgspec import Meta, Struct

from runnerd.chain.errors import RpcMalformed
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.types import Count, Data, Hash

EXECUTION_SUCCESS: Final = "0x" + keccak(b"ExecutionSuccess(bytes32,uint256)").hex()
MAX_LOGS: Final = 10_000


class _Log(Struct, frozen=True, rename="camel"):
    topics: Annotated[list[Hash], Meta(max_length=4)]
    data: Data
    transaction_hash: Hash
    block_number: Count


@dataclass(frozen=True, slots=True)
class Execution:
    """Where it took place."""

    transaction: str
    block: int


def build_execution_request(safe: str, from_block: int) -> Request:
    """The Safe's events of success since a block."""
    return "eth_getLogs", [{"address": safe, "fromBlock": hex(from_block), "topics": [EXECUTION_SUCCESS]}]


def find_execution(answer: JsonValue, safe_tx_hash: bytes) -> Execution | None:
    """The event with this hash; None if there is none. Raises RpcMalformed."""
    try:
        logs = msgspec.convert(answer, Annotated[list[_Log], Meta(max_length=MAX_LOGS)])
    except msgspec.ValidationError as error:
        raise RpcMalformed(str(error), method="eth_getLogs") from None
    wanted = "0x" + safe_tx_hash.hex()
    for log in logs:
        named = log.topics[1] if len(log.topics) > 1 else log.data[:66]
        if log.topics[:1] == [EXECUTION_SUCCESS] and named.lower() == wanted:
            return Execution(log.transaction_hash.lower(), int(log.block_number, 16))
    return None

"""Which transaction used a nonce: found by the account's nonce at earlier blocks, and one whole block.

Asked only when something is wrong. The node must know the account's state at these blocks: any node does for the last
128, an archive node for all. Positions are in the answers of one node; who needs proof asks others about the result.
"""

import re
from dataclasses import dataclass
from typing import Final

from runnerd.chain.address import checksum_address
from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.pool.agreement import Comparable, comparable
from runnerd.chain.rpc import NodeCalls
from runnerd.chain.types import decode_count, decode_hash, decode_quantity

BY_HASH: Final = "eth_getTransactionByHash"
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_DATA = re.compile(r"0x([0-9a-fA-F]{2})*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTransaction:
    """A mined transaction. `target` is None for a created contract; `selector` is what a call begins with."""

    hash: str
    sender: str
    nonce: int
    block: int
    block_hash: str
    target: str | None
    selector: str | None
    value_wei: int


async def find_transaction(rpc: NodeCalls, sender: str, nonce: int, head: int) -> FoundTransaction | None:
    """The transaction of `sender` with `nonce` in a block up to `head`. Raises ChainError.

    None when the nonce is not used there, or by no transaction of the sender: an EIP-7702 authorization uses one, too.
    """
    block = await _find_block(rpc, sender, nonce, head)
    if block is None:
        return None
    answer = await rpc.call("eth_getBlockByNumber", [hex(block), True])
    if not isinstance(answer, dict):
        return None
    block_hash = decode_hash(answer.get("hash"), "eth_getBlockByNumber")
    transactions = answer.get("transactions")
    for wire in transactions if isinstance(transactions, list) else ():
        if isinstance(wire, dict) and str(wire.get("from", "")).lower() == sender.lower():
            found = _decode(wire, block, block_hash)
            if found.nonce == nonce:
                return found
    return None


def read_transaction(answer: JsonValue) -> FoundTransaction | None:
    """What `eth_getTransactionByHash` answers about a mined transaction; None for another. Raises RpcMalformed."""
    if not isinstance(answer, dict) or answer.get("blockHash") is None:
        return None
    block = decode_count(answer.get("blockNumber"), BY_HASH)
    return _decode(answer, block, decode_hash(answer.get("blockHash"), BY_HASH))


def identity(method: str, result: JsonValue) -> Comparable:
    """For a quorum: what makes a transaction the one that used a nonce. Nodes differ in what else they tell."""
    if method != BY_HASH or not isinstance(result, dict):
        return comparable(method, result)
    return tuple(str(result.get(name)).lower() for name in ("hash", "from", "nonce", "blockHash", "blockNumber"))


async def _find_block(rpc: NodeCalls, sender: str, nonce: int, head: int) -> int | None:
    """The first block after which the nonce is used: looks back in steps that double, then halves what is between."""

    async def is_used(block: int) -> bool:
        answer = await rpc.call("eth_getTransactionCount", [sender, hex(block)])
        return decode_count(answer, "eth_getTransactionCount") > nonce

    if not await is_used(head):
        return None
    used, step = head, 1
    while True:
        unused = max(head - step, 0)
        try:
            if not await is_used(unused):
                break
        except RpcRefused:
            if used == head:
                raise
            return None  # older state than this node has
        if unused == 0:
            return 0
        used, step = unused, step * 2
    while used - unused > 1:
        middle = (used + unused) // 2
        if await is_used(middle):
            used = middle
        else:
            unused = middle
    return used


def _decode(wire: dict[str, JsonValue], block: int, block_hash: str) -> FoundTransaction:
    method = "eth_getBlockByNumber"
    sender, target, data = wire.get("from"), wire.get("to"), wire.get("input")
    has_target = isinstance(target, str) and _ADDRESS.match(target) is not None
    is_call = has_target and isinstance(data, str) and _DATA.match(data) is not None and len(data) >= 10
    return FoundTransaction(
        hash=decode_hash(wire.get("hash"), method),
        sender=checksum_address(sender) if isinstance(sender, str) and _ADDRESS.match(sender) else "",
        nonce=decode_count(wire.get("nonce"), method),
        block=block,
        block_hash=block_hash,
        target=checksum_address(str(target)) if has_target else None,
        selector=str(data)[:10].lower() if is_call else None,
        value_wei=decode_quantity(wire.get("value"), method),
    )

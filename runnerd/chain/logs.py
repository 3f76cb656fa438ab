"""What an ERC-20's Transfer logs in a receipt say of one holder's balance. Bounded decoding; asked after the fact.

https://eips.ethereum.org/EIPS/eip-20: `Transfer(address indexed from, address indexed to, uint256 value)`.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from eth_hash.auto import keccak
from msgspec import Meta

from runnerd.chain.errors import RpcMalformed, printable
from runnerd.chain.json_values import JsonValue
from runnerd.chain.types import Data, Hash

MAX_LOGS: Final = 50_000
"""A block of 36 million gas holds at most 96,000 of the smallest logs, a transaction (EIP-7825) 45,000."""

TRANSFER: Final = "0x" + keccak(b"Transfer(address,address,uint256)").hex()


class Log(msgspec.Struct, frozen=True):
    """One log of a receipt. `address` is the contract that wrote it; case is as the node has it."""

    address: Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]
    topics: Annotated[tuple[Hash, ...], Meta(max_length=4)]
    data: Data


class _WireLogs(msgspec.Struct):
    logs: Annotated[tuple[Log, ...], Meta(max_length=MAX_LOGS)]


def decode_logs(answer: JsonValue, method: str = "eth_getTransactionReceipt") -> tuple[Log, ...]:
    """The logs in a receipt that is there. Raises RpcMalformed."""
    try:
        return msgspec.convert(answer, _WireLogs).logs
    except (msgspec.ValidationError, RecursionError) as error:
        raise RpcMalformed(printable(str(error)), method=method, field="logs") from None


def token_change(logs: Sequence[Log], token: str, holder: str) -> int:
    """By how much `token`'s own logs say that the balance of `holder` changed."""
    written_by, word = token.lower(), "0x" + "00" * 12 + holder[2:].lower()
    change = 0
    for log in logs:
        # Three topics: ERC-721 has the same event with four, and its number is an id.
        if log.address.lower() != written_by or len(log.topics) != 3 or log.topics[0].lower() != TRANSFER:
            continue
        value = int(log.data[:66], 16) if len(log.data) >= 66 else 0
        change += value * ((log.topics[2].lower() == word) - (log.topics[1].lower() == word))
    return change

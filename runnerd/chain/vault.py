"""The seam to a vault's batch call: many calls of one decision, one calldata. `erc7821` is the first adapter.

Adapters for Safe and Zodiac Roles follow it. Pure: an adapter only encodes and decodes, others send and read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that the vault makes: `to` is an address, `value_wei` is sent with it, `data` is its calldata."""

    to: str
    value_wei: int
    data: bytes


class VaultAdapter(Protocol):
    """What the executor needs to know of a kind of vault. Raises AbiError for what cannot be encoded or decoded."""

    def encode_batch(self, calls: Sequence[Call], intent_id: bytes) -> bytes:
        """Calldata for the vault that makes all `calls` in order, or none of them.

        A vault that knows ids takes effect at most once for the 32-byte `intent_id`; a kind of vault that cannot do
        that raises AbiError instead of dropping the id.
        """

    def operator_request(self) -> tuple[str, bytes]:
        """Address and calldata of the view that names the vault's operator on chain."""

    def decode_operator(self, data: bytes) -> str:
        """The operator's checksummed address from what that view returned."""

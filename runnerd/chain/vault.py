"""The seam to a kind of vault: many calls of one decision, one transaction; and whether our wallet may send it.

Pure: an adapter only builds and decodes, others send and read. The kinds are in `runnerd.chain.vaults`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that the vault makes: `to` is an address, `value_wei` is sent with it, `data` is its calldata."""

    to: str
    value_wei: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the operator's transaction calls: the address and the calldata. Its own value is zero."""

    to: str
    data: bytes


class VaultAdapter(Protocol):
    """What the executor needs to know of a kind of vault. Raises AbiError for what cannot be encoded or decoded."""

    @property
    def address(self) -> str:
        """The vault, checksummed: who makes the calls and holds the funds."""

    @property
    def operator(self) -> str:
        """Our wallet, checksummed: who sends the transaction."""

    def build(self, calls: Sequence[Call], intent_id: bytes) -> Batch:
        """The transaction by which the vault makes all `calls` in order, or none of them.

        A vault that knows ids takes effect at most once for the 32-byte `intent_id`. Another kind does without: then
        the nonce of the transaction is the only lock (docs/security.md).
        """

    def without_signatures(self, data: bytes) -> bytes:
        """What `build` made, when others may have put their signatures into it since; else `data` itself."""

    def build_admission(self) -> tuple[Request, ...]:
        """What to ask a node before anything is signed, in one batch."""

    def find_problem(self, answers: Sequence[JsonValue | RpcRefused]) -> str | None:
        """Why our wallet may not act for this vault, and what its owner must do; None if it may.

        Raises AbiError or RpcRefused when an answer is not that of a vault of this kind.
        """

"""Transactions as values, and their two encodings: what is signed and what is sent. Pure, no key.

Two kinds: EIP-1559, and legacy with the chain id of EIP-155 for chains without a base fee. Encoded by hand (RLP as in
the Yellow Paper's appendix B): eth_account takes 0.3 ms for a signature, of which the curve needs 17 µs; a property
test holds every byte equal to eth_account's.
"""

import re
from dataclasses import dataclass

from eth_hash.auto import keccak

from runnerd.wallets.errors import TransactionInvalid

TRANSACTION_TYPE = b"\x02"
EIP_155_OFFSET = 35
"""`v` of a legacy signature is twice the chain id, plus this, plus the recovery id."""
MAX_DATA_BYTES = 128 << 10
"""geth's txpool refuses larger transactions."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_EMPTY_ACCESS_LIST = b"\xc0"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsignedTransaction:
    """A dynamic-fee transaction without access list. `to` is a `0x` address: contracts are never created.

    With `is_legacy` a legacy one, whose gas price is `max_fee_per_gas_wei`; `max_priority_fee_per_gas_wei` is the same.
    Raises TransactionInvalid when a field is out of range, so a signer never sees one that no node would take.
    """

    chain_id: int
    nonce: int
    to: str
    value_wei: int
    data: bytes
    gas_limit: int
    max_fee_per_gas_wei: int
    max_priority_fee_per_gas_wei: int
    is_legacy: bool = False

    def __post_init__(self) -> None:
        allowed = (
            ("chain_id", self.chain_id, 1, (1 << 64) - 1),
            ("nonce", self.nonce, 0, (1 << 64) - 2),  # EIP-2681
            ("value_wei", self.value_wei, 0, (1 << 256) - 1),
            ("gas_limit", self.gas_limit, 21_000, (1 << 64) - 1),
            ("max_fee_per_gas_wei", self.max_fee_per_gas_wei, 0, (1 << 256) - 1),
            ("max_priority_fee_per_gas_wei", self.max_priority_fee_per_gas_wei, 0, self.max_fee_per_gas_wei),
        )
        for field, value, lowest, highest in allowed:
            if type(value) is not int or not lowest <= value <= highest:
                raise TransactionInvalid(field, f"{value!r} is not an integer from {lowest} to {highest}")
        if self.is_legacy and self.max_priority_fee_per_gas_wei != self.max_fee_per_gas_wei:
            reason = f"a legacy transaction has one gas price: expected {self.max_fee_per_gas_wei}"
            raise TransactionInvalid("max_priority_fee_per_gas_wei", reason)
        if not _ADDRESS.match(self.to):
            raise TransactionInvalid("to", "expected 0x and 40 hex digits")
        if type(self.data) is not bytes or len(self.data) > MAX_DATA_BYTES:
            raise TransactionInvalid("data", f"expected at most {MAX_DATA_BYTES} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """The bytes for eth_sendRawTransaction and their hash (`0x` hex, lower case): identical bytes, identical hash."""

    raw: bytes
    hash: str


def encode_for_signing(transaction: UnsignedTransaction) -> bytes:
    """What the sender signs, before hashing: as in EIP-1559, or in EIP-155 for a legacy transaction."""
    if transaction.is_legacy:
        return _rlp_list(_fields(transaction) + _rlp_integer(transaction.chain_id) + _rlp_integer(0) + _rlp_integer(0))
    return TRANSACTION_TYPE + _rlp_list(_fields(transaction))


def assemble(transaction: UnsignedTransaction, signature: bytes) -> SignedTransaction:
    """The transaction with its signature: 65 bytes r, s and recovery id (0 or 1)."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    parity = signature[64]
    v = transaction.chain_id * 2 + EIP_155_OFFSET + parity if transaction.is_legacy else parity
    signed = _rlp_list(_fields(transaction) + _rlp_integer(v) + _rlp_integer(r) + _rlp_integer(s))
    raw = signed if transaction.is_legacy else TRANSACTION_TYPE + signed
    return SignedTransaction(raw=raw, hash="0x" + keccak(raw).hex())


def _fields(transaction: UnsignedTransaction) -> bytes:
    target = (
        _rlp_integer(transaction.gas_limit),
        _rlp_bytes(bytes.fromhex(transaction.to[2:])),
        _rlp_integer(transaction.value_wei),
        _rlp_bytes(transaction.data),
    )
    if transaction.is_legacy:
        return b"".join((_rlp_integer(transaction.nonce), _rlp_integer(transaction.max_fee_per_gas_wei), *target))
    return b"".join(
        (
            _rlp_integer(transaction.chain_id),
            _rlp_integer(transaction.nonce),
            _rlp_integer(transaction.max_priority_fee_per_gas_wei),
            _rlp_integer(transaction.max_fee_per_gas_wei),
            *target,
            _EMPTY_ACCESS_LIST,
        )
    )


def _rlp_integer(number: int) -> bytes:
    return _rlp_bytes(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _rlp_bytes(data: bytes) -> bytes:
    return data if len(data) == 1 and data[0] < 0x80 else _rlp_prefix(0x80, len(data)) + data


def _rlp_list(items: bytes) -> bytes:
    return _rlp_prefix(0xC0, len(items)) + items


def _rlp_prefix(base: int, length: int) -> bytes:
    if length < 56:
        return bytes((base + length,))
    length_bytes = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((base + 55 + len(length_bytes),)) + length_bytes

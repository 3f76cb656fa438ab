"""A signed transaction that came from elsewhere, held against what was asked, byte for byte. Pure.

Only r, s and the recovery id are ever taken from it: the rest is encoded here again, and must be the same. Used by
`remote`.
"""

from eth_hash.auto import keccak

from runnerd.wallets.signature import HALF_ORDER, ORDER, recover_address
from runnerd.wallets.transaction import (
    EIP_155_OFFSET,
    TRANSACTION_TYPE,
    SignedTransaction,
    UnsignedTransaction,
    assemble,
    encode_for_signing,
)

_LEGACY_FIELDS = ("nonce", "gas price", "gas limit", "to", "value", "data")
_FIELDS = (
    "chain id", "nonce", "max priority fee", "max fee", "gas limit", "to", "value", "data", "access list",
)  # fmt: skip
_SIGNATURE = ("v", "r", "s")
_SHOWN_BYTES = 8


def accept_returned(transaction: UnsignedTransaction, raw: bytes, address: str) -> SignedTransaction:
    """`raw`, if it is exactly `transaction` signed by `address` with low s. Raises ValueError, which names what is not.

    `raw` is untrusted: of any length and content.
    """
    items = _items_of_kind(transaction, raw)
    names = _LEGACY_FIELDS if transaction.is_legacy else _FIELDS
    if len(items) != len(names) + len(_SIGNATURE):
        raise ValueError(f"it has {len(items)} fields, not {len(names) + len(_SIGNATURE)}")
    asked = _items(assemble(transaction, bytes(65)).raw[0 if transaction.is_legacy else 1 :])
    for name, given, wanted in zip(names, items, asked, strict=False):
        if given != wanted:
            raise ValueError(f"{name} is {_shown(given)}, asked was {_shown(wanted)}")
    v, r, s = (_integer(name, item) for name, item in zip(_SIGNATURE, items[len(names) :], strict=True))
    first = transaction.chain_id * 2 + EIP_155_OFFSET if transaction.is_legacy else 0
    if v - first not in (0, 1):
        raise ValueError(f"v is {v}, which is not of chain {transaction.chain_id}")
    if not (0 < r < ORDER and 0 < s < ORDER):
        raise ValueError("r or s is out of range")
    if s > HALF_ORDER:
        raise ValueError("s is in the upper half, which EIP-2 forbids")
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((v - first,))
    signer = recover_address(keccak(encode_for_signing(transaction)), signature)
    if signer != address:
        raise ValueError(f"it is signed by {signer or 'nobody'}, not by {address}")
    signed = assemble(transaction, signature)
    if signed.raw != raw:
        raise ValueError("its encoding is not the shortest")
    return signed


def _items_of_kind(transaction: UnsignedTransaction, raw: bytes) -> list[bytes]:
    """The fields of a transaction of the right type."""
    kind = raw[:1]
    if transaction.is_legacy:
        if kind < b"\xc0":
            raise ValueError("it is not a legacy transaction")
        return _items(raw)
    if kind != TRANSACTION_TYPE:
        raise ValueError("it is not an EIP-1559 transaction (type 2)")
    return _items(raw[1:])


def _items(encoded: bytes) -> list[bytes]:
    """The items of a flat RLP list; an inner list as its encoding. Raises ValueError when it is not one list."""
    start, end = _span(encoded, 0)
    if not encoded or encoded[0] < 0xC0 or end != len(encoded):
        raise ValueError("it is not one RLP list")
    items = []
    while start < end:
        first, last = _span(encoded, start)
        if last > end:
            raise ValueError("an RLP item reaches beyond its list")
        items.append(encoded[start if encoded[start] >= 0xC0 else first : last])
        start = last
    return items


def _span(encoded: bytes, at: int) -> tuple[int, int]:
    """Where the content of the item at `at` begins and ends."""
    if at >= len(encoded):
        raise ValueError("it is empty")
    head = encoded[at]
    if head < 0x80:
        return at, at + 1
    base = 0xC0 if head >= 0xC0 else 0x80
    if head - base < 56:
        return at + 1, at + 1 + head - base
    size = head - base - 55
    return at + 1 + size, at + 1 + size + int.from_bytes(encoded[at + 1 : at + 1 + size], "big")


def _integer(name: str, item: bytes) -> int:
    if len(item) > 32:
        raise ValueError(f"{name} is longer than 32 bytes")
    return int.from_bytes(item, "big")


def _shown(item: bytes) -> str:
    """In hex, as much as a line holds."""
    if len(item) > 2 * _SHOWN_BYTES + 4:
        return f"0x{item[:_SHOWN_BYTES].hex()}… ({len(item)} bytes)"
    return "0x" + item.hex()

"""ECDSA signatures over secp256k1 that others made: read, brought into Ethereum's form, proven to be of one address.

Pure, no key. Used by `kms` and `remote`, which trust nothing that they have not recovered the address of.
"""

from typing import Final

from coincurve import PublicKey
from eth_hash.auto import keccak

from runnerd.chain.address import checksum_address

ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Of the group (SEC 2, section 2.4.1): r and s are below it."""
HALF_ORDER: Final = ORDER // 2
"""The highest s that a transaction may have (EIP-2)."""

_SECP256K1_SPKI: Final = bytes.fromhex("3056301006072a8648ce3d020106052b8104000a034200")
"""Head of every DER SubjectPublicKeyInfo (RFC 5480) of id-ecPublicKey on secp256k1; the uncompressed point follows."""
_DER_SEQUENCE: Final = 0x30
_DER_INTEGER: Final = 0x02


def address_of(public_key: PublicKey) -> str:
    """The checksummed address of a key."""
    return checksum_address("0x" + keccak(public_key.format(compressed=False)[1:])[12:].hex())


def decode_public_key(der: bytes) -> PublicKey:
    """The key in a DER SubjectPublicKeyInfo. Raises ValueError when it is of another curve, or no key."""
    if not der.startswith(_SECP256K1_SPKI) or len(der) != len(_SECP256K1_SPKI) + 65:
        raise ValueError("not an uncompressed public key on secp256k1")
    return PublicKey(der[len(_SECP256K1_SPKI) :])


def decode_der_signature(der: bytes) -> tuple[int, int]:
    """r and s of a DER ECDSA-Sig-Value (RFC 3279). Raises ValueError for anything but the shortest encoding."""
    if len(der) < 2 or der[0] != _DER_SEQUENCE or der[1] != len(der) - 2:
        raise ValueError("not a DER signature")
    r, rest = _der_integer(der[2:])
    s, rest = _der_integer(rest)
    if rest:
        raise ValueError("bytes after the DER signature")
    return r, s


def complete_signature(digest: bytes, r: int, s: int, address: str) -> bytes:
    """r, low s and the recovery id with which `digest` (32 bytes) was signed by `address`: 65 bytes.

    A signature with high s is as valid as the one with its complement, which EIP-2 wants. Raises ValueError when it is
    not a signature of `digest` by `address`: it proves that the signer signed what was asked, with the right key.
    """
    if not (0 < r < ORDER and 0 < s < ORDER):
        raise ValueError("r or s is out of range")
    low = min(s, ORDER - s)
    for recovery_id in (0, 1):
        signature = r.to_bytes(32, "big") + low.to_bytes(32, "big") + bytes((recovery_id,))
        if recover_address(digest, signature) == address:
            return signature
    raise ValueError(f"it is not a signature of what was asked by {address}")


def recover_address(digest: bytes, signature: bytes) -> str | None:
    """Who signed `digest` (32 bytes): r, s and recovery id, 65 bytes. None when nobody can have."""
    try:
        return address_of(PublicKey.from_signature_and_message(signature, digest, hasher=None))
    except ValueError:  # r is no point of the curve
        return None


def _der_integer(der: bytes) -> tuple[int, bytes]:
    """A positive INTEGER of at most 33 bytes, and what follows it."""
    if len(der) < 3 or der[0] != _DER_INTEGER or not 1 <= der[1] <= 33 or len(der) < 2 + der[1]:
        raise ValueError("not a DER integer")
    content, rest = der[2 : 2 + der[1]], der[2 + der[1] :]
    is_padded = len(content) > 1 and content[0] == 0 and content[1] < 0x80
    if content[0] >= 0x80 or is_padded:
        raise ValueError("a DER integer that is negative or not the shortest")
    return int.from_bytes(content, "big"), rest

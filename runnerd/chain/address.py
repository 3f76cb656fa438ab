"""EVM addresses as text: EIP-55 checksums (https://eips.ethereum.org/EIPS/eip-55). Refuses what a typo could be."""

import re
from functools import lru_cache

from eth_hash.auto import keccak

from runnerd.chain.errors import AbiError, printable

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")


@lru_cache(maxsize=4096)
def checksum_address(address: str) -> str:
    """The EIP-55 form of `0x` and 40 hex digits of any case. Raises AbiError for anything else."""
    if not _ADDRESS.match(address):
        raise AbiError(f"{printable(address, 50)!r} is not an address: expected 0x and 40 hex digits")
    digits = address[2:].lower()
    digest = keccak(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(digest[i], 16) >= 8 else c for i, c in enumerate(digits))


def parse_address(address: str) -> str:
    """The EIP-55 form of an address that a person or a plugin wrote. Raises AbiError.

    All lower or all upper case carries no checksum and is taken; mixed case must be the right checksum.
    """
    checksummed = checksum_address(address)
    digits = address[2:]
    if digits not in {digits.lower(), digits.upper()} and address != checksummed:
        raise AbiError(f"{address} has a wrong EIP-55 checksum: a digit or a letter's case is mistyped")
    return checksummed


def address_bytes(address: str) -> bytes:
    """The 20 bytes of an address already checked."""
    return bytes.fromhex(address[2:])

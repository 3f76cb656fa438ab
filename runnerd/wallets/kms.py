"""The signer whose key never leaves AWS KMS: an asymmetric key ECC_SECG_P256K1, which signs digests.

KMS sees a digest, not a transaction, and so cannot judge it; whoever may call kms:Sign on the key is the operator. Its
signatures are random, not of RFC 6979: two for one transaction differ. That is harmless, because bytes are stored
before anybody sees them, and two of one nonce exclude each other. docs/adr/0015.
"""

from eth_hash.auto import keccak

from runnerd.text import printable
from runnerd.wallets.errors import SignerMismatch, SignerRefused
from runnerd.wallets.kms_client import KmsClient, KmsKey
from runnerd.wallets.redacted import Redacted
from runnerd.wallets.signature import address_of, complete_signature, decode_der_signature, decode_public_key
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction, assemble, encode_for_signing

KEY_SPEC = "ECC_SECG_P256K1"
KEY_USAGE = "SIGN_VERIFY"
ALGORITHM = "ECDSA_SHA_256"
"""KMS's name for ECDSA on a digest of 32 bytes; with MessageType=DIGEST nothing is hashed by it."""


class KmsSigner(Redacted):
    """`Signer` with a key in KMS. Made by `open_kms`."""

    __slots__ = ("_address", "_arn", "_client", "_name")

    def __init__(self, client: KmsClient, name: str, arn: str, address: str) -> None:
        self._client = client
        self._name = name
        self._arn = arn
        self._address = address

    def __repr__(self) -> str:
        return f"<KmsSigner {self._address} of {self._name}: credentials redacted>"

    @property
    def address(self) -> str:
        """The checksummed address it signs for."""
        return self._address

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """The signed transaction, after the signature was proven to be this key's and of this digest."""
        digest = keccak(encode_for_signing(transaction))
        der = await self._client.fetch_signature(self._arn, digest)
        try:
            signature = complete_signature(digest, *decode_der_signature(der), self._address)
        except ValueError as error:
            raise SignerMismatch(self._name, str(error)) from None
        return assemble(transaction, signature)

    async def close(self) -> None:
        """Close the connections to KMS."""
        await self._client.close()


async def open_kms(
    key_id: str, *, region: str | None = None, endpoint_url: str | None = None, address: str | None = None
) -> KmsSigner:
    """Ask KMS for the public key, and check that it can sign for us. `address`: what the key must be for, if known.

    Raises SignerUnavailable, SignerRefused, SignerMismatch. An alias is resolved here, once: should it be moved to
    another key later, the key of the start stays the one that signs.
    """
    name = f"KMS key {printable(key_id)}"
    client = await KmsClient.open(name, region or region_of(key_id), endpoint_url)
    try:
        key = await client.fetch_key(key_id)
        found = _check(name, key)
        if address is not None and found != address:
            raise SignerRefused(name, f"it is the key of {found}", f"the configuration says {address}: correct one")
    except BaseException:
        await client.close()
        raise
    return KmsSigner(client, name, key.arn, found)


def region_of(key_id: str) -> str | None:
    """The region that an ARN names; None for an id or an alias."""
    parts = key_id.split(":")
    return parts[3] if len(parts) == 6 and parts[0] == "arn" else None


def _check(name: str, key: KmsKey) -> str:
    """The address of a key that can sign for us."""
    if (key.spec, key.usage) != (KEY_SPEC, KEY_USAGE) or ALGORITHM not in key.algorithms:
        found = printable(f"it is a key {key.spec} for {key.usage}")
        raise SignerRefused(name, found, f"create one with spec {KEY_SPEC} and usage {KEY_USAGE}")
    try:
        return address_of(decode_public_key(key.public_key))
    except ValueError as error:
        raise SignerMismatch(name, f"its public key is {error}") from None

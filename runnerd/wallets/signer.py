"""The seam to whatever signs: today `keystore.KeystoreSigner`; a KMS or an HSM later. Used by the executor's lane."""

from typing import Protocol

from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction


class Signer(Protocol):
    """Signs for exactly one address. Never asked whether it should: the executor's policy has decided before."""

    @property
    def address(self) -> str:
        """The checksummed address it signs for."""

    def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """The signed transaction. Raises WalletError. The same transaction gives the same bytes (RFC 6979)."""

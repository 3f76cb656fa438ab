"""The seam to whatever signs: a `keystore` here, AWS `kms`, or a `remote` signer. Used by the executor's lane.

`runnerd.runner.unlock` makes one of each configured wallet. tests/test_signing.py holds who may call `sign`, and with
what.
"""

from typing import Protocol

from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction


class Signer(Protocol):
    """Signs transactions for exactly one address, and nothing else. Never asked whether it should: policy has decided.

    Nothing that `sign` returns was seen by anybody before the executor has stored it.
    """

    @property
    def address(self) -> str:
        """The checksummed address it signs for."""

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """The signed transaction, checked to be of `address` and of these fields. Not always the same bytes (KMS).

        Raises SignerUnavailable when it may work later, and any other WalletError when trying again is of no use.
        """

    async def close(self) -> None:
        """Let go of connections. Nothing is signed after that."""

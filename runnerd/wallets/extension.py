"""A signer of a third party: asked for the raw signed transaction, which is then checked like a remote signer's."""

import asyncio
from typing import Final, Protocol

from runnerd.errors import explain
from runnerd.wallets.errors import SignerMismatch, SignerRefused, SignerUnavailable, WalletError
from runnerd.wallets.returned import accept_returned
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction

SIGN_DEADLINE_S: Final = 30.0


class RawSigner(Protocol):
    """What an entry point in `runnerd.signers` makes: signs for exactly one address."""

    @property
    def address(self) -> str:
        """The checksummed address it signs for."""

    async def sign(self, transaction: UnsignedTransaction) -> bytes:
        """The signed transaction, encoded for the node.

        Raises SignerUnavailable when it may work later, SignerRefused when trying again is of no use.
        """

    async def close(self) -> None:
        """Let go of connections."""


class ExtensionSigner:
    """See `wallets.signer.Signer`. Nothing that the extension returns is used but what it was asked for."""

    def __init__(self, signer: RawSigner, name: str, address: str) -> None:
        self._signer = signer
        self._name = name
        self._address = address

    @property
    def address(self) -> str:
        """The checksummed address it signs for: as it said when it was opened."""
        return self._address

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """Raises SignerUnavailable, SignerRefused, SignerMismatch."""
        try:
            async with asyncio.timeout(SIGN_DEADLINE_S):
                raw = await self._signer.sign(transaction)
        except WalletError:
            raise
        except TimeoutError as error:
            raise SignerUnavailable(self._name, f"no answer within {SIGN_DEADLINE_S:g} s") from error
        except Exception as error:  # a defect of the extension
            reason = explain(error)
            raise SignerRefused(self._name, reason, "mend the package of the signer") from error
        if not isinstance(raw, bytes):
            raise SignerMismatch(self._name, f"it is {type(raw).__name__}, not bytes")
        try:
            return accept_returned(transaction, raw, self._address)
        except ValueError as error:
            raise SignerMismatch(self._name, str(error)) from error

    async def close(self) -> None:
        """Let go of connections."""
        await self._signer.close()

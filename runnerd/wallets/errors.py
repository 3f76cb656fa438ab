"""Everything that `runnerd.wallets` raises. No text or field ever holds a key or a passphrase."""

from pathlib import Path

from runnerd.errors import RunnerdError, Transient


class WalletError(RunnerdError):
    """Root of all errors of this package."""


class KeystoreUnreadable(WalletError):
    """The keystore file is missing, not readable for this user, or not a Web3 Secret Storage v3 file."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"keystore {path}: {reason}")


class KeystoreExists(WalletError):
    """A keystore is never overwritten. Choose another path, or move the old file away yourself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} exists and is never overwritten: choose another path or move it away")


class KeystoreUnwritable(WalletError):
    """The new keystore could not be written; nothing is left behind. Does its directory exist, is it writable?"""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"cannot write keystore {path}: {reason}")


class WrongPassphrase(WalletError):
    """The passphrase does not open this keystore. Check that both belong together, and for a stray line break."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"the passphrase does not open keystore {path}: check that the two belong together")


class PassphraseUnavailable(WalletError):
    """The passphrase cannot be had from its source, or the source is not safe. `remedy` says what to do."""

    def __init__(self, source: str, reason: str, remedy: str) -> None:
        self.source = source
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"passphrase from {source}: {reason}; {remedy}")


class TransactionInvalid(WalletError):
    """A transaction's field is out of range. Nothing was signed."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"transaction field {field}: {reason}")


class SignerUnavailable(WalletError, Transient):
    """The signer cannot be asked right now: it does not answer, or wants fewer requests. Nothing was signed; try again.

    The only error of a signer after which an intent waits.
    """

    def __init__(self, signer: str, reason: str) -> None:
        self.signer = signer
        self.reason = reason
        super().__init__(f"{signer} cannot be asked now: {reason}")


class SignerRefused(WalletError):
    """The signer will not sign, and asking again changes nothing. `remedy` says what to do."""

    def __init__(self, signer: str, reason: str, remedy: str) -> None:
        self.signer = signer
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{signer}: {reason}; {remedy}")


class SignerMismatch(WalletError):
    """What the signer gave back is not what was asked, or not by its key. Nothing of it was used. Distrust it."""

    def __init__(self, signer: str, reason: str) -> None:
        self.signer = signer
        self.reason = reason
        super().__init__(f"{signer} gave back something else than was asked, and it was not used: {reason}")

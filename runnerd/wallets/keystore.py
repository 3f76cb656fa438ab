"""The private key: opened from, or written to, a Web3 Secret Storage v3 file, and used. It leaves this module never.

Format: https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage, by `keyfile`.
Unlocking takes a second and 256 MiB with the usual scrypt n = 262144: call it in a thread (`asyncio.to_thread`).
"""

import json
import os
import secrets
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from coincurve import PrivateKey
from eth_hash.auto import keccak

from runnerd.chain.vaults.safe_tx import SafeTx
from runnerd.wallets.errors import KeystoreExists, KeystoreUnreadable, KeystoreUnwritable, WalletError, WrongPassphrase
from runnerd.wallets.keyfile import MacMismatch, decrypt, encrypt
from runnerd.wallets.passphrase import Passphrase
from runnerd.wallets.redacted import Redacted
from runnerd.wallets.signature import address_of
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction, assemble, encode_for_signing

DEFAULT_KDF_WORK = 1 << 18
"""scrypt's n; a power of two. geth's and most wallets' default."""
MAX_KEYSTORE_BYTES = 64 << 10
"""A keystore takes about 500 bytes."""


class _Key(Redacted):
    """A secp256k1 private key that can sign, show its address and be encrypted, and nothing else."""

    __slots__ = ("_curve_key", "address")

    def __init__(self, curve_key: PrivateKey) -> None:
        self._curve_key = curve_key
        self.address = address_of(curve_key.public_key)

    def sign_digest(self, digest: bytes) -> bytes:
        """r, s and recovery id, 65 bytes; deterministic, low s (libsecp256k1)."""
        return self._curve_key.sign_recoverable(digest, hasher=None)

    def encrypt(self, passphrase: Passphrase, kdf_work: int) -> dict[str, Any]:
        """The keystore document."""
        return encrypt(self._curve_key.secret, passphrase.reveal(), self.address, kdf_work)


class KeystoreSigner(Redacted):
    """`Signer` with a key from a keystore file. Made by `unlock_keystore`."""

    __slots__ = ("_key",)

    def __init__(self, key: _Key) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"<KeystoreSigner {self.address}: key redacted>"

    @property
    def address(self) -> str:
        """The checksummed address it signs for."""
        return self._key.address

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """The signed transaction; the same one gives the same bytes (RFC 6979). Takes 17 µs: no thread, no wait."""
        return assemble(transaction, self._key.sign_digest(keccak(encode_for_signing(transaction))))

    async def close(self) -> None:
        """Nothing is open."""


class OwnerKey(Redacted):
    """An owner of a Safe, in a process of `runnerctl` and never in the daemon. Made by `unlock_owner`."""

    __slots__ = ("_key",)

    def __init__(self, key: _Key) -> None:
        self._key = key

    @property
    def address(self) -> str:
        """The owner's checksummed address."""
        return self._key.address

    def sign_safe_tx(self, transaction: SafeTx) -> bytes:
        """The owner's signature of a Safe's transaction, 65 bytes: r, s and v of 27 or 28."""
        signature = self._key.sign_digest(transaction.hash)
        return signature[:64] + bytes([27 + signature[64]])


def unlock_keystore(path: Path, passphrase: Passphrase) -> KeystoreSigner:
    """Open a keystore. BLOCKS for about a second (scrypt): call it in a thread, never in the event loop.

    Raises KeystoreUnreadable or WrongPassphrase; both without the cause chained, whose frames hold secrets.
    """
    return KeystoreSigner(_open(path, passphrase))


def unlock_owner(path: Path, passphrase: Passphrase) -> OwnerKey:
    """Open the keystore of an owner of a Safe, as `unlock_keystore` does."""
    return OwnerKey(_open(path, passphrase))


def _open(path: Path, passphrase: Passphrase) -> _Key:
    document = _read_document(path)
    outcome = _decrypt(document, passphrase)
    if outcome is _Refusal.WRONG:
        raise WrongPassphrase(path)
    if isinstance(outcome, _Refusal):
        raise KeystoreUnreadable(path, outcome.value)
    declared = document.get("address")
    if isinstance(declared, str) and declared and declared.lower().removeprefix("0x") != outcome.address[2:].lower():
        raise KeystoreUnreadable(path, f"it names the address {declared[:42]!r}, but its key is for {outcome.address}")
    return outcome


def create_keystore(
    path: Path, passphrase: Passphrase, private_key: bytes | None = None, *, kdf_work: int = DEFAULT_KDF_WORK
) -> str:
    """Write a new keystore, mode 0600, and return its address. A new random key is made unless one is given.

    Never overwrites (KeystoreExists) and never leaves half a file. BLOCKS like `unlock_keystore`. `kdf_work` is for
    demos and tests: a small one makes the passphrase easy to guess. Raises WalletError.
    """
    key = _new_key() if private_key is None else _key_of(private_key)
    del private_key  # no traceback from here on shows it among the locals
    if key is None:
        raise WalletError("the private key is not 32 bytes, or not a number that secp256k1 allows")
    if not passphrase.reveal():
        raise WalletError("a keystore needs a passphrase that is not empty")
    if kdf_work < 2 or kdf_work & (kdf_work - 1):
        raise WalletError(f"kdf_work = {kdf_work} is not a power of two above 1")
    if path.exists() or path.is_symlink():  # before a second of scrypt; _write_new decides
        raise KeystoreExists(path)
    _write_new(path, json.dumps(key.encrypt(passphrase, kdf_work)).encode())
    return key.address


class _Refusal(Enum):
    WRONG = "the passphrase does not fit"
    MALFORMED = "not a Web3 Secret Storage v3 file: its crypto section is incomplete or damaged"
    TOO_COSTLY = "not enough memory for its key derivation (scrypt needs 128 * n * r bytes)"
    BAD_KEY = "what it holds is not a secp256k1 private key"


def _read_document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            document = _parse_document(file.read(MAX_KEYSTORE_BYTES + 1))
    except OSError as error:
        raise KeystoreUnreadable(path, error.strerror or type(error).__name__) from None
    if isinstance(document, str):
        raise KeystoreUnreadable(path, document)
    return document


def _parse_document(content: bytes) -> dict[str, Any] | str:
    """The document, or what is wrong with it. Returns instead of raising, as `_decrypt` does: the operator may have
    given the passphrase's file instead of the keystore's."""
    if len(content) > MAX_KEYSTORE_BYTES:
        return f"larger than {MAX_KEYSTORE_BYTES} bytes: is it the right file?"
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return "not JSON: is it the right file?"
    if not isinstance(document, dict) or document.get("version") != 3:
        return "not a Web3 Secret Storage file of version 3"
    return document


def _decrypt(document: dict[str, Any], passphrase: Passphrase) -> _Key | _Refusal:
    """Returns instead of raising: an exception from in there would carry frames that hold passphrase and key."""
    try:
        key = _key_of(decrypt(document, passphrase.reveal()))
    except MacMismatch:
        return _Refusal.WRONG
    except MemoryError:
        return _Refusal.TOO_COSTLY
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        return _Refusal.MALFORMED
    return _Refusal.BAD_KEY if key is None else key


def _key_of(secret: bytes) -> _Key | None:
    if len(secret) != 32:
        return None
    try:
        return _Key(PrivateKey(secret))
    except ValueError:  # zero, or not below the order of the curve
        return None


def _new_key() -> _Key:
    return _Key(PrivateKey())  # from os.urandom, until it is in range


def _write_new(path: Path, document: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            # Not os.write: on a disk that is nearly full it writes a part, and half a keystore is a lost key.
            file.write(document)
            file.flush()
            os.fsync(descriptor)
        # A rename would replace an existing file, a link fails: no second keystore can take the place of a first.
        os.link(temporary, path)
        _sync_directory(path.parent)
    except FileExistsError:
        raise KeystoreExists(path) from None
    except OSError as error:
        raise KeystoreUnwritable(path, error.strerror or type(error).__name__) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

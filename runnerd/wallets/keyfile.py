"""Web3 Secret Storage, version 3: a secret encrypted under a passphrase, and back. Pure; holds nothing.

Written out with pycryptodome, as eth_keyfile does it, since importing eth_keyfile brings py_ecc: a quarter of the
daemon's start, for BLS keys that are not ours. The tests hold this file against eth_keyfile.
"""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Mapping
from typing import Any, Final

from Crypto.Cipher import AES
from Crypto.Protocol.KDF import scrypt
from eth_hash.auto import keccak

__all__ = ["MacMismatch", "decrypt", "encrypt"]

KEY_BYTES: Final = 32
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1


class MacMismatch(Exception):
    """The passphrase does not fit, or the ciphertext was changed."""


def encrypt(secret: bytes, passphrase: bytes, address: str, scrypt_n: int) -> dict[str, Any]:
    """The document of a new keystore, with salt and counter of its own. BLOCKS: scrypt."""
    salt, iv = secrets.token_bytes(16), secrets.token_bytes(16)
    parameters = {"dklen": KEY_BYTES, "n": scrypt_n, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex()}
    derived = _derive("scrypt", parameters, passphrase)
    ciphertext = _aes(derived, iv).encrypt(secret)
    return {
        "address": address.removeprefix("0x"),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": parameters,
            "mac": _mac(derived, ciphertext).hex(),
        },
        "id": str(uuid.uuid4()),
        "version": 3,
    }


def decrypt(document: Mapping[str, Any], passphrase: bytes) -> bytes:
    """The secret in a document of version 3. BLOCKS. Raises MacMismatch, and for what is damaged MemoryError,
    KeyError, TypeError, ValueError, AttributeError, ArithmeticError or RecursionError."""
    crypto = _lower(document)["crypto"]
    if crypto["cipher"] != "aes-128-ctr":
        raise ValueError("cipher")
    derived = _derive(crypto["kdf"], crypto["kdfparams"], passphrase)
    ciphertext = _unhex(crypto["ciphertext"])
    if not hmac.compare_digest(_mac(derived, ciphertext), _unhex(crypto["mac"])):
        raise MacMismatch
    secret: bytes = _aes(derived, _unhex(crypto["cipherparams"]["iv"])).decrypt(ciphertext)
    return secret


def _derive(kdf: str, parameters: Mapping[str, Any], passphrase: bytes) -> bytes:
    salt, length = _unhex(parameters["salt"]), parameters["dklen"]
    if length < KEY_BYTES:
        raise ValueError("dklen")
    if kdf == "scrypt":
        # pycryptodome takes text and encodes it so; not hashlib's, which refuses 32 MiB unless told otherwise.
        password, spice = passphrase.decode("latin-1"), salt.decode("latin-1")
        derived = scrypt(password, spice, length, N=parameters["n"], r=parameters["r"], p=parameters["p"])
        assert isinstance(derived, bytes)  # one key was asked for
        return derived
    if kdf == "pbkdf2" and parameters["prf"] == "hmac-sha256":
        return hashlib.pbkdf2_hmac("sha256", passphrase, salt, parameters["c"], length)
    raise ValueError("kdf")


def _mac(derived: bytes, ciphertext: bytes) -> bytes:
    return keccak(derived[16:32] + ciphertext)


def _aes(derived: bytes, iv: bytes) -> Any:
    return AES.new(derived[:16], AES.MODE_CTR, nonce=b"", initial_value=iv.rjust(16, b"\0"))


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _lower(value: Any) -> Any:
    """Some wallets write `Crypto`: the names count without their case."""
    if not isinstance(value, Mapping):
        return value
    return {name.lower(): _lower(item) for name, item in value.items()}

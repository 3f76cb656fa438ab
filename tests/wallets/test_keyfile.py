"""The format itself: the standard's own vectors, and the corners in which implementations differ."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from Crypto.Cipher import AES
from eth_hash.auto import keccak
from eth_keyfile.keyfile import decode_keyfile_json

from runnerd.wallets.errors import KeystoreUnreadable
from runnerd.wallets.keyfile import decrypt
from runnerd.wallets.keystore import DEFAULT_KDF_WORK, create_keystore, unlock_keystore
from runnerd.wallets.passphrase import Passphrase

# https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage#test-vectors; the other one,
# with pbkdf2, is in test_keystore.
VECTOR_KEY = bytes.fromhex("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d")
VECTOR_PASSPHRASE = b"testpassword"
SCRYPT_VECTOR: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262144,
            "r": 1,
            "p": 8,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
KEY = bytes(range(1, 33))


def sealed(iv: bytes, key: bytes = KEY) -> dict[str, Any]:
    """A document with this IV, made block by block: not by the mode of the cipher that is tested."""
    salt = b"salt"
    derived = hashlib.scrypt(VECTOR_PASSPHRASE, salt=salt, n=2, r=8, p=1, dklen=32)
    block = AES.new(derived[:16], AES.MODE_ECB)
    first = int.from_bytes(iv, "big")
    stream = b"".join(block.encrypt(((first + i) % (1 << 128)).to_bytes(16, "big")) for i in range(2))
    ciphertext = bytes(one ^ other for one, other in zip(key, stream, strict=True))
    return {
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": {"dklen": 32, "n": 2, "r": 8, "p": 1, "salt": salt.hex()},
            "mac": keccak(derived[16:32] + ciphertext).hex(),
        },
        "version": 3,
    }


def prefixed(value: Any) -> Any:
    """Each text that is hex with 0x before it."""
    if isinstance(value, Mapping):
        names = {"iv", "ciphertext", "salt", "mac"}
        return {name: f"0x{item}" if name in names else prefixed(item) for name, item in value.items()}
    return value


def test_scrypt_vector_of_the_standard() -> None:
    """With r = 1 and p = 8, where ours have 8 and 1: the two must not be taken for each other."""
    assert decrypt(SCRYPT_VECTOR, VECTOR_PASSPHRASE) == VECTOR_KEY


def test_hex_may_have_a_prefix() -> None:
    """Some wallets write it so."""
    document = prefixed(sealed(bytes(range(16))))
    assert document["crypto"]["mac"].startswith("0x")
    assert document["crypto"]["kdfparams"]["salt"].startswith("0x")
    assert decrypt(document, VECTOR_PASSPHRASE) == KEY


@pytest.mark.parametrize("iv", [b"\xff" * 16, b"\xff" * 15 + b"\xfe", b"\0" * 8 + b"\xff" * 8, b"\0" * 16])
def test_counter_goes_on_at_zero_after_its_largest_number(iv: bytes) -> None:
    """It is one number of 128 bits: the second block of an IV of all ff has the counter 0, and nothing is refused."""
    document = sealed(iv)
    assert decrypt(document, VECTOR_PASSPHRASE) == decode_keyfile_json(document, VECTOR_PASSPHRASE) == KEY


def test_keystore_with_the_work_of_production_opens(tmp_path: Path) -> None:
    """All other tests make scrypt cheap; this one takes what an operator's keystore takes, 256 MiB."""
    path, passphrase = tmp_path / "operator.json", Passphrase(b"once")
    address = create_keystore(path, passphrase, KEY)
    parameters = json.loads(path.read_text())["crypto"]["kdfparams"]
    assert (parameters["n"], parameters["r"], parameters["p"]) == (DEFAULT_KDF_WORK, 8, 1) == (262_144, 8, 1)
    assert unlock_keystore(path, passphrase).address == address


@pytest.mark.parametrize("depth", [400, 700, 900])
def test_document_that_is_nested_deeply_is_damaged_and_shows_nothing(tmp_path: Path, depth: int) -> None:
    """JSON allows it, the walk over it does not; a RecursionError would carry frames that hold the passphrase."""
    path = tmp_path / "operator.json"
    path.write_text('{"version": 3, "crypto": ' + '{"a":' * depth + "1" + "}" * depth + "}")
    with pytest.raises(KeystoreUnreadable, match="incomplete or damaged") as refused:
        unlock_keystore(path, Passphrase(b"hunter2"))
    assert refused.value.__context__ is None
    frames, trace = [], refused.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert "_decrypt" not in frames

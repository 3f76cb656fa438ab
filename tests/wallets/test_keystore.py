"""Keystores: written once and safely, opened by the right passphrase only, readable by other wallets and from them."""

import asyncio
import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json

from runnerd.wallets.errors import KeystoreExists, KeystoreUnreadable, KeystoreUnwritable, WalletError, WrongPassphrase
from runnerd.wallets.keystore import create_keystore, unlock_keystore
from runnerd.wallets.passphrase import Passphrase
from runnerd.wallets.transaction import UnsignedTransaction

KEY = bytes(range(1, 33))
ADDRESS = Account.from_key(KEY).address
SECRET = Passphrase("päss phrase".encode())
WORK = 2

# The test vectors of https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage
VECTOR_KEY = bytes.fromhex("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d")
PBKDF2_VECTOR: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operator.json"


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_created_keystore_opens_with_its_passphrase(path: Path) -> None:
    """And signs as the key that went in."""
    assert create_keystore(path, SECRET, KEY, kdf_work=WORK) == ADDRESS
    signer = unlock_keystore(path, SECRET)
    assert signer.address == ADDRESS
    transaction = UnsignedTransaction(
        chain_id=1,
        nonce=0,
        to=ADDRESS,
        value_wei=1,
        data=b"",
        gas_limit=21_000,
        max_fee_per_gas_wei=2,
        max_priority_fee_per_gas_wei=1,
    )
    signed = asyncio.run(signer.sign(transaction))
    assert Account.recover_transaction(signed.raw) == ADDRESS
    assert asyncio.run(signer.sign(transaction)) == signed


def test_other_wallets_read_our_keystores(path: Path) -> None:
    """eth_account stands for them: the format is the standard's."""
    create_keystore(path, SECRET, KEY, kdf_work=WORK)
    document = json.loads(path.read_text())
    assert bytes(Account.decrypt(document, SECRET.reveal().decode())) == KEY
    assert (document["version"], document["crypto"]["kdf"]) == (3, "scrypt")


def test_we_read_the_keystores_of_other_wallets(path: Path) -> None:
    """The standard's own test vector (pbkdf2, no address), and one with upper-case keys as some wallets write."""
    passphrase = Passphrase(b"testpassword")
    expected = Account.from_key(VECTOR_KEY).address
    assert unlock_keystore(write(path, PBKDF2_VECTOR), passphrase).address == expected
    shouted = {"Crypto": PBKDF2_VECTOR["crypto"], "version": 3, "address": expected}
    assert unlock_keystore(write(path, shouted), passphrase).address == expected


def test_a_new_key_is_made_when_none_is_given(tmp_path: Path) -> None:
    """Each time another one."""
    addresses = {create_keystore(tmp_path / str(i), SECRET, kdf_work=WORK) for i in range(3)}
    assert len(addresses) == 3


@pytest.mark.parametrize("umask", [0, 0o777])
def test_a_keystore_is_private_and_leaves_nothing_beside_it(path: Path, umask: int) -> None:
    """Mode 0600 whatever the umask says; no temporary file stays."""
    previous = os.umask(umask)
    try:
        create_keystore(path, SECRET, KEY, kdf_work=WORK)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["file", "directory", "dangling-link"])
def test_nothing_is_ever_overwritten(path: Path, kind: str) -> None:
    """An overwritten keystore is a lost key."""
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with pytest.raises(KeystoreExists, match="never overwritten"):
        create_keystore(path, SECRET, KEY, kdf_work=WORK)
    assert kind != "file" or path.read_text() == "precious"
    assert len(list(path.parent.iterdir())) == 1


def test_a_keystore_that_appears_meanwhile_is_not_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two `wallet new` at once: the second one loses, also after its check."""
    monkeypatch.setattr(Path, "exists", lambda _: False)
    path.write_text("precious")
    with pytest.raises(KeystoreExists):
        create_keystore(path, SECRET, KEY, kdf_work=WORK)
    assert path.read_text() == "precious"


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(KeystoreUnwritable, match=r"nowhere/k.json: No such file or directory"):
        create_keystore(tmp_path / "nowhere" / "k.json", SECRET, KEY, kdf_work=WORK)


def test_a_disk_that_is_full_in_the_middle_leaves_no_half_of_a_keystore(path: Path) -> None:
    """The kernel takes a part of the bytes and says how many; RLIMIT_FSIZE makes it do so without a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(KeystoreUnwritable, match="File too large"):
            create_keystore(path, SECRET, KEY, kdf_work=WORK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("key", [b"", b"\1" * 31, b"\1" * 33, bytes(32), b"\xff" * 32])
def test_what_is_no_private_key_is_refused(path: Path, key: bytes) -> None:
    """Too short, too long, zero, beyond the order of the curve."""
    with pytest.raises(WalletError, match="private key"):
        create_keystore(path, SECRET, key, kdf_work=WORK)
    assert not path.exists()


def test_careless_parameters_are_refused(path: Path) -> None:
    """An empty passphrase, a work factor that scrypt does not take."""
    with pytest.raises(WalletError, match="passphrase that is not empty"):
        create_keystore(path, Passphrase(b""), KEY, kdf_work=WORK)
    for work in (0, 1, 3, -4):
        with pytest.raises(WalletError, match="not a power of two"):
            create_keystore(path, SECRET, KEY, kdf_work=work)


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_we_read_what_eth_keyfile_writes_and_it_reads_what_we_write(
    path: Path, kdf: Literal["scrypt", "pbkdf2"]
) -> None:
    """Thirty random keys and passphrases each way: the format is written out by hand."""
    for _ in range(30):
        key, passphrase = PrivateKey().secret, os.urandom(20)
        theirs = create_keyfile_json(key, passphrase, kdf=kdf, iterations=WORK)
        assert unlock_keystore(write(path, theirs), Passphrase(passphrase)).address == Account.from_key(key).address
        path.unlink()
        create_keystore(path, Passphrase(passphrase), key, kdf_work=WORK)
        assert decode_keyfile_json(json.loads(path.read_text()), passphrase) == key
        path.unlink()


def test_the_daemon_does_not_import_what_it_does_not_need() -> None:
    """py_ecc and web3 take half a second of each start."""
    code = "import sys, runnerd.cli.daemon; print(sorted({'py_ecc', 'eth_keyfile', 'web3'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"


def test_a_wrong_passphrase_is_its_own_error(path: Path) -> None:
    """So that the operator does not look for a damaged file."""
    create_keystore(path, SECRET, KEY, kdf_work=WORK)
    with pytest.raises(WrongPassphrase, match=str(path)):
        unlock_keystore(path, Passphrase(b"wrong"))


def damaged(**changes: object) -> dict[str, Any]:
    return {**PBKDF2_VECTOR, "crypto": {**PBKDF2_VECTOR["crypto"], **changes}}


@pytest.mark.parametrize(
    "document, reason",
    [
        ("", "not JSON"),
        ("\x00\xff", "not JSON"),
        ("[" * 50_000, "not JSON"),
        ([], "not a Web3 Secret Storage file of version 3"),
        ({"version": 3}, "incomplete or damaged"),
        ({**PBKDF2_VECTOR, "version": 4}, "version 3"),
        ({"version": 3, "crypto": "x"}, "incomplete or damaged"),
        (damaged(kdf="argon2"), "incomplete or damaged"),
        (damaged(ciphertext="xyz"), "incomplete or damaged"),
        (damaged(mac=None), "incomplete or damaged"),
        (damaged(kdf="scrypt", kdfparams={"n": 3, "r": 8, "p": 1, "dklen": 32, "salt": "00"}), "incomplete or damaged"),
        ("x" * 70_000, "larger than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_keystore_says_so(path: Path, document: object, reason: str) -> None:
    """With the path, and nothing of its content."""
    with pytest.raises(KeystoreUnreadable, match=reason) as refused:
        unlock_keystore(write(path, document), Passphrase(b"testpassword"))
    assert str(path) in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(KeystoreUnreadable, match="No such file"):
        unlock_keystore(tmp_path / "nowhere.json", SECRET)


def test_a_keystore_that_names_another_address_is_refused(path: Path) -> None:
    """Somebody edited it, or mixed two up: signing for an unexpected address helps nobody."""
    with pytest.raises(KeystoreUnreadable, match="names the address"):
        unlock_keystore(write(path, {**PBKDF2_VECTOR, "address": "11" * 20}), Passphrase(b"testpassword"))

"""No way of looking at an object or an error of this package shows the key or the passphrase."""

import copy
import io
import logging
import pickle  # noqa: TID251  # to show that it is refused
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runnerd.chain.node_url import parse_node_url
from runnerd.wallets.keystore import KeystoreSigner, create_keystore, unlock_keystore
from runnerd.wallets.kms import KmsSigner
from runnerd.wallets.kms_client import KmsClient
from runnerd.wallets.passphrase import Passphrase, PassphraseFile, fetch_passphrase
from runnerd.wallets.remote import RemoteSigner
from runnerd.wallets.signer_http import SignerHttp

KEY = bytes.fromhex("c0ffee" + "5e" * 26 + "c0ffee")
PASSPHRASE = b"correct horse battery staple"


def forms(secret: bytes) -> list[str]:
    """The ways in which these bytes could stand in a text."""
    return [
        secret.hex(),
        secret.hex().upper(),
        repr(secret)[2:-1],
        str(int.from_bytes(secret, "big")),
        repr(list(secret)),
    ]


SECRETS = [*forms(KEY), *forms(PASSPHRASE), *forms(PASSPHRASE.replace(b" ", b"-"))]


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture
def signer(tmp_path: Path) -> KeystoreSigner:
    create_keystore(tmp_path / "k.json", Passphrase(PASSPHRASE), KEY, kdf_work=2)
    return unlock_keystore(tmp_path / "k.json", Passphrase(PASSPHRASE))


TOKEN = PASSPHRASE.replace(b" ", b"-")
REMOTE = SignerHttp("signer", parse_node_url("https://signer.example/path"), None, Passphrase(TOKEN))
KMS = KmsClient(KEY, logging, "KMS key")


@pytest.fixture(params=["signer", "key", "passphrase", "remote", "remote http", "kms", "kms client"])
def holder(request: pytest.FixtureRequest, signer: KeystoreSigner) -> Any:
    return {
        "signer": signer,
        "key": signer._key,
        "passphrase": Passphrase(PASSPHRASE),
        "remote": RemoteSigner(REMOTE, "signer", signer.address),
        "remote http": REMOTE,
        "kms": KmsSigner(KMS, "KMS key", "arn:aws:kms:eu-central-1:1:key/1", signer.address),
        "kms client": KMS,
    }[request.param]


def test_the_search_finds_what_it_looks_for() -> None:
    """Control: a naked secret is found in each form."""
    assert leaks(f"{KEY!r}")
    assert leaks(KEY.hex())
    assert leaks(f"passphrase={PASSPHRASE.decode()}")


def test_no_text_form_shows_the_secret(holder: Any) -> None:
    """repr, str, format with and without width, %-formatting, nested in containers, as log argument."""
    stream = io.StringIO()
    logger = logging.getLogger("test.redaction")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        logger.error("unlocked %s %r", holder, {"holder": [holder]}, extra={"holder": holder})
    finally:
        logger.removeHandler(handler)
    texts = [repr(holder), str(holder), f"{holder}", f"{holder:>80}", "%s %r" % (holder, holder), repr([holder])]  # noqa: UP031
    texts += [ascii(holder), stream.getvalue()]
    assert leaks("\n".join(texts)) == []
    assert "redacted" in repr(holder)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, *(lambda o, p=p: pickle.dumps(o, p) for p in range(6))]
)
def test_it_is_neither_copied_nor_pickled(holder: Any, duplicate: Callable[[Any], object]) -> None:
    """A pickle would travel; multiprocessing and logging queues pickle without asking."""
    with pytest.raises(TypeError, match="neither copied nor pickled") as refused:
        duplicate(holder)
    assert leaks(str(refused.value)) == []


def test_it_has_no_dict_to_dump(holder: Any) -> None:
    """Debuggers, error reporters and `vars` walk __dict__ and __getstate__."""
    assert not hasattr(holder, "__dict__")
    with pytest.raises(TypeError, match="no state to show"):
        holder.__getstate__()


def failure_of(action: Callable[[], object]) -> str:
    """The traceback of what `action` raises, with the locals of every frame and of every chained exception.

    Frames of this file are left out: a caller that holds the bytes is not what is tested.
    """
    try:
        action()
    except Exception as error:
        chained: BaseException | None = error
        texts: list[str] = []
        while chained is not None:
            report = traceback.TracebackException.from_exception(chained, capture_locals=True)
            report.stack[:] = [frame for frame in report.stack if frame.filename != __file__]
            texts += report.format(chain=False)
            chained = chained.__cause__ or chained.__context__
        return "".join(texts)
    raise AssertionError("nothing was raised")


def test_no_traceback_shows_a_secret(tmp_path: Path) -> None:
    """With local variables, as error reporters print them, and through every chained exception."""
    good, broken, bare = tmp_path / "good.json", tmp_path / "broken.json", tmp_path / "bare"
    create_keystore(good, Passphrase(PASSPHRASE), KEY, kdf_work=2)
    broken.write_text(good.read_text().replace('"address": "', '"address": "00'))
    bare.write_bytes(PASSPHRASE + b"\n")
    bare.chmod(0o644)
    long = tmp_path / "long"
    long.write_bytes(PASSPHRASE * 1_000)
    long.chmod(0o600)
    wrong = KEY + b"\1"
    actions: list[Callable[[], object]] = [
        lambda: unlock_keystore(good, Passphrase(PASSPHRASE + b"!")),
        lambda: unlock_keystore(broken, Passphrase(PASSPHRASE)),
        lambda: unlock_keystore(bare, Passphrase(PASSPHRASE)),
        lambda: create_keystore(good, Passphrase(PASSPHRASE), KEY, kdf_work=2),
        lambda: create_keystore(tmp_path / "x" / "y", Passphrase(PASSPHRASE), KEY, kdf_work=2),
        lambda: create_keystore(tmp_path / "new", Passphrase(PASSPHRASE), wrong, kdf_work=2),
        lambda: create_keystore(tmp_path / "new", Passphrase(PASSPHRASE), KEY, kdf_work=3),
        lambda: create_keystore(tmp_path / "new", Passphrase(b""), KEY, kdf_work=2),
        lambda: fetch_passphrase(PassphraseFile(bare), {}),
        lambda: fetch_passphrase(PassphraseFile(long), {}),
    ]
    for action in actions:
        assert leaks(failure_of(action)) == []


def test_the_traceback_search_would_find_a_leak() -> None:
    """Control: a library frame with a key among its locals is seen."""

    def careless() -> None:
        namespace: dict[str, Any] = {"key": KEY}
        exec(compile("def sign(private_key):\n    raise ValueError\nsign(key)", "/elsewhere.py", "exec"), namespace)

    assert leaks(failure_of(careless))


def test_the_keystore_file_holds_no_secret(tmp_path: Path) -> None:
    """It is encrypted."""
    create_keystore(tmp_path / "k.json", Passphrase(PASSPHRASE), KEY, kdf_work=2)
    assert leaks((tmp_path / "k.json").read_text()) == []

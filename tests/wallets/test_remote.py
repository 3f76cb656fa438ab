"""The remote signer against a real server: what it gives back is taken to the byte or not at all."""

import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from runnerd.wallets import signer_http
from runnerd.wallets.errors import SignerMismatch, SignerRefused, SignerUnavailable, WalletError
from runnerd.wallets.passphrase import PassphraseCredential, PassphraseFile
from runnerd.wallets.remote import open_remote
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction
from tests.support.aio import run_async
from tests.support.remote_signer import ADDRESS, KEY, TAMPERINGS, TOKEN, RemoteServer, running_signer

ASKED = UnsignedTransaction(
    chain_id=31_337,
    nonce=7,
    to="0x" + "11" * 20,
    value_wei=5,
    data=b"\1\2\3",
    gas_limit=50_000,
    max_fee_per_gas_wei=10,
    max_priority_fee_per_gas_wei=2,
)


@pytest.fixture(scope="module")
def server() -> Iterator[RemoteServer]:
    with running_signer() as running:
        yield running


def signed_by(url: str, *asked: UnsignedTransaction, **options: Any) -> list[SignedTransaction]:
    """Open, sign each, close."""

    async def scenario() -> list[SignedTransaction]:
        signer = await open_remote(url, ADDRESS, **{"environ": {}, **options})
        try:
            assert signer.address == ADDRESS
            return [await signer.sign(transaction) for transaction in asked]
        finally:
            await signer.close()

    return run_async(scenario())


def test_it_signs_what_was_asked(server: RemoteServer) -> None:
    """Both kinds, without data and with a value of zero: the bytes are those of the key itself."""
    kinds = [
        ASKED,
        replace(ASKED, is_legacy=True, max_priority_fee_per_gas_wei=10),
        replace(ASKED, data=b"", value_wei=0),
    ]
    for transaction, signed in zip(kinds, signed_by(server.url, *kinds), strict=True):
        assert Account.recover_transaction(signed.raw) == Account.from_key(KEY).address
        assert transaction.is_legacy == (signed.raw[0] >= 0xC0)


@pytest.mark.parametrize(
    "mode, text",
    [
        ("other-nonce", "nonce is 0x08, asked was 0x07"),
        ("other-to", f"to is 0x{'99' * 20}, asked was"),
        ("other-value", "value is 0x06, asked was 0x05"),
        ("other-data", "data is 0x01, asked was 0x010203"),
        ("other-gas", "gas limit is 0xc351, asked was 0xc350"),
        ("other-fee", "max fee is 0x0b, asked was 0x0a"),
        ("other-tip", "max priority fee is 0x, asked was 0x02"),
        ("other-chain", "chain id is 0x7a6a, asked was 0x7a69"),
        ("access-list", "access list is 0xd7d694"),
        ("other-type", "not an EIP-1559 transaction"),
        ("other-key", f"signed by 0x[0-9a-fA-F]{{40}}, not by {ADDRESS}"),
        ("high-s", "s is in the upper half"),
        ("longer", "not one RLP list"),
        ("shorter", "not one RLP list"),
        ("junk", "JSON is malformed"),
        ("number", "not text that begins with 0x"),
        ("no-hex", "not hex"),
        ("empty", "not an EIP-1559 transaction"),
        ("huge", "larger than 1048576 bytes"),
    ],
)
def test_anything_else_than_what_was_asked_is_not_used(server: RemoteServer, mode: str, text: str) -> None:
    """Though its signature may be right; the operator reads what differs."""
    with pytest.raises(SignerMismatch, match=text):
        signed_by(f"{server.url}/{mode}", ASKED)


def test_every_way_of_tampering_is_tried() -> None:
    """The list above has all that the server can do."""
    marks = test_anything_else_than_what_was_asked_is_not_used.pytestmark  # type: ignore[attr-defined]
    assert TAMPERINGS.keys() <= {mode for mode, _ in marks[0].args[1]}


@pytest.mark.parametrize(
    "mode, error, text",
    [
        ("picky", SignerRefused, r"error -32602: Invalid params·\[2J; look at the signer's log"),
        ("locked", SignerUnavailable, "error -32000: No unlocked account matches the Sender"),
        ("forbidden", SignerRefused, "HTTP 403; check signer_token_file or signer_token_credential"),
        ("gone", SignerRefused, "HTTP 404; check the path in signer_url"),
        ("moved", SignerRefused, "HTTP 307"),
        ("internal", SignerUnavailable, "error -32603: Internal error"),
        ("limited", SignerUnavailable, "too many requests: slow down"),
        ("busy", SignerUnavailable, "HTTP 503"),
        ("no-list-all", SignerMismatch, "eth_accounts is not a list"),
        ("no-key-all", SignerRefused, f"it has no key of {ADDRESS}"),
    ],
)
def test_a_signer_that_says_no(server: RemoteServer, mode: str, error: type[WalletError], text: str) -> None:
    """What may pass is SignerUnavailable, for which an intent waits; the rest ends it. The path is not shown."""
    with pytest.raises(error, match=text) as refused:
        signed_by(f"{server.url}/{mode}", ASKED)
    assert type(refused.value) is error
    assert f"/{mode}" not in str(refused.value)


@pytest.mark.parametrize("mode", ["slow", "slow-all"])
def test_a_signer_that_is_silent_can_be_asked_again(
    server: RemoteServer, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on meanwhile; at the start it is said as well."""
    monkeypatch.setattr(signer_http, "DEADLINE_S", 0.3)
    with pytest.raises(SignerUnavailable, match=r"no answer within 0\.3 s"):
        signed_by(f"{server.url}/{mode}", ASKED)


def test_a_signer_that_is_not_there_can_be_asked_again() -> None:
    """It may be restarted just now."""
    with pytest.raises(SignerUnavailable, match="the connection failed"):
        signed_by("http://127.0.0.1:1", ASKED)


# --- who may ask -----------------------------------------------------------------------------------------------------


def test_the_token_comes_from_a_file_or_a_credential(server: RemoteServer, tmp_path: Path) -> None:
    """And is in no error, nor in the name of the signer."""
    good, wrong, split = tmp_path / "good", tmp_path / "wrong", tmp_path / "split"
    for path, content in ((good, TOKEN + "\n"), (wrong, TOKEN[::-1]), (split, f"{TOKEN}\r\nX-Role: admin")):
        path.touch(0o600)
        path.write_text(content)
    url, environ = f"{server.url}/token", {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert len(signed_by(url, ASKED, token=PassphraseFile(good))) == 1
    assert len(signed_by(url, ASKED, token=PassphraseCredential("good"), environ=environ)) == 1
    for token, text in ((None, "HTTP 401"), (PassphraseFile(wrong), "HTTP 401"), (PassphraseFile(split), "not ASCII")):
        with pytest.raises(SignerRefused, match=text) as refused:
            signed_by(url, ASKED, token=token)
        assert TOKEN not in str(refused.value)
    good.chmod(0o644)
    with pytest.raises(
        SignerRefused, match=r"its token from file .* open to every user; run: chmod 600 .* token known"
    ):
        signed_by(url, ASKED, token=PassphraseFile(good))


@dataclass(frozen=True)
class Papers:
    """Certificates: the server's, which is its own authority, and ours, signed by an authority that it trusts."""

    server: Path
    authority: Path
    client: Path


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    directory = tmp_path_factory.mktemp("papers")

    def certificate(name: str, *more: str) -> Path:
        key, cert, both = (directory / f"{name}.{end}" for end in ("key", "crt", "pem"))
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        files = ["-keyout", str(key), "-out", str(cert)]
        subprocess.run(["openssl", "req", "-x509", *curve, *files, *more], check=True, capture_output=True)
        both.touch(0o600)
        both.write_text(cert.read_text() + key.read_text())
        return both

    server = certificate("server", "-subj", "/CN=signer", "-addext", "subjectAltName=IP:127.0.0.1")
    client = certificate("client", "-subj", "/CN=runnerd")
    return Papers(server, client.with_suffix(".crt"), client)


def test_tls_is_verified_in_both_directions(papers: Papers) -> None:
    """We trust the authority that is named, the signer asks for our certificate; each without the other fails."""
    trusted = papers.server.with_suffix(".crt")
    with running_signer(str(papers.server), str(papers.authority)) as server:
        assert len(signed_by(server.url, ASKED, ca_file=trusted, client_cert_file=papers.client)) == 1
        with pytest.raises(SignerRefused, match=r"its certificate is not trusted .* set signer_ca_file"):
            signed_by(server.url, ASKED, client_cert_file=papers.client)
        with pytest.raises(SignerUnavailable, match="the connection failed"):
            signed_by(server.url, ASKED, ca_file=trusted)


def test_certificate_files_that_cannot_be_used_are_named(papers: Papers, tmp_path: Path) -> None:
    """Missing, no PEM, without its key, encrypted, or open to everybody."""
    url, junk, locked = "https://127.0.0.1:1", tmp_path / "junk", tmp_path / "locked"
    junk.touch(0o600)
    junk.write_text("junk")
    with pytest.raises(SignerRefused, match=f"signer_ca_file {junk}"):
        signed_by(url, ca_file=junk)
    with pytest.raises(SignerRefused, match=f"signer_client_cert_file {tmp_path}/none: No such file"):
        signed_by(url, client_cert_file=tmp_path / "none")
    for unusable in (junk, papers.authority):
        unusable.chmod(0o600)
        with pytest.raises(SignerRefused, match=f"signer_client_cert_file {unusable}"):
            signed_by(url, client_cert_file=unusable)
    lock = ["openssl", "ec", "-in", str(papers.client.with_suffix(".key")), "-aes128", "-passout", "pass:hush"]
    locked.touch(0o600)
    encrypted = subprocess.run(lock, check=True, capture_output=True, text=True).stdout
    locked.write_text(papers.authority.read_text() + encrypted)
    with pytest.raises(SignerRefused, match=f"signer_client_cert_file {locked}"):
        signed_by(url, client_cert_file=locked)
    locked.chmod(0o644)
    with pytest.raises(SignerRefused, match="open to every user; run: chmod 600"):
        signed_by(url, client_cert_file=locked)
    assert ssl.create_default_context(cafile=papers.authority) is not None

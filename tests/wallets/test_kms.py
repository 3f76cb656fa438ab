"""The signer in AWS KMS against moto's server over HTTP: what it signs holds, what is wrong is said with what to do."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec

import pytest
from eth_account import Account
from eth_hash.auto import keccak

from runnerd.wallets import kms_client
from runnerd.wallets.errors import SignerMismatch, SignerRefused, SignerUnavailable, WalletError
from runnerd.wallets.kms import KmsSigner, open_kms
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction
from tests.support.aio import run_async
from tests.support.kms import ENVIRONMENT, REGION, KmsServer, running_kms

ASKED = UnsignedTransaction(
    chain_id=31_337,
    nonce=7,
    to="0x" + "11" * 20,
    value_wei=5,
    data=b"\1\2\3",
    gas_limit=50_000,
    max_fee_per_gas_wei=10,
    max_priority_fee_per_gas_wei=10,
)
OTHER = "0x1111111111111111111111111111111111111111"


@pytest.fixture(scope="module")
def server() -> Iterator[KmsServer]:
    with running_kms() as running:
        yield running


@pytest.fixture(scope="module")
def arn(server: KmsServer) -> str:
    """A key as it should be."""
    return server.create_key()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a user without a file of AWS's own."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)


def with_signer(
    open_it: Callable[[], Awaitable[KmsSigner]], *asked: UnsignedTransaction
) -> tuple[str, list[SignedTransaction]]:
    """The address, and each transaction signed."""

    async def scenario() -> tuple[str, list[SignedTransaction]]:
        signer = await open_it()
        try:
            return signer.address, [await signer.sign(transaction) for transaction in asked]
        finally:
            await signer.close()

    return run_async(scenario())


def test_what_it_signs_is_of_its_address(server: KmsServer, arn: str) -> None:
    """Both kinds, many times: KMS gives high s in half of the cases, and a transaction must not have one."""
    kinds = [replace(ASKED, nonce=number, is_legacy=bool(number % 2)) for number in range(12)]
    address, signed = with_signer(lambda: open_kms(arn, endpoint_url=server.url), *kinds)
    for transaction in signed:
        assert Account.recover_transaction(transaction.raw) == address
        assert transaction.hash == "0x" + keccak(transaction.raw).hex()


def test_two_signatures_of_one_transaction_differ_and_both_hold(server: KmsServer, arn: str) -> None:
    """Not RFC 6979: harmless, because the executor stores before it sends, and one nonce has one effect."""
    address, (one, two) = with_signer(lambda: open_kms(arn, endpoint_url=server.url), ASKED, ASKED)
    assert one.raw != two.raw
    assert {Account.recover_transaction(signed.raw) for signed in (one, two)} == {address}


def test_an_alias_is_resolved_once(server: KmsServer, arn: str) -> None:
    """Should somebody move it to another key while we run, the key of the start stays the one that signs."""
    client = server.client()
    try:
        client.create_alias(AliasName="alias/operator", TargetKeyId=arn)
    finally:
        client.close()
    other = server.create_key()

    async def scenario() -> None:
        signer = await open_kms("alias/operator", region=REGION, endpoint_url=server.url)
        try:
            first = await signer.sign(ASKED)
            move = server.client()
            try:
                move.update_alias(AliasName="alias/operator", TargetKeyId=other)
            finally:
                move.close()
            second = await signer.sign(ASKED)
        finally:
            await signer.close()
        assert {Account.recover_transaction(signed.raw) for signed in (first, second)} == {signer.address}

    run_async(scenario())


def test_the_configured_address_is_checked(server: KmsServer, arn: str) -> None:
    """The right one passes, another one is refused at the start."""
    address, _ = with_signer(lambda: open_kms(arn, endpoint_url=server.url))
    assert with_signer(lambda: open_kms(arn, endpoint_url=server.url, address=address))[0] == address
    with pytest.raises(SignerRefused, match=f"it is the key of {address}; the configuration says {OTHER}"):
        with_signer(lambda: open_kms(arn, endpoint_url=server.url, address=OTHER))


@pytest.mark.parametrize(
    "mode, error, text",
    [
        ("throttled", SignerUnavailable, "ThrottlingException"),
        ("broken", SignerUnavailable, "KMSInternalException"),
        ("denied", SignerRefused, "allow kms:GetPublicKey and kms:Sign"),
        ("disabled", SignerRefused, "enable the key in KMS"),
        ("expired", SignerRefused, "renew runnerd's AWS credentials"),
        ("unheard-of", SignerRefused, "SomethingNewException"),
        ("empty", SignerMismatch, "its answer has no 'Signature'"),
        ("foreign", SignerMismatch, "not a signature of what was asked by 0x"),
        ("junk", SignerMismatch, "not a DER signature"),
    ],
)
def test_a_signature_that_is_not_to_be_had(
    server: KmsServer, arn: str, mode: str, error: type[WalletError], text: str
) -> None:
    """What may pass is SignerUnavailable, for which an intent waits; the rest ends it, and says what to do."""
    with pytest.raises(error, match=text) as refused:
        with_signer(lambda: open_kms(arn, endpoint_url=f"{server.url}/{mode}"), ASKED)
    assert type(refused.value) is error
    assert arn in str(refused.value)


@pytest.mark.parametrize(
    "mode, error, text",
    [
        ("denied-all", SignerRefused, "allow kms:GetPublicKey"),
        ("throttled-all", SignerUnavailable, "ThrottlingException"),
        ("empty-all", SignerMismatch, "its answer has no 'KeyId'"),
    ],
)
def test_a_key_that_is_not_to_be_seen(
    server: KmsServer, arn: str, mode: str, error: type[WalletError], text: str
) -> None:
    """At the start, with the same distinction."""
    with pytest.raises(error, match=text):
        with_signer(lambda: open_kms(arn, endpoint_url=f"{server.url}/{mode}"))


@pytest.mark.parametrize(
    "spec, usage", [("ECC_NIST_P256", "SIGN_VERIFY"), ("RSA_2048", "SIGN_VERIFY"), ("RSA_2048", "ENCRYPT_DECRYPT")]
)
def test_a_key_of_the_wrong_kind_is_refused(server: KmsServer, spec: str, usage: str) -> None:
    """With the two words to choose when a new one is created."""
    wrong = server.create_key(spec, usage)
    text = f"it is a key {spec} for {usage}; create one with spec ECC_SECG_P256K1 and usage SIGN_VERIFY"
    with pytest.raises(SignerRefused, match=text):
        with_signer(lambda: open_kms(wrong, endpoint_url=server.url))


def test_what_is_wrong_on_our_side_says_so(server: KmsServer, arn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key, no region, no server, no url, no credentials."""
    with pytest.raises(SignerRefused, match="check kms_key_id, kms_region and the account"):
        with_signer(lambda: open_kms("alias/none", region=REGION, endpoint_url=server.url))
    with pytest.raises(SignerRefused, match="set kms_region"):
        with_signer(lambda: open_kms("alias/none", endpoint_url=server.url))
    with pytest.raises(SignerUnavailable, match="Could not connect"):
        with_signer(lambda: open_kms(arn, endpoint_url="http://127.0.0.1:1"))
    with pytest.raises(SignerRefused, match="kms_endpoint_url"):
        with_signer(lambda: open_kms(arn, endpoint_url="nonsense"))
    for name in ENVIRONMENT.keys() - {"AWS_EC2_METADATA_DISABLED"}:
        monkeypatch.delenv(name)
    with pytest.raises(SignerRefused, match="Unable to locate credentials; give runnerd's unit an instance role"):
        with_signer(lambda: open_kms(arn, endpoint_url=server.url))


def test_a_signature_that_takes_too_long_is_given_up(
    server: KmsServer, arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on meanwhile, and the intent waits for the next try."""
    monkeypatch.setattr(kms_client, "READ_TIMEOUT_S", 0.2)
    with pytest.raises(SignerUnavailable, match="Read timeout"):
        with_signer(lambda: open_kms(arn, endpoint_url=f"{server.url}/slow"), ASKED)
    monkeypatch.setattr(kms_client, "READ_TIMEOUT_S", 2.0)
    monkeypatch.setattr(kms_client, "DEADLINE_S", 0.2)

    async def open_in_time() -> KmsSigner:
        monkeypatch.setattr(kms_client, "DEADLINE_S", 15.0)
        signer = await open_kms(arn, endpoint_url=f"{server.url}/slow")
        monkeypatch.setattr(kms_client, "DEADLINE_S", 0.2)
        return signer

    with pytest.raises(SignerUnavailable, match=r"no answer within 0\.2 s"):
        with_signer(open_in_time, ASKED)


def test_without_boto3_the_extra_is_named(arn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who has a wallet in KMS needs it."""
    assert find_spec("boto3") is not None
    monkeypatch.setattr(kms_client, "find_spec", lambda name: None)
    with pytest.raises(SignerRefused, match=r"boto3 is not installed; pip install 'runnerd\[kms\]'"):
        with_signer(lambda: open_kms(arn))

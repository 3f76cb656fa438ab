"""What a remote signer gives back is taken when it is what was asked, to the byte, and never otherwise."""

from dataclasses import replace
from typing import Any

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from runnerd.wallets.returned import accept_returned
from runnerd.wallets.signature import ORDER
from runnerd.wallets.transaction import UnsignedTransaction, assemble, encode_for_signing
from tests.wallets.test_transaction import transactions

KEY = bytes(range(1, 33))
ADDRESS: str = Account.from_key(KEY).address
PLAIN = UnsignedTransaction(
    chain_id=31_337,
    nonce=7,
    to="0x" + "11" * 20,
    value_wei=5,
    data=b"\1\2\3",
    gas_limit=50_000,
    max_fee_per_gas_wei=10,
    max_priority_fee_per_gas_wei=10,
)


def signed(transaction: UnsignedTransaction, key: bytes = KEY) -> bytes:
    signature = PrivateKey(key).sign_recoverable(keccak(encode_for_signing(transaction)), hasher=None)
    return assemble(transaction, signature).raw


@given(transactions())
def test_what_was_asked_is_taken_as_it_came(transaction: UnsignedTransaction) -> None:
    """Both kinds; the bytes and the hash are those that would be sent."""
    raw = signed(transaction)
    taken = accept_returned(transaction, raw, ADDRESS)
    assert (taken.raw, taken.hash) == (raw, "0x" + keccak(raw).hex())


@given(transactions(), st.data())
def test_any_other_byte_anywhere_is_refused(transaction: UnsignedTransaction, data: st.DataObject) -> None:
    """One byte changed, left out or added: in a field, in the signature, in a length."""
    raw = signed(transaction)
    at = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != raw[at]))
    for broken in (raw[:at] + bytes((byte,)) + raw[at + 1 :], raw[:at], raw[:at] + bytes((byte,)) + raw[at:]):
        if broken != raw:
            with pytest.raises(ValueError):  # noqa: PT011  # that it is this class is the claim
                accept_returned(transaction, broken, ADDRESS)


@given(transactions(), st.binary(max_size=300))
def test_no_bytes_break_the_reader(transaction: UnsignedTransaction, content: bytes) -> None:
    """ValueError, and nothing else, also behind a type that is right."""
    for raw in (content, b"\2" + content, b"\xf8" + content):
        with pytest.raises(ValueError):  # noqa: PT011  # that it is this class is the claim
            accept_returned(transaction, raw, ADDRESS)


@pytest.mark.parametrize("is_legacy", [False, True], ids=["type 2", "legacy"])
@pytest.mark.parametrize(
    "field, value, name",
    [
        ("nonce", 8, "nonce is 0x08, asked was 0x07"),
        ("to", "0x" + "99" * 20, f"to is 0x{'99' * 20}, asked was 0x{'11' * 20}"),
        ("value_wei", 6, "value is 0x06, asked was 0x05"),
        ("data", b"\1" * 40, "data is 0x0101010101010101… (40 bytes), asked was 0x010203"),
        ("gas_limit", 50_001, "gas limit is 0xc351, asked was 0xc350"),
    ],
)
def test_the_field_that_differs_is_named(is_legacy: bool, field: str, value: Any, name: str) -> None:
    """Signed properly, but not what was asked: the operator reads what the signer made of it."""
    asked = replace(PLAIN, is_legacy=is_legacy)
    with pytest.raises(ValueError, match="asked was") as refused:
        accept_returned(asked, signed(replace(asked, **{field: value})), ADDRESS)
    assert str(refused.value) == name


def test_another_kind_or_chain_is_refused() -> None:
    """A legacy transaction has its chain id in v alone."""
    legacy = replace(PLAIN, is_legacy=True)
    with pytest.raises(ValueError, match="not an EIP-1559 transaction"):
        accept_returned(PLAIN, signed(legacy), ADDRESS)
    with pytest.raises(ValueError, match="not a legacy transaction"):
        accept_returned(legacy, signed(PLAIN), ADDRESS)
    with pytest.raises(ValueError, match="chain id is 0x01, asked was 0x7a69"):
        accept_returned(PLAIN, signed(replace(PLAIN, chain_id=1)), ADDRESS)
    with pytest.raises(ValueError, match=r"v is 3[78], which is not of chain 31337"):
        accept_returned(legacy, signed(replace(legacy, chain_id=1)), ADDRESS)


@pytest.mark.parametrize("is_legacy", [False, True], ids=["type 2", "legacy"])
def test_the_signature_must_be_of_the_address_and_low(is_legacy: bool) -> None:
    """The other half of the s is as valid for the curve: EIP-2 forbids it."""
    asked = replace(PLAIN, is_legacy=is_legacy)
    with pytest.raises(ValueError, match=f"signed by {Account.from_key(b'2' * 32).address}, not by {ADDRESS}"):
        accept_returned(asked, signed(asked, b"2" * 32), ADDRESS)
    low = PrivateKey(KEY).sign_recoverable(keccak(encode_for_signing(asked)), hasher=None)
    high_s = (ORDER - int.from_bytes(low[32:64], "big")).to_bytes(32, "big")
    high = assemble(asked, low[:32] + high_s + bytes((low[64] ^ 1,))).raw
    assert Account.recover_transaction(high) == ADDRESS
    with pytest.raises(ValueError, match="upper half"):
        accept_returned(asked, high, ADDRESS)


def test_a_longer_encoding_of_the_same_is_refused() -> None:
    """A nonce with a zero before it means the same to a lenient reader, and has another hash."""
    raw = signed(PLAIN)
    assert raw[:1] + raw[1:3] == b"\2\xf8" + bytes((len(raw) - 3,))
    inner = raw[3:].replace(b"\x82\x7a\x69\x07", b"\x82\x7a\x69\x82\x00\x07", 1)
    longer = b"\2\xf8" + bytes((len(inner),)) + inner
    with pytest.raises(ValueError, match="nonce is 0x0007, asked was 0x07"):
        accept_returned(PLAIN, longer, ADDRESS)
    as_string = raw[3:].replace(b"\x82\x7a\x69\x07", b"\x82\x7a\x69\x81\x07", 1)
    with pytest.raises(ValueError, match="not the shortest"):
        accept_returned(PLAIN, b"\2\xf8" + bytes((len(as_string),)) + as_string, ADDRESS)

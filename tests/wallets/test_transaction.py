"""Encoding by hand, held byte for byte against eth_account; fields that no node would take are refused."""

from typing import Any

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from runnerd.wallets.errors import TransactionInvalid
from runnerd.wallets.transaction import MAX_DATA_BYTES, UnsignedTransaction, assemble, encode_for_signing

FIELDS: dict[str, Any] = {
    "chain_id": 1,
    "nonce": 0,
    "to": "0x" + "11" * 20,
    "value_wei": 0,
    "data": b"",
    "gas_limit": 21_000,
    "max_fee_per_gas_wei": 2,
    "max_priority_fee_per_gas_wei": 1,
}

# Small numbers, numbers at byte boundaries and huge ones meet the different cases of RLP.
numbers = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 2), st.sampled_from([127, 128, 255, 256, 2**64 - 2]))


@st.composite
def transactions(draw: st.DrawFn) -> UnsignedTransaction:
    max_fee = draw(st.integers(0, 2**128))
    is_legacy = draw(st.booleans())
    return UnsignedTransaction(
        chain_id=draw(st.integers(1, 2**63)),
        nonce=draw(numbers),
        to="0x" + draw(st.binary(min_size=20, max_size=20)).hex(),
        value_wei=draw(st.one_of(numbers, st.integers(0, 2**256 - 1))),
        data=draw(st.one_of(st.binary(max_size=70), st.binary(min_size=250, max_size=300))),
        gas_limit=21_000 + draw(st.integers(0, 2**40)),
        max_fee_per_gas_wei=max_fee,
        max_priority_fee_per_gas_wei=max_fee if is_legacy else draw(st.integers(0, max_fee)),
        is_legacy=is_legacy,
    )


@given(transactions(), st.binary(min_size=32, max_size=32).filter(lambda key: 0 < int.from_bytes(key, "big") < 2**255))
def test_every_signed_transaction_is_that_of_eth_account(transaction: UnsignedTransaction, key: bytes) -> None:
    """Same bytes, same hash: both sign deterministically (RFC 6979) with low s."""
    signature = PrivateKey(key).sign_recoverable(keccak(encode_for_signing(transaction)), hasher=None)
    signed = assemble(transaction, signature)
    fees = {
        "type": 2,
        "maxFeePerGas": transaction.max_fee_per_gas_wei,
        "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas_wei,
    }
    expected = Account.from_key(key).sign_transaction(
        {
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "to": to_checksum_address(transaction.to),
            "value": transaction.value_wei,
            "data": transaction.data,
            "gas": transaction.gas_limit,
            **({"gasPrice": transaction.max_fee_per_gas_wei} if transaction.is_legacy else fees),
        }
    )
    assert signed.raw == bytes(expected.raw_transaction)
    assert signed.hash == "0x" + expected.hash.hex().removeprefix("0x")


def test_what_is_signed_is_these_bytes() -> None:
    """Golden: type 2, then the RLP list of chain id, nonce, tip, max fee, gas, to, value, data, access list."""
    assert encode_for_signing(UnsignedTransaction(**FIELDS)).hex() == (
        "02" + "df" + "01" + "80" + "01" + "02" + "825208" + "94" + "11" * 20 + "80" + "80" + "c0"
    )


def test_what_is_signed_for_a_legacy_chain_is_these_bytes() -> None:
    """Golden, the example of EIP-155: nonce, gas price, gas, to, value, data, chain id, 0, 0; and the signed bytes."""
    transaction = UnsignedTransaction(
        chain_id=1,
        nonce=9,
        to="0x" + "35" * 20,
        value_wei=10**18,
        data=b"",
        gas_limit=21_000,
        max_fee_per_gas_wei=20 * 10**9,
        max_priority_fee_per_gas_wei=20 * 10**9,
        is_legacy=True,
    )
    expected = "ec098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080018080"
    assert encode_for_signing(transaction).hex() == expected
    signature = PrivateKey(b"\x46" * 32).sign_recoverable(keccak(encode_for_signing(transaction)), hasher=None)
    assert assemble(transaction, signature).raw.hex() == (
        "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025"
        "a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276"
        "a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
    )


def test_a_legacy_transaction_has_one_price() -> None:
    """Two that differ would hide which one is meant."""
    fields = {**FIELDS, "is_legacy": True}
    with pytest.raises(TransactionInvalid, match="a legacy transaction has one gas price: expected 2"):
        UnsignedTransaction(**fields)
    assert UnsignedTransaction(**{**fields, "max_priority_fee_per_gas_wei": 2}).is_legacy


@pytest.mark.parametrize(
    "field, value",
    [
        ("chain_id", 0),
        ("nonce", -1),
        ("nonce", 2**64 - 1),
        ("nonce", True),
        ("nonce", 1.0),
        ("value_wei", 2**256),
        ("gas_limit", 20_999),
        ("max_fee_per_gas_wei", -1),
        ("max_priority_fee_per_gas_wei", 3),
        ("to", ""),
        ("to", "0x" + "11" * 19),
        ("to", "0x" + "11" * 20 + "\n"),
        ("data", "0x"),
        ("data", bytearray(b"")),
        ("data", b"x" * (MAX_DATA_BYTES + 1)),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    """Before a signer ever sees it; an empty `to` would create a contract."""
    with pytest.raises(TransactionInvalid) as refused:
        UnsignedTransaction(**{**FIELDS, field: value})
    assert refused.value.field == field

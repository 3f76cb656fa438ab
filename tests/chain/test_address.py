"""Addresses: EIP-55 both ways, and typing errors refused."""

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.address import address_bytes, checksum_address, parse_address
from runnerd.chain.errors import AbiError

EIP55_EXAMPLES = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("address", EIP55_EXAMPLES)
def test_the_examples_of_eip_55_are_right(address: str) -> None:
    """Taken from the EIP's text."""
    assert parse_address(address) == address == checksum_address(address.lower())


@given(st.binary(min_size=20, max_size=20))
def test_checksums_agree_with_eth_utils(data: bytes) -> None:
    """The second opinion; and the bytes come back."""
    assert checksum_address("0x" + data.hex()) == to_checksum_address(data)
    assert address_bytes(checksum_address("0x" + data.hex())) == data


@pytest.mark.parametrize(
    "text", ["", "0x", "0x12", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x" + "g" * 40, "0x" + "1" * 41]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Exactly 0x and 40 hex digits."""
    with pytest.raises(AbiError, match="is not an address"):
        parse_address(text)


def test_a_newline_after_an_address_is_refused() -> None:
    """`$` in a regular expression matches before a final newline; the border must not."""
    with pytest.raises(AbiError, match="is not an address"):
        parse_address("0x" + "1" * 40 + "\n")


def test_mixed_case_must_be_the_right_checksum() -> None:
    """One letter's case changed is a typing error; all lower or all upper case carries no checksum."""
    right = EIP55_EXAMPLES[2]
    with pytest.raises(AbiError, match="wrong EIP-55 checksum"):
        parse_address(right.replace("A", "a", 1))
    assert parse_address(right.lower()) == parse_address("0x" + right[2:].upper()) == right

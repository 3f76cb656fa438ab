"""Signatures and keys that others made: every right one is read, everything else is refused by name."""

import pytest
from coincurve import PrivateKey, PublicKey
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_account import Account
from hypothesis import assume, given
from hypothesis import strategies as st

from runnerd.wallets.signature import (
    HALF_ORDER,
    ORDER,
    address_of,
    complete_signature,
    decode_der_signature,
    decode_public_key,
    recover_address,
)

keys = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
digests = st.binary(min_size=32, max_size=32)
scalars = st.one_of(st.integers(1, ORDER - 1), st.integers(1, 300), st.sampled_from([127, 128, 2**255, ORDER - 1]))


@given(keys, digests, st.booleans())
def test_a_signature_is_completed_whether_its_s_is_high_or_low(key: bytes, digest: bytes, is_high: bool) -> None:
    """r and s alone, as KMS gives them: the result is libsecp256k1's own, with low s (EIP-2) and recovery id."""
    expected = PrivateKey(key).sign_recoverable(digest, hasher=None)
    r, s = int.from_bytes(expected[:32], "big"), int.from_bytes(expected[32:64], "big")
    assert s <= HALF_ORDER
    address = Account.from_key(key).address
    assert complete_signature(digest, r, ORDER - s if is_high else s, address) == expected
    assert recover_address(digest, expected) == address


@given(keys, keys, digests, digests)
def test_a_signature_of_another_key_or_digest_is_refused(key: bytes, other: bytes, digest: bytes, asked: bytes) -> None:
    """The proof that what was signed is what was asked, by whom it was asked.

    Not of a digest of zero, which a key and its negative sign alike, and which no hash ever is.
    """
    assume(any(digest) and any(asked))
    signed = PrivateKey(key).sign_recoverable(digest, hasher=None)
    r, s = int.from_bytes(signed[:32], "big"), int.from_bytes(signed[32:64], "big")
    for address, about in ((Account.from_key(other).address, digest), (Account.from_key(key).address, asked)):
        if (address, about) != (Account.from_key(key).address, digest):
            with pytest.raises(ValueError, match="not a signature of what was asked"):
                complete_signature(about, r, s, address)


@pytest.mark.parametrize("r, s", [(0, 1), (1, 0), (ORDER, 1), (1, ORDER), (2**256, 1), (-1, 1)])
def test_numbers_that_no_signature_has_are_refused(r: int, s: int) -> None:
    """Before they are written into 32 bytes."""
    with pytest.raises(ValueError, match="out of range"):
        complete_signature(bytes(32), r, s, "0x" + "11" * 20)


@given(scalars, scalars)
def test_der_is_read_as_it_was_written(r: int, s: int) -> None:
    """OpenSSL writes, we read."""
    assert decode_der_signature(encode_dss_signature(r, s)) == (r, s)


@given(scalars, scalars, st.data())
def test_der_that_was_changed_in_length_is_refused(r: int, s: int, data: st.DataObject) -> None:
    """Cut anywhere, or with something behind it."""
    whole = encode_dss_signature(r, s)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for broken in (whole[:cut], whole + b"\0"):
        with pytest.raises(ValueError, match="DER"):
            decode_der_signature(broken)


@pytest.mark.parametrize(
    "der",
    [
        "",
        "30",
        "3000",
        "3006020101020101ff",
        "31060201010201" + "01",
        "3006030101020101",
        "3006020181020101",  # negative
        "300702020001020101",  # not the shortest
        "3005020002" + "0101",
        "3008020101020101" + "0000",
        "30812602" + "22" + "00" * 34,
    ],
)
def test_der_in_another_form_is_refused(der: str) -> None:
    """BER, negative or padded integers, other types, more behind."""
    with pytest.raises(ValueError, match="DER"):
        decode_der_signature(bytes.fromhex(der))


@given(st.binary(max_size=120))
def test_no_bytes_break_the_readers(content: bytes) -> None:
    """ValueError, and nothing else."""
    for read in (decode_der_signature, decode_public_key):
        with pytest.raises(ValueError):  # noqa: PT011  # that it is this class is the claim
            read(content)


@given(keys)
def test_a_public_key_is_read_from_its_der(key: bytes) -> None:
    """As OpenSSL and KMS write it; its address is the one that eth_account knows."""
    number = int.from_bytes(key, "big")
    public = ec.derive_private_key(number, ec.SECP256K1()).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert address_of(decode_public_key(der)) == Account.from_key(key).address
    assert address_of(PublicKey.from_secret(key)) == Account.from_key(key).address


def test_a_key_of_another_curve_is_refused() -> None:
    """P-256 keys are as long; a point off the curve is no key."""
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="secp256k1"):
        decode_public_key(der)
    ours = ec.generate_private_key(ec.SECP256K1()).public_key()
    right = ours.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="could not be parsed"):
        decode_public_key(right[:-1] + bytes((right[-1] ^ 1,)))

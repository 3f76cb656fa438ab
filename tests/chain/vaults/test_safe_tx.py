"""What owners sign, held against eth_account's EIP-712; which signatures a Safe counts; and batches as one call."""

from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.address import checksum_address
from runnerd.chain.errors import AbiError
from runnerd.chain.vault import Call
from runnerd.chain.vaults.multisend import (
    OneCall,
    Operation,
    as_one_call,
    decode_multi_send,
    encode_multi_send,
)
from runnerd.chain.vaults.safe_tx import (
    SafeTx,
    SignatureRefused,
    assemble,
    decode_exec,
    encode_exec,
    parse_signature,
    pre_validated,
    recover_owner,
)

ADA = Account.from_key(b"\x01" * 32)
ZERO = "0x" + "00" * 20
INTENT = b"\x77" * 32
MULTISEND = checksum_address("0x" + "4e" * 20)

addresses = st.binary(min_size=20, max_size=20).filter(any).map(lambda data: checksum_address("0x" + data.hex()))
uint256 = st.integers(0, 2**256 - 1)
calls = st.builds(Call, to=addresses, value_wei=uint256, data=st.binary(max_size=100))
safe_txs = st.builds(
    SafeTx, chain_id=st.integers(1, 2**63), safe=addresses, to=addresses, value_wei=uint256,
    data=st.binary(max_size=99), operation=st.sampled_from(Operation), nonce=st.integers(0, 2**63),
)  # fmt: skip
SAFE_TX = SafeTx(
    chain_id=1, safe=checksum_address("0x" + "5a" * 20), to=MULTISEND, value_wei=0, data=b"\1", nonce=3,
    operation=Operation.CALL,
)  # fmt: skip


def typed(tx: SafeTx) -> dict[str, object]:
    """As a wallet gets it."""
    numbers = ("safeTxGas", "baseGas", "gasPrice")
    fields = [("to", "address"), ("value", "uint256"), ("data", "bytes"), ("operation", "uint8"),
              *((name, "uint256") for name in numbers),
              ("gasToken", "address"), ("refundReceiver", "address"), ("nonce", "uint256")]  # fmt: skip
    return {
        "primaryType": "SafeTx",
        "types": {
            "EIP712Domain": [{"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"}],
            "SafeTx": [{"name": name, "type": kind} for name, kind in fields],
        },
        "domain": {"chainId": tx.chain_id, "verifyingContract": tx.safe},
        "message": {
            "to": tx.to, "value": tx.value_wei, "data": tx.data, "operation": int(tx.operation),
            **dict.fromkeys(numbers, 0),
            "gasToken": ZERO, "refundReceiver": ZERO, "nonce": tx.nonce,
        },
    }  # fmt: skip


@given(safe_txs)
def test_owner_s_wallet_signs_the_hash_that_we_compute(tx: SafeTx) -> None:
    """eth_account is the second opinion on EIP-712, and on who signed."""
    signed = Account.sign_message(encode_typed_data(full_message=typed(tx)), ADA.key)

    assert bytes(signed.message_hash) == tx.hash
    assert recover_owner(tx.hash, bytes(signed.signature)) == (ADA.address, bytes(signed.signature))


@pytest.mark.parametrize(
    "change",
    [{"chain_id": 2}, {"safe": MULTISEND}, {"to": ZERO}, {"value_wei": 1}, {"data": b"\2"}, {"nonce": 4},
     {"operation": Operation.DELEGATE_CALL}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_field_is_signed(change: dict[str, object]) -> None:
    """A signature of one transaction is none of any other."""
    signature = bytes(Account.sign_message(encode_typed_data(full_message=typed(SAFE_TX)), ADA.key).signature)
    assert recover_owner(SAFE_TX.hash, signature)[0] == ADA.address
    assert recover_owner(replace(SAFE_TX, **change).hash, signature)[0] != ADA.address  # type: ignore[arg-type]


def test_signature_of_eth_sign_and_plain_recovery_ids_are_understood() -> None:
    """Hardware wallets prefix the hash, and a Safe reads that from v + 4; some tools write v as 0 and 1."""
    prefixed = bytes(Account.sign_message(encode_defunct(primitive=SAFE_TX.hash), ADA.key).signature)
    marked = prefixed[:64] + bytes([prefixed[64] + 4])
    assert recover_owner(SAFE_TX.hash, marked) == (ADA.address, marked)
    assert recover_owner(SAFE_TX.hash, prefixed)[0] != ADA.address
    plain = bytes(Account.sign_message(encode_typed_data(full_message=typed(SAFE_TX)), ADA.key).signature)
    assert recover_owner(SAFE_TX.hash, plain[:64] + bytes([plain[64] - 27])) == (ADA.address, plain)


@pytest.mark.parametrize(
    "signature, reason",
    [(bytes(64), "this has 64"), (pre_validated(ADA.address), "no signature of secp256k1"),
     (b"\1" * 64 + b"\x02", "v = 2; allowed: 27 and 28"), (bytes(64) + b"\x1b", "no signature of secp256k1"),
     (b"\xff" * 64 + b"\x1c", "no signature of secp256k1")],
    ids=["short", "pre-validated", "v", "zero", "too large"],
)  # fmt: skip
def test_what_is_no_signature_is_refused(signature: bytes, reason: str) -> None:
    """Also the form that stands for a sender who is an owner: nobody may bring that for somebody else."""
    with pytest.raises(SignatureRefused, match=reason):
        recover_owner(SAFE_TX.hash, signature)


@pytest.mark.parametrize("text", ["", "0x", "zz" * 65, "0x" + "ab" * 64, "ab" * 66, "ab " * 70])
def test_text_that_is_no_signature_is_refused(text: str) -> None:
    """A file of another kind is told so."""
    with pytest.raises(SignatureRefused, match="65 bytes"):
        parse_signature(text)
    assert parse_signature(" 0x" + "ab" * 65 + "\n") == b"\xab" * 65


@given(st.dictionaries(addresses, st.binary(min_size=65, max_size=65), max_size=6))
def test_signatures_stand_in_the_order_of_their_owners(signatures: dict[str, bytes]) -> None:
    """A Safe refuses any other order."""
    by_number = sorted(signatures, key=lambda owner: int(owner, 16))
    assert assemble(signatures) == b"".join(signatures[owner] for owner in by_number)


@given(calls, st.sampled_from(Operation), st.binary(max_size=130))
def test_calldata_of_exec_transaction_is_read_back(call: Call, operation: Operation, signatures: bytes) -> None:
    """With and without signatures: the desk adds them to what was planned."""
    one = OneCall(to=call.to, value_wei=call.value_wei, data=call.data, operation=operation)
    assert decode_exec(encode_exec(one, signatures)) == (one, signatures)
    with pytest.raises(AbiError):
        decode_exec(encode_exec(one, signatures)[:60])


@given(st.lists(calls, max_size=5))
def test_batch_is_read_back_call_by_call(batch: list[Call]) -> None:
    """What an owner is shown is what is in the bytes."""
    assert decode_multi_send(encode_multi_send(batch)) == tuple(batch)


@pytest.mark.parametrize(
    "data", [b"", b"\x8d\x80\xff\x0a", encode_multi_send([])[:-1] + b"\1",
             encode_multi_send([Call(to=MULTISEND, value_wei=0, data=b"\1\2")]).replace(b"\x8d\x80\xff\x0a", bytes(4))],
)  # fmt: skip
def test_bytes_that_are_no_batch_are_refused(data: bytes) -> None:
    """An owner is never shown half of what is signed."""
    with pytest.raises(AbiError):
        decode_multi_send(data)


def test_nested_delegatecall_in_a_batch_is_refused() -> None:
    """MultiSendCallOnly would revert; an owner's screen must not call it a call."""
    data = bytearray(encode_multi_send([Call(to=MULTISEND, value_wei=0, data=b"")]))
    data[68] = Operation.DELEGATE_CALL
    with pytest.raises(AbiError, match="no plain call"):
        decode_multi_send(bytes(data))


def test_registry_comes_first_and_makes_a_batch_of_one_call() -> None:
    """An id that was used reverts before anything else takes place."""
    call = Call(to=MULTISEND, value_wei=1, data=b"\1")
    registry = checksum_address("0x" + "4d" * 20)
    alone = as_one_call([call], INTENT, MULTISEND, None)
    assert alone == OneCall(to=call.to, value_wei=1, data=b"\1", operation=Operation.CALL)
    locked = as_one_call([call], INTENT, MULTISEND, registry)
    assert (locked.to, locked.operation) == (MULTISEND, Operation.DELEGATE_CALL)
    first, second = decode_multi_send(locked.data)
    assert (first.to, first.data[4:], second) == (registry, INTENT, call)
    with pytest.raises(AbiError, match="at least one call"):
        as_one_call([], INTENT, MULTISEND, registry)
    with pytest.raises(AbiError, match="not all zero"):
        as_one_call([call], bytes(32), MULTISEND, registry)

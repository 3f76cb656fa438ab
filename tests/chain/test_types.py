"""The border to a node's answers: right ones become structs, every wrong one is RpcMalformed with method and field."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.errors import RpcMalformed
from runnerd.chain.types import (
    Block,
    decode_block,
    decode_count,
    decode_data,
    decode_fee_history,
    decode_hash,
    decode_quantity,
    decode_receipt,
)
from tests.chain.fake_node import HASH, wire_block

RECEIPT: dict[str, Any] = {
    "transactionHash": HASH,
    "blockNumber": "0x10",
    "blockHash": HASH,
    "status": "0x1",
    "gasUsed": "0x5208",
    "effectiveGasPrice": "0x3b9aca00",
    "logs": [{"address": "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "topics": [HASH], "data": "0x0102"}],
    "type": "0x2",
}
FEES: dict[str, Any] = {
    "oldestBlock": "0x5",
    "baseFeePerGas": ["0x1", "0x2", "0x3"],
    "gasUsedRatio": [0.5, 1],
    "reward": [["0x1"], ["0x2"]],
}


def test_a_block_is_decoded() -> None:
    """Numbers from hex, hashes in lower case."""
    assert decode_block(wire_block(26)) == Block(
        number=26,
        hash=f"0x{26:064x}",
        timestamp=1_700_000_026,
        base_fee_wei=7,
        gas_limit=30_000_000,
        parent_hash=f"0x{25:064x}",
    )


def test_a_block_before_london_has_no_base_fee() -> None:
    """Also some private chains."""
    wire = wire_block(1)
    del wire["baseFeePerGas"]
    assert decode_block(wire).base_fee_wei is None


def test_a_receipt_is_decoded_and_its_logs_are_not_looked_at() -> None:
    """An event that is odd in a field must not keep an intent from its end."""
    receipt = decode_receipt(RECEIPT)
    assert receipt is not None
    assert (receipt.status, receipt.gas_used, receipt.effective_gas_price_wei) == (1, 21_000, 10**9)
    assert decode_receipt({**RECEIPT, "logs": [{"address": None}]}) == receipt


def test_no_receipt_is_none() -> None:
    """Null is an answer, and one node's word."""
    assert decode_receipt(None) is None


def test_fee_history_is_decoded() -> None:
    """One base fee more than blocks: the last is the next block's."""
    history = decode_fee_history(FEES)
    assert (history.oldest_block, history.base_fees_wei, history.rewards_wei) == (5, (1, 2, 3), ((1,), (2,)))


@pytest.mark.parametrize(
    "decode, wire, field, bad",
    [
        (decode_block, wire_block(1), "number", "1"),
        (decode_block, wire_block(1), "number", None),
        (decode_block, wire_block(1), "number", 1),
        (decode_block, wire_block(1), "hash", "0x12"),
        (decode_block, wire_block(1), "hash", HASH + "\n"),
        (decode_block, wire_block(1), "baseFeePerGas", "0x"),
        (decode_block, wire_block(1), "gasLimit", "0x" + "f" * 65),
        (decode_receipt, RECEIPT, "status", "0x2"),
        (decode_receipt, RECEIPT, "blockNumber", "0x8000000000000000"),
        (decode_receipt, RECEIPT, "gasUsed", "0x10000000000000000"),
        (decode_block, wire_block(1), "number", "0x" + "f" * 64),
        (decode_block, wire_block(1), "timestamp", "0x8000000000000000"),
        (decode_receipt, RECEIPT, "effectiveGasPrice", "abc"),
        (decode_fee_history, FEES, "gasUsedRatio", [0.5]),
        (decode_fee_history, FEES, "reward", [["0x1"]]),
        (decode_fee_history, FEES, "baseFeePerGas", []),
    ],
)
def test_a_malformed_field_is_named(decode: Any, wire: dict[str, Any], field: str, bad: object) -> None:
    """The operator reads which method of which node to complain about; it is RpcUnavailable, never KeyError."""
    with pytest.raises(RpcMalformed) as malformed:
        decode({**wire, field: bad})
    assert malformed.value.field == field
    assert malformed.value.method.startswith("eth_")


def test_a_missing_field_is_named() -> None:
    """msgspec says which; the text keeps it."""
    with pytest.raises(RpcMalformed, match="`gasUsed`"):
        decode_receipt({key: value for key, value in RECEIPT.items() if key != "gasUsed"})


@pytest.mark.parametrize("count", [0, 7, (1 << 60) - 1, 1 << 60, (1 << 63) - 1])
@pytest.mark.parametrize("zeros", [0, 1, 40])
def test_counts_up_to_bigint_are_taken_with_leading_zeros_or_without(count: int, zeros: int) -> None:
    """What the ledger can hold, a node may say."""
    assert decode_count(f"0x{'0' * zeros}{count:x}", "eth_getTransactionCount") == count


@given(st.integers(1 << 63, (1 << 256) - 1))
def test_counts_beyond_bigint_are_malformed(count: int) -> None:
    """The ledger would refuse them, and with them the end of an intent."""
    with pytest.raises(RpcMalformed):
        decode_count(hex(count), "eth_getTransactionCount")


def test_block_without_a_gas_limit_has_the_largest_one() -> None:
    """Private chains name 2^64 - 1, or more: the chain is still usable."""
    assert decode_block({**wire_block(1), "gasLimit": "0x" + "f" * 64}).gas_limit == (1 << 63) - 1


@pytest.mark.parametrize("answer", [None, "latest", [], {}, 5, "0xabcdefg"])
def test_bare_values_are_checked_too(answer: Any) -> None:
    """A block that is null, a hash that is a number."""
    for decode in (decode_quantity, decode_count, decode_data, decode_hash, decode_block):
        with pytest.raises(RpcMalformed):
            decode(answer, "eth_x")


def test_bare_values_are_decoded() -> None:
    """eth_chainId, eth_call, eth_sendRawTransaction."""
    assert decode_quantity("0x7a69", "eth_chainId") == 31_337
    assert decode_data("0x", "eth_call") == b""
    assert decode_hash(HASH.upper().replace("0X", "0x"), "eth_sendRawTransaction") == HASH


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["0x1", HASH, "", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*RECEIPT, *FEES]), inner, max_size=4),
    max_leaves=10,
)


@given(_JSON)
def test_no_json_raises_anything_else(answer: Any) -> None:
    """Whatever a node makes up."""
    for decode in (decode_block, decode_receipt, decode_fee_history):
        try:
            decode(answer)
        except RpcMalformed:
            continue

"""Reads of one decision: one round trip, one block, every failure by its name. Here with a scripted node."""

import asyncio
from collections.abc import Sequence

import pytest
from eth_abi.abi import encode

from runnerd.chain.abi import parse_error, parse_function
from runnerd.chain.errors import AbiError, ReadFailed, RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.reads import ReadRequest, fetch_reads
from tests.chain.fake_node import BLOCK, HASH, FakeNode

TO = "0x" + "11" * 20
SPOT = ReadRequest(name="spot", to=TO, function=parse_function("spot() view returns (uint256)"))
PAIR = ReadRequest(
    name="pair", to=TO, function=parse_function("pair(uint256 i) view returns (uint256, bool)"), args={"i": 7}
)
STALE = parse_error("Stale(uint256 age)")
PRICE = ReadRequest(name="price", to=TO, function=parse_function("price() returns (int256)"), errors=(STALE,))


def scripted(*answers: JsonValue | RpcRefused) -> FakeNode:
    remaining = iter(answers)
    return FakeNode(lambda *_: next(remaining))


def word(*values: object, types: Sequence[str] = ("uint256",)) -> str:
    return "0x" + encode(types, values).hex()


def test_all_reads_go_in_one_batch_at_one_canonical_block() -> None:
    """EIP-1898: by hash, and canonical, so that a reorg in between is an error instead of a mixture."""
    node = scripted(word(5), word(6, True, types=("uint256", "bool")))
    assert asyncio.run(fetch_reads(node, BLOCK, [SPOT, PAIR], timeout_s=1.5)) == {"spot": 5, "pair": [6, True]}
    at: JsonParam = {"blockHash": HASH, "requireCanonical": True}
    assert node.timeout_s == 1.5
    expected_to = SPOT.call["to"]
    pair_data = "0x" + (PAIR.function.selector + encode(["uint256"], [7])).hex()
    assert node.requests == [
        ("eth_call", [{"to": expected_to, "data": "0x" + SPOT.function.selector.hex()}, at]),
        ("eth_call", [{"to": expected_to, "data": pair_data}, at]),
    ]


def test_every_failed_read_is_named_with_its_reason() -> None:
    """One error for all of them, so that the operator repairs all at once."""
    stale = "0x" + (STALE.selector + encode(["uint256"], [9])).hex()
    node = scripted(RpcRefused(3, "execution reverted", stale), word(1), "0x")
    with pytest.raises(ReadFailed) as failed:
        asyncio.run(fetch_reads(node, BLOCK, [PRICE, SPOT, PAIR]))
    assert [(each.name, each.reason) for each in failed.value.failures] == [
        ("price", "reverted: Stale(age=9)"),
        ("pair", "pair returned nothing: no contract at this address, or not this function"),
    ]
    assert str(failed.value).startswith("at block 7: read price: reverted: Stale(age=9); read pair: ")


def test_a_node_that_cannot_serve_the_block_is_no_failed_read() -> None:
    """A lagging node or a reorg: ask another node or another block; the contract is not to blame."""
    with pytest.raises(RpcRefused, match=r"eth_call \(read spot\): node error -32000: header not found"):
        asyncio.run(fetch_reads(scripted(RpcRefused(-32000, "header not found", method="eth_call")), BLOCK, [SPOT]))


def test_a_malformed_answer_is_no_failed_read() -> None:
    """It proves nothing about the contract."""
    with pytest.raises(RpcMalformed, match="read spot"):
        asyncio.run(fetch_reads(scripted(5), BLOCK, [SPOT]))


def test_arguments_are_checked_when_the_request_is_built() -> None:
    """At the start, when the operator looks, and not at the first decision."""
    with pytest.raises(AbiError, match="missing: i"):
        ReadRequest(name="pair", to=TO, function=PAIR.function)
    with pytest.raises(AbiError, match="not an address"):
        ReadRequest(name="spot", to="0x12", function=SPOT.function)

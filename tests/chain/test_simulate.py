"""Simulation: success only when both call and estimate succeed, a gas limit only from an estimate. Scripted node."""

import asyncio

import pytest
from eth_abi.abi import encode

from runnerd.chain.errors import RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.simulate import CallMessage, Reverted, Simulated
from tests.chain.asking import simulate
from tests.chain.fake_node import BLOCK, HASH, FakeNode

MESSAGE = CallMessage(sender="0x" + "11" * 20, to="0x" + "22" * 20, data=b"\x01\x02", value_wei=5)
REVERT = RpcRefused(3, "execution reverted", "0x08c379a0" + encode(["string"], ["vault: paused"]).hex())


def outcome(call: JsonValue | RpcRefused, estimate: JsonValue | RpcRefused, **options: int) -> Simulated | Reverted:
    answers = {"eth_call": call, "eth_estimateGas": estimate}
    node = FakeNode(lambda method, _: answers[method])
    result = asyncio.run(simulate(node, BLOCK, MESSAGE, gas_margin_percent=options.get("gas_margin_percent", 20)))
    wire = {"from": MESSAGE.sender, "to": MESSAGE.to, "data": "0x0102", "value": "0x5"}
    at = {"blockHash": HASH, "requireCanonical": True}
    assert node.requests == [("eth_call", [wire, at]), ("eth_estimateGas", [wire, at])]
    return result


def test_success_carries_the_limit_which_is_the_estimate_with_its_margin() -> None:
    """Rounded up; both asked at the same block in one batch."""
    assert outcome("0x01", hex(100_001)) == Simulated(gas_limit=120_002)
    assert outcome("0x", hex(100_000), gas_margin_percent=0) == Simulated(gas_limit=100_000)


def test_the_limit_never_exceeds_the_blocks() -> None:
    """A transaction with more gas than a block holds is never included."""
    simulated = outcome("0x", hex(29_000_000))
    assert isinstance(simulated, Simulated)
    assert simulated.gas_limit == BLOCK.gas_limit
    assert outcome("0x", hex(30_000_001)) == Reverted(reason="needs 30000001 gas, a block holds 30000000", data=None)


@pytest.mark.parametrize("call, estimate", [(REVERT, "0x5208"), ("0x", REVERT), (REVERT, REVERT)])
def test_a_revert_of_either_is_a_revert(call: JsonValue | RpcRefused, estimate: JsonValue | RpcRefused) -> None:
    """There is no default gas limit for a transaction whose estimate failed."""
    reverted = outcome(call, estimate)
    assert isinstance(reverted, Reverted)
    assert reverted.reason == "vault: paused"
    assert reverted.data is not None


@pytest.mark.parametrize("message", ["header not found", "hash 0x12 is not currently canonical", "limit exceeded"])
def test_a_node_that_did_not_run_it_says_nothing(message: str) -> None:
    """It is neither success nor revert."""
    refused = RpcRefused(-32000, message)
    for call, estimate in ((refused, "0x5208"), ("0x", refused)):
        with pytest.raises(RpcRefused):
            outcome(call, estimate)


def test_an_odd_answer_says_nothing() -> None:
    """Both are checked."""
    with pytest.raises(RpcMalformed):
        outcome("0x", None)
    with pytest.raises(RpcMalformed):
        outcome(None, "0x5208")

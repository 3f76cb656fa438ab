"""Simulation: success only when the estimate succeeds, a gas limit only from an estimate. Scripted node."""

import asyncio

import pytest
from eth_abi.abi import encode

from runnerd.chain.errors import RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.simulate import CallMessage, Reverted, Simulated, build_check, decode_check
from tests.chain.asking import simulate
from tests.chain.fake_node import BLOCK, HASH, FakeNode

MESSAGE = CallMessage(sender="0x" + "11" * 20, to="0x" + "22" * 20, data=b"\x01\x02", value_wei=5)
REVERT = RpcRefused(3, "execution reverted", "0x08c379a0" + encode(["string"], ["vault: paused"]).hex())


def outcome(estimate: JsonValue | RpcRefused, gas_margin_percent: int = 20) -> Simulated | Reverted:
    node = FakeNode(lambda *_: estimate)
    result = asyncio.run(simulate(node, BLOCK, MESSAGE, gas_margin_percent=gas_margin_percent))
    wire = {"from": MESSAGE.sender, "to": MESSAGE.to, "data": "0x0102", "value": "0x5"}
    assert node.requests == [("eth_estimateGas", [wire, {"blockHash": HASH, "requireCanonical": True}])]
    return result


def test_success_carries_the_limit_which_is_the_estimate_with_its_margin() -> None:
    """Rounded up, in whole units of gas."""
    assert outcome(hex(100_001)) == Simulated(gas_limit=120_002)
    assert outcome(hex(100_000), gas_margin_percent=0) == Simulated(gas_limit=100_000)


def test_the_limit_never_exceeds_the_blocks() -> None:
    """A transaction with more gas than a block holds is never included."""
    assert outcome(hex(29_000_000)) == Simulated(gas_limit=BLOCK.gas_limit)
    assert outcome(hex(30_000_000)) == Simulated(gas_limit=BLOCK.gas_limit)
    assert outcome(hex(30_000_001)) == Reverted(reason="needs 30000001 gas, a block holds 30000000", data=None)


def test_a_failing_estimate_is_a_revert_with_its_reason() -> None:
    """There is no default gas limit for a transaction whose estimate failed."""
    reverted = outcome(REVERT)
    assert isinstance(reverted, Reverted)
    assert reverted.reason == "vault: paused"
    assert reverted.data is not None


@pytest.mark.parametrize("message", ["header not found", "hash 0x12 is not currently canonical", "limit exceeded"])
def test_a_node_that_did_not_run_it_says_nothing(message: str) -> None:
    """It is neither success nor revert."""
    with pytest.raises(RpcRefused, match=message):
        outcome(RpcRefused(-32000, message))


@pytest.mark.parametrize("answer", [None, "0x", 21_000, "5208", hex(1 << 63)])
def test_an_odd_answer_says_nothing(answer: JsonValue) -> None:
    """Nor is it a gas limit."""
    with pytest.raises(RpcMalformed):
        outcome(answer)


def test_a_signed_transaction_is_run_once_with_its_own_gas_limit() -> None:
    """It may have become dearer than what was signed: then it would fail on chain, and fails here."""
    wire = {"from": MESSAGE.sender, "to": MESSAGE.to, "data": "0x0102", "value": "0x5", "gas": "0x5208"}
    request = build_check(BLOCK, MESSAGE, 21_000)
    assert request == ("eth_call", [wire, {"blockHash": HASH, "requireCanonical": True}])


def test_a_check_tells_success_from_revert_and_from_no_answer() -> None:
    """Only data is a success; a refusal that is no failure of the call, and an odd answer, prove nothing."""
    assert decode_check("0x") is None
    reverted = decode_check(REVERT)
    assert reverted is not None
    assert reverted.reason == "vault: paused"
    assert decode_check(RpcRefused(-32000, "out of gas")) is not None
    with pytest.raises(RpcRefused):
        decode_check(RpcRefused(-32000, "header not found"))
    odd_answers: tuple[JsonValue, ...] = (None, 1, "", [])
    for odd in odd_answers:
        with pytest.raises(RpcMalformed):
            decode_check(odd)

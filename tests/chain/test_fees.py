"""Fees: what is suggested, and that every bump is one that geth accepts and the operator allows."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.errors import FeeCapTooLow, RpcMalformed, RpcRefused
from runnerd.chain.fees import Fees, FeeSettings, bump, suggest, suggest_from_history
from runnerd.chain.types import FeeHistory
from tests.chain.asking import fetch_fees
from tests.chain.fake_node import FakeNode

GWEI = 10**9
SETTINGS = FeeSettings(max_fee_cap_wei=100 * GWEI, min_tip_wei=GWEI)

amounts = st.integers(0, 2**62)


@st.composite
def fees(draw: st.DrawFn) -> Fees:
    maximum = draw(amounts)
    return Fees(max_fee_per_gas_wei=maximum, max_priority_fee_per_gas_wei=draw(st.integers(0, maximum)))


def test_the_suggestion_is_twice_the_base_fee_plus_the_median_tip() -> None:
    """An outlier among recent tips does not move the median."""
    assert suggest(10 * GWEI, [GWEI, 2 * GWEI, 900 * GWEI], SETTINGS) == Fees(
        max_fee_per_gas_wei=22 * GWEI, max_priority_fee_per_gas_wei=2 * GWEI
    )


def test_the_tip_has_a_floor() -> None:
    """Also when recent blocks were empty and say nothing."""
    assert suggest(GWEI, [], SETTINGS).max_priority_fee_per_gas_wei == GWEI
    assert suggest(GWEI, [1, 2, 3], SETTINGS).max_priority_fee_per_gas_wei == GWEI


def test_the_cap_holds_and_a_base_fee_above_it_is_an_error() -> None:
    """Below the cap a transaction is still sent, with less headroom; above it nothing could be included."""
    assert suggest(60 * GWEI, [GWEI], SETTINGS).max_fee_per_gas_wei == 100 * GWEI
    with pytest.raises(FeeCapTooLow, match="above the chain's max_fee_per_gas_wei = 100000000000") as refused:
        suggest(100 * GWEI + 1, [GWEI], SETTINGS)
    assert refused.value.max_fee_cap_wei == 100 * GWEI


@given(st.integers(0, 2**62), st.lists(amounts, max_size=12), st.integers(1, 10))
def test_a_suggestion_is_always_a_valid_pair_within_the_cap(base_fee: int, tips: list[int], multiplier: int) -> None:
    """max fee ≥ tip (EIP-1559), max fee ≥ base fee (includable), max fee ≤ cap."""
    settings = FeeSettings(max_fee_cap_wei=2**62, min_tip_wei=5, base_fee_multiplier=multiplier)
    suggestion = suggest(base_fee, tips, settings)
    assert 0 < suggestion.max_priority_fee_per_gas_wei <= suggestion.max_fee_per_gas_wei <= 2**62
    assert suggestion.max_fee_per_gas_wei >= base_fee


@given(fees(), fees())
def test_every_bump_is_a_replacement_that_geth_accepts(previous: Fees, suggestion: Fees) -> None:
    """geth's legacypool list.Add: both fields strictly higher, and at least old × 110 / 100; never below market."""
    settings = FeeSettings(max_fee_cap_wei=2**63)
    bumped = bump(previous, suggestion, settings)
    assert bumped is not None
    for new, old, market in (
        (bumped.max_fee_per_gas_wei, previous.max_fee_per_gas_wei, suggestion.max_fee_per_gas_wei),
        (
            bumped.max_priority_fee_per_gas_wei,
            previous.max_priority_fee_per_gas_wei,
            suggestion.max_priority_fee_per_gas_wei,
        ),
    ):
        assert new > old
        assert new * 8 >= old * 9  # 12.5 %, exact
        assert new >= old * 110 // 100
        assert new >= market
    assert bumped.max_priority_fee_per_gas_wei <= bumped.max_fee_per_gas_wei


@given(fees(), fees(), st.integers(1, 2**62))
def test_no_bump_goes_beyond_the_cap(previous: Fees, suggestion: Fees, cap: int) -> None:
    """The operator's hard limit; None means wait or cancel."""
    bumped = bump(previous, suggestion, FeeSettings(max_fee_cap_wei=cap, min_tip_wei=0))
    needed = max(-(-previous.max_fee_per_gas_wei * 9 // 8), previous.max_fee_per_gas_wei + 1)
    is_possible = max(needed, suggestion.max_fee_per_gas_wei) <= cap
    assert (bumped is not None) is is_possible
    assert bumped is None or bumped.max_fee_per_gas_wei <= cap


def test_blocks_without_transactions_do_not_lower_the_tip() -> None:
    """A node reports a reward of 0 for an empty block."""
    history = FeeHistory(
        oldest_block=1,
        base_fees_wei=(1, 1, 1, 3 * GWEI),
        gas_used_ratios=(0.0, 0.0, 0.5),
        rewards_wei=((0,), (0,), (4 * GWEI,)),
    )
    assert suggest_from_history(history, SETTINGS) == Fees(
        max_fee_per_gas_wei=10 * GWEI, max_priority_fee_per_gas_wei=4 * GWEI
    )


def test_fetch_asks_for_the_configured_percentile() -> None:
    """And passes on what the node says wrongly or refuses."""
    node = FakeNode(lambda *_: {"oldestBlock": "0x1", "baseFeePerGas": ["0x1", "0x2"], "gasUsedRatio": [1]})
    suggestion = asyncio.run(fetch_fees(node, SETTINGS))
    assert node.requests == [("eth_feeHistory", ["0xa", "latest", [50]])]
    assert suggestion.max_fee_per_gas_wei == 4 + GWEI
    with pytest.raises(RpcMalformed):
        asyncio.run(fetch_fees(FakeNode(lambda *_: {}), SETTINGS))
    with pytest.raises(RpcRefused):
        asyncio.run(fetch_fees(FakeNode(lambda *_: RpcRefused(-32601, "no such method")), SETTINGS))


@pytest.mark.parametrize(
    "name, value",
    [
        ("max_fee_cap_wei", 0),
        ("min_tip_wei", -1),
        ("tip_percentile", 101),
        ("base_fee_multiplier", 0),
        ("history_blocks", 0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: int) -> None:
    """The configuration loader shows this text."""
    with pytest.raises(ValueError, match=f"{name} = {value} is not allowed"):
        FeeSettings(**{"max_fee_cap_wei": GWEI, "min_tip_wei": 0, name: value})

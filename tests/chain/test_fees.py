"""Fees: what is suggested, and that every bump is one that geth accepts and the operator allows."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.errors import FeeCapTooLow, RpcMalformed, RpcRefused
from runnerd.chain.fees import Fees, FeeSettings, Market, NoBump, bump, outbid, read_gas_price, read_history, suggest
from runnerd.chain.types import FeeHistory
from tests.chain.asking import fetch_market
from tests.chain.fake_node import FakeNode

GWEI = 10**9
SETTINGS = FeeSettings(max_fee_cap_wei=100 * GWEI, min_tip_wei=GWEI)
UNBOUNDED = 1 << 256

amounts = st.integers(0, 2**62)


def pair(max_fee: int, tip: int) -> Fees:
    """In wei."""
    return Fees(max_fee_per_gas_wei=max_fee, max_priority_fee_per_gas_wei=tip)


@st.composite
def fees(draw: st.DrawFn) -> Fees:
    maximum = draw(amounts)
    return pair(maximum, draw(st.integers(0, maximum)))


@st.composite
def markets(draw: st.DrawFn, *, has_high: bool = True) -> Market:
    suggested = draw(fees())
    base_fee = draw(st.integers(0, suggested.max_fee_per_gas_wei))
    return Market(suggested=suggested, base_fee_wei=base_fee, high=draw(st.none() | fees()) if has_high else None)


@st.composite
def legacy_markets(draw: st.DrawFn) -> Market:
    return read_gas_price(draw(amounts), FeeSettings(max_fee_cap_wei=1 << 63))


# --- the suggestion --------------------------------------------------------------------------------------------------


def test_the_suggestion_is_twice_the_base_fee_plus_the_median_tip() -> None:
    """An outlier among recent tips does not move the median."""
    assert suggest(10 * GWEI, [GWEI, 2 * GWEI, 900 * GWEI], SETTINGS) == pair(22 * GWEI, 2 * GWEI)


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


# --- the market ------------------------------------------------------------------------------------------------------


def history(*rows: tuple[float, tuple[int, ...]], next_base_fee: int = 3 * GWEI) -> FeeHistory:
    """Blocks, each with how full it was and what was paid there at the percentiles that were asked for."""
    return FeeHistory(
        oldest_block=1,
        base_fees_wei=(*[1] * len(rows), next_base_fee),
        gas_used_ratios=tuple(ratio for ratio, _ in rows),
        rewards_wei=tuple(rewards for _, rewards in rows),
    )


def test_blocks_without_transactions_do_not_lower_the_tip() -> None:
    """A node reports a reward of 0 for an empty block; nor do they say what would be high."""
    market = read_history(history((0.0, (0, 0)), (0.0, (0, 0)), (0.5, (4 * GWEI, 6 * GWEI))), SETTINGS)
    assert market.suggested == pair(10 * GWEI, 4 * GWEI)
    assert market.high == pair(9 * GWEI, 6 * GWEI)


def test_high_is_the_median_of_what_the_ninetieth_percentile_paid() -> None:
    """On top of the base fee of the next block, to which it is compared."""
    rows = [(0.5, (GWEI, each * GWEI)) for each in (2, 900, 5)]
    market = read_history(history(*rows), SETTINGS)
    assert (market.base_fee_wei, market.high) == (3 * GWEI, pair(8 * GWEI, 5 * GWEI))
    assert not market.is_legacy


@pytest.mark.parametrize(
    "rows",
    [[], [(0.0, (0, 0)), (0.0, (0, 0))], [(0.5, (GWEI,))], [(0.5, ())]],
    ids=["no blocks", "empty blocks", "one percentile", "no rewards"],
)
def test_where_nothing_is_known_nothing_is_high(rows: list[tuple[float, tuple[int, ...]]]) -> None:
    """Then a replacement is never held back."""
    assert read_history(history(*rows), SETTINGS).high is None


def test_history_without_rewards_is_read_all_the_same() -> None:
    """A node may leave them out: the base fee counts, and the least tip."""
    only_fees = FeeHistory(
        oldest_block=1, base_fees_wei=(1, 1, 3 * GWEI), gas_used_ratios=(0.5, 0.5), rewards_wei=()
    )  # fmt: skip
    assert read_history(only_fees, SETTINGS).suggested == pair(7 * GWEI, GWEI)


def test_gas_price_is_both_fields_with_a_floor_and_a_cap() -> None:
    """A legacy chain knows one price; more cannot be read out of it."""
    market = read_gas_price(5 * GWEI, SETTINGS)
    assert market == Market(suggested=pair(5 * GWEI, 5 * GWEI), base_fee_wei=5 * GWEI, is_legacy=True)
    assert read_gas_price(0, SETTINGS).suggested == pair(GWEI, GWEI)
    assert read_gas_price(100 * GWEI, SETTINGS).suggested == pair(100 * GWEI, 100 * GWEI)
    with pytest.raises(FeeCapTooLow):
        read_gas_price(100 * GWEI + 1, SETTINGS)


@given(markets() | legacy_markets(), amounts)
def test_capped_is_the_suggestion_within_the_cap_or_nothing(market: Market, cap: int) -> None:
    """A lower cap of wallet or plugin: less headroom, a lower tip, but never what cannot be included."""
    capped = market.capped(cap)
    assert (capped is None) is (market.base_fee_wei > cap)
    if capped is not None:
        assert market.base_fee_wei <= capped.max_fee_per_gas_wei <= cap
        assert capped.max_priority_fee_per_gas_wei <= capped.max_fee_per_gas_wei
        assert capped.max_fee_per_gas_wei == min(market.suggested.max_fee_per_gas_wei, cap)
        assert capped.max_priority_fee_per_gas_wei <= market.suggested.max_priority_fee_per_gas_wei
        assert capped == market.suggested or cap < market.suggested.max_fee_per_gas_wei
        assert not market.is_legacy or capped.max_fee_per_gas_wei == capped.max_priority_fee_per_gas_wei


# --- the bump --------------------------------------------------------------------------------------------------------


def is_accepted_by_geth(new: Fees, old: Fees) -> bool:
    """legacypool's list.Add: both fields strictly higher, and at least old × 110 / 100 (PriceBump 10)."""
    fields = (
        (new.max_fee_per_gas_wei, old.max_fee_per_gas_wei),
        (new.max_priority_fee_per_gas_wei, old.max_priority_fee_per_gas_wei),
    )
    return all(after > before and after >= before * 110 // 100 for after, before in fields)


@given(fees(), markets() | legacy_markets(), st.integers(1, 2**63) | st.just(UNBOUNDED))
def test_every_bump_is_a_valid_replacement_within_the_cap(previous: Fees, market: Market, cap: int) -> None:
    """Accepted by geth, 12.5 % at least, a valid pair, never below the suggestion, never above the cap."""
    bumped = bump(previous, market, cap)
    if isinstance(bumped, NoBump):
        return
    assert is_accepted_by_geth(bumped, previous)
    assert bumped.max_fee_per_gas_wei * 8 >= previous.max_fee_per_gas_wei * 9
    assert bumped.max_priority_fee_per_gas_wei * 8 >= previous.max_priority_fee_per_gas_wei * 9
    assert bumped.max_fee_per_gas_wei >= market.suggested.max_fee_per_gas_wei
    assert bumped.max_priority_fee_per_gas_wei >= market.suggested.max_priority_fee_per_gas_wei
    assert bumped.max_priority_fee_per_gas_wei <= bumped.max_fee_per_gas_wei <= cap


@given(fees(), markets(has_high=False), st.integers(1, 2**62))
def test_a_bump_is_refused_only_when_the_cap_leaves_none(previous: Fees, market: Market, cap: int) -> None:
    """The operator's hard limit; without knowledge of what is high it is the only reason."""
    needed = max(-(-previous.max_fee_per_gas_wei * 9 // 8), previous.max_fee_per_gas_wei + 1)
    is_possible = max(needed, market.suggested.max_fee_per_gas_wei) <= cap
    assert (bump(previous, market, cap) is NoBump.CAPPED) is not is_possible
    assert not isinstance(bump(previous, market, UNBOUNDED), NoBump)


@given(previous=fees(), market=markets(), cap=amounts)
def test_an_outbid_replaces_in_any_case_and_is_the_least_when_the_cap_is_passed(
    previous: Fees, market: Market, cap: int
) -> None:
    """What must be got rid of may not stay because it is dear: but beyond the cap only what the rule asks."""
    found = outbid(previous, market, cap)
    least = outbid(previous, replace(market, suggested=previous), cap)
    assert found.max_fee_per_gas_wei * 8 >= previous.max_fee_per_gas_wei * 9
    assert found.max_priority_fee_per_gas_wei * 8 >= previous.max_priority_fee_per_gas_wei * 9
    assert found.max_fee_per_gas_wei > previous.max_fee_per_gas_wei
    assert found.max_fee_per_gas_wei >= found.max_priority_fee_per_gas_wei
    assert found == least or found.max_fee_per_gas_wei <= cap


@given(legacy_markets(), legacy_markets())
def test_a_legacy_bump_is_one_price(previous: Market, market: Market) -> None:
    """A transaction with a gas price has one field; both of ours must say the same."""
    bumped = bump(previous.suggested, market, UNBOUNDED)
    assert isinstance(bumped, Fees)
    assert bumped.max_fee_per_gas_wei == bumped.max_priority_fee_per_gas_wei


def test_a_bump_is_the_least_that_is_valid_or_what_the_market_asks() -> None:
    """Rounded up; a field of 0 rises as well; a tip above the raised maximum lifts it."""
    quiet = Market(suggested=pair(1, 1), base_fee_wei=1)
    assert bump(pair(800, 80), quiet, UNBOUNDED) == pair(900, 90)
    assert bump(pair(801, 81), quiet, UNBOUNDED) == pair(902, 92)
    assert bump(pair(0, 0), replace(quiet, suggested=pair(0, 0)), UNBOUNDED) == pair(1, 1)
    assert bump(pair(800, 80), replace(quiet, suggested=pair(1_000, 85)), UNBOUNDED) == pair(1_000, 90)
    assert bump(pair(800, 80), replace(quiet, suggested=pair(950, 940)), UNBOUNDED) == pair(950, 940)
    assert bump(pair(800, 80), quiet, 900) == pair(900, 90)
    assert bump(pair(800, 80), quiet, 899) is NoBump.CAPPED


@pytest.mark.parametrize(
    "previous, is_bumped",
    [(pair(101, 11), False), (pair(100, 11), True), (pair(101, 10), True), (pair(100, 10), True)],
)
def test_who_pays_more_than_most_is_not_replaced(previous: Fees, is_bumped: bool) -> None:
    """In both fields: then it is a connectivity problem. One of them at the 90th percentile may be what keeps it."""
    market = Market(suggested=pair(50, 5), base_fee_wei=40, high=pair(100, 10))
    bumped = bump(previous, market, UNBOUNDED)
    assert isinstance(bumped, Fees) if is_bumped else bumped is NoBump.NOT_THE_PRICE


# --- asking ----------------------------------------------------------------------------------------------------------


def test_fetch_asks_for_the_configured_percentile_and_the_ninetieth() -> None:
    """And passes on what the node says wrongly or refuses."""
    node = FakeNode(lambda *_: {"oldestBlock": "0x1", "baseFeePerGas": ["0x1", "0x2"], "gasUsedRatio": [1]})
    market = asyncio.run(fetch_market(node, SETTINGS))
    assert node.requests == [("eth_feeHistory", ["0xa", "latest", [50, 90]])]
    assert market.suggested.max_fee_per_gas_wei == 4 + GWEI
    with pytest.raises(RpcMalformed):
        asyncio.run(fetch_market(FakeNode(lambda *_: {}), SETTINGS))
    with pytest.raises(RpcRefused):
        asyncio.run(fetch_market(FakeNode(lambda *_: RpcRefused(-32601, "no such method")), SETTINGS))


def test_fetch_asks_a_legacy_chain_for_its_gas_price() -> None:
    """Which has no fee history."""
    node = FakeNode(lambda *_: hex(5 * GWEI))
    assert asyncio.run(fetch_market(node, SETTINGS, is_legacy=True)) == read_gas_price(5 * GWEI, SETTINGS)
    assert node.requests == [("eth_gasPrice", [])]
    with pytest.raises(RpcMalformed):
        asyncio.run(fetch_market(FakeNode(lambda *_: None), SETTINGS, is_legacy=True))


@pytest.mark.parametrize(
    "name, value",
    [
        ("max_fee_cap_wei", 0),
        ("min_tip_wei", -1),
        ("tip_percentile", 91),
        ("base_fee_multiplier", 0),
        ("history_blocks", 0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: int) -> None:
    """The configuration loader shows this text."""
    with pytest.raises(ValueError, match=f"{name} = {value} is not allowed"):
        FeeSettings(**{"max_fee_cap_wei": GWEI, "min_tip_wei": 0, name: value})

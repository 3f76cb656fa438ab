"""RangeMarket, the demo venue: the price, the two mints, what they refuse and what they record."""

import pytest

from tests.contracts.bench import SPOT, Bench, refusal
from tests.support.contracts import deploy, load_artifact

ZERO = "0x" + "00" * 20


def test_deployer_and_keeper_move_the_price_and_nobody_else(bench: Bench) -> None:
    """Two hands on the oracle, both named at deployment."""
    address = deploy(bench.w3, "RangeMarket", SPOT, bench.operator, sender=bench.owner)
    market = bench.w3.eth.contract(address, abi=load_artifact("RangeMarket")["abi"])
    assert (market.functions.deployer().call(), market.functions.keeper().call()) == (bench.owner, bench.operator)
    assert refusal(market.functions.setSpot(1), bench.stranger) == "market: caller is not the keeper"
    for previous, current, sender in ((SPOT, 7, bench.owner), (7, 9, bench.operator)):
        receipt = bench.done(market.functions.setSpot(current), sender)
        assert bench.events(receipt, "SpotMoved", market) == [{"previous": previous, "current": current}]
        assert market.functions.spot().call() == current


def test_a_price_is_never_zero(bench: Bench) -> None:
    """Neither at deployment nor later; prices are hundredths."""
    assert refusal(bench.market.functions.setSpot(0), bench.owner) == "market: spot is zero"
    bench.done(bench.market.functions.setSpot(1), bench.owner)
    artifact = load_artifact("RangeMarket")
    factory = bench.w3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
    with pytest.raises(Exception, match="market: spot is zero"):
        factory.constructor(0, ZERO).estimate_gas({"from": bench.owner})
    assert bench.market.functions.decimals().call() == 2


@pytest.mark.parametrize("above, bounds", [(True, (150_000, 2**256 - 1)), (False, (0, 150_000))])
def test_a_binary_is_everything_on_one_side_of_the_strike(bench: Bench, above: bool, bounds: tuple[int, int]) -> None:
    """The position is a half-open interval of prices with holder and stake; the event has the terms as asked."""
    receipt = bench.done(bench.market.functions.mintBinary(150_000, above), bench.stranger, value=5)
    assert bench.events(receipt, "BinaryMinted", bench.market) == [
        {"id": 1, "holder": bench.stranger, "strike": 150_000, "above": above, "stake": 5}
    ]
    assert bench.market.functions.position(1).call() == (bench.stranger, *bounds, 5)


def test_a_range_is_recorded_as_asked(bench: Bench) -> None:
    """Lower is in, upper is out."""
    receipt = bench.done(bench.market.functions.mintRange(190_000, 210_000), bench.stranger, value=6)
    assert bench.events(receipt, "RangeMinted", bench.market) == [
        {"id": 1, "holder": bench.stranger, "lower": 190_000, "upper": 210_000, "stake": 6}
    ]
    assert bench.market.functions.position(1).call() == (bench.stranger, 190_000, 210_000, 6)


def test_stakes_add_up_per_holder_and_in_total(bench: Bench) -> None:
    """Ids count from 1, the ether really is in the market, and every holder has a sum of their own."""
    market = bench.market.functions
    bench.done(market.mintBinary(1, True), bench.stranger, value=5)
    bench.done(market.mintRange(190_000, 210_000), bench.operator, value=7)
    bench.done(market.mintBinary(1, False), bench.stranger, value=11)
    assert market.positionCount().call() == 3
    assert market.openInterest().call() == bench.w3.eth.get_balance(bench.market.address) == 23
    stakes = [market.stakeOf(each).call() for each in (bench.stranger, bench.operator, bench.owner)]
    assert stakes == [16, 7, 0]


@pytest.mark.parametrize(
    "lower, upper, reason",
    [
        (0, SPOT, "market: lower is zero"),
        (SPOT, SPOT, "market: lower is not below upper"),
        (SPOT + 1, SPOT, "market: lower is not below upper"),
        (SPOT // 10 - 1, SPOT, "market: range is too far from spot"),
        (SPOT, 10 * SPOT + 10, "market: range is too far from spot"),
        (SPOT, 2**256 - 1, "market: range is too far from spot"),
        (1, 2, "market: range is too far from spot"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(bench: Bench, lower: int, upper: int, reason: str) -> None:
    """Empty, upside down or out of reach; the widest sensible range passes."""
    assert refusal(bench.market.functions.mintRange(lower, upper), bench.stranger, value=1) == reason
    bench.done(bench.market.functions.mintRange(SPOT // 10, 10 * SPOT), bench.stranger, value=1)


def test_a_position_needs_a_stake_and_a_binary_a_strike(bench: Bench) -> None:
    """Zero of either is refused; one of both is enough."""
    market = bench.market.functions
    assert refusal(market.mintBinary(1, True), bench.stranger) == "market: stake is zero"
    assert refusal(market.mintRange(SPOT - 1, SPOT), bench.stranger) == "market: stake is zero"
    assert refusal(market.mintBinary(0, True), bench.stranger, value=1) == "market: strike is zero"
    bench.done(market.mintBinary(1, True), bench.stranger, value=1)


def test_an_unknown_position_is_refused(bench: Bench) -> None:
    """Below one and above the count; the one in between is there."""
    bench.done(bench.market.functions.mintBinary(1, True), bench.stranger, value=1)
    for unknown in (0, 2):
        assert refusal(bench.market.functions.position(unknown), bench.stranger) == "market: unknown position"
    assert bench.market.functions.position(1).call()[0] == bench.stranger

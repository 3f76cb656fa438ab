"""NavFeed and RoundBook, what the demo's keepers keep up: everybody may call them, and each call does what it says."""

import pytest
from web3.contract import Contract

from tests.contracts.bench import ETHER, SPOT, Bench, refusal
from tests.support.contracts import deploy, load_artifact

LENGTH = 3


def contract(bench: Bench, name: str, *arguments: object) -> Contract:
    return bench.w3.eth.contract(deploy(bench.w3, name, *arguments), abi=load_artifact(name)["abi"])


@pytest.fixture
def feed(bench: Bench) -> Contract:
    """Of a vault with 10 ether and a stake of 4 at the market."""
    bench.node.rpc("anvil_setBalance", bench.operator, hex(10 * ETHER))
    feed = contract(bench, "NavFeed", bench.operator, bench.market.address)
    bench.done(bench.market.functions.mintBinary(SPOT, True), bench.operator, value=4 * ETHER)
    return feed


def test_anybody_publishes_what_the_vault_is_worth(bench: Bench, feed: Contract) -> None:
    """Ether and stakes, the stakes at the market's price: half of it when that has halved."""
    bench.done(bench.market.functions.setSpot(SPOT // 2), bench.owner)
    worth = bench.w3.eth.get_balance(bench.operator) + 2 * ETHER
    assert feed.functions.nav().call() != worth
    assert feed.functions.currentNav().call() == worth
    receipt = bench.done(feed.functions.refresh(), bench.stranger)
    assert bench.events(receipt, "Refreshed", feed) == [{"caller": bench.stranger, "nav": worth}]
    assert (feed.functions.nav().call(), feed.functions.refreshedAt().call()) == (worth, receipt["blockNumber"])


def test_anybody_settles_a_round_that_is_over_and_once(bench: Bench) -> None:
    """Not before it is over, not another one, and not twice."""
    rounds = contract(bench, "RoundBook", bench.market.address, LENGTH)
    assert refusal(rounds.functions.settle(1), bench.stranger) == "rounds: the round is still open"
    bench.node.rpc("anvil_mine", hex(LENGTH))
    assert refusal(rounds.functions.settle(2), bench.stranger) == "rounds: not the running round"
    receipt = bench.done(rounds.functions.settle(1), bench.stranger)
    assert bench.events(receipt, "Settled", rounds) == [{"round": 1, "caller": bench.stranger, "price": SPOT}]
    assert rounds.functions.priceOf(1).call() == SPOT
    assert refusal(rounds.functions.settle(1), bench.stranger) == "rounds: not the running round"
    assert rounds.functions.closesAt().call() == receipt["blockNumber"] + LENGTH

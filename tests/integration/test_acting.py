"""From one trigger to one atomic transaction: what lands on chain, what does not, and what the records say of it."""

import pytest
from web3.logs import DISCARD

from tests.support.scene import Scene, mint

pytestmark = pytest.mark.integration

STAKE_WEI = 10**15
BAND = {"lower": 199_500, "upper": 200_500}


def test_one_trigger_becomes_one_transaction_with_two_calls(house: Scene) -> None:
    """Two Actions of one Decision are one `execute`: one receipt, one Executed event of two calls, two mints."""
    fired = house.fire("puppet", do="act", actions=[mint(), ("mint_range", BAND, 2 * STAKE_WEI)])

    assert fired.outcome == "acted", fired
    (effect,) = house.effects_of(fired.call_id)
    assert (effect.transaction, effect.calls, effect.value_wei) == (fired.transaction, 2, 3 * STAKE_WEI)
    receipt = house.venue.w3.eth.get_transaction_receipt(effect.transaction)  # type: ignore[arg-type]
    assert (receipt["status"], receipt["from"], receipt["to"]) == (1, house.venue.operator, house.venue.vault.address)
    events = house.venue.market.events
    minted = [event().process_receipt(receipt, DISCARD) for event in (events.BinaryMinted, events.RangeMinted)]
    assert [len(found) for found in minted] == [1, 1]


def test_the_transaction_stands_under_its_call_in_runs_and_tx(house: Scene) -> None:
    """The hash that the chain knows is the one that `runs` gives for the call, and `tx` knows it as final."""
    fired = house.fire("puppet", do="act", actions=[mint()])

    run = house.run(fired.call_id)
    assert (run.outcome, run.transaction, run.intent_state) == ("acted", fired.transaction, "final")
    (transaction,) = [found for found in house.transactions() if found.call_id == fired.call_id]
    assert (transaction.hash, transaction.state, transaction.is_success) == (fired.transaction, "final", True)
    assert transaction.nonce == run.nonce
    assert [effect.transaction for effect in house.effects_of(fired.call_id)] == [transaction.hash]


def test_nothing_lands_when_the_second_action_would_fail(house: Scene) -> None:
    """The batch is simulated as a whole: no transaction for a good first Action; the market's reason is recorded."""
    before = house.venue.w3.eth.get_transaction_count(house.venue.operator)  # type: ignore[arg-type]

    fired = house.fire("puppet", do="act", actions=[mint(), ("mint_range", {"lower": 500, "upper": 400}, STAKE_WEI)])

    assert fired.outcome == "failed"
    assert "market: lower is not below upper" in (fired.reason or "")
    assert house.rows("select * from attempts where call_id = %s", fired.call_id) == []
    assert house.run(fired.call_id).intent_state == "denied"
    assert house.venue.w3.eth.get_transaction_count(house.venue.operator) == before  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "action, rule",
    [
        (("withdraw", {"amount": 1}, 0), "is not in the catalogue of vault demo; granted: mint_binary, mint_range"),
        (mint(strike=1), "strike = 1 is below min = 1000"),
        (mint(value_wei=10**17), "is above max_value_wei = 10000000000000000"),
        (("mint_binary", {"strike": 200_000}, 1), "above"),
    ],
)
def test_a_denied_action_is_recorded_with_the_rule(
    house: Scene, action: tuple[str, dict[str, object], int], rule: str
) -> None:
    """What the vault's owner did not grant is refused before anything is signed, and the ledger names the rule."""
    fired = house.fire("puppet", do="act", actions=[mint(), action])

    assert fired.outcome == "denied"
    assert rule in (fired.reason or "")
    assert house.run(fired.call_id).reason == fired.reason
    assert house.rows("select * from intents where call_id = %s", fired.call_id) == []


def test_the_reason_of_a_noop_is_recorded(house: Scene) -> None:
    """Doing nothing has a reason, and the operator reads it in the plugin's own words."""
    fired = house.fire("puppet", do="noop", reason="the spread is too small")

    assert (fired.outcome, fired.reason) == ("noop", "the spread is too small")
    assert house.run(fired.call_id).reason == "the spread is too small"
    assert house.plugin("puppet").last_reason == "the spread is too small"


def test_a_key_makes_two_fires_one_call(house: Scene) -> None:
    """A retried command must not act twice: the second fire with the same key is told of the first."""
    first = house.fire("puppet", idempotency_key="settle 2026-11-21", do="act", actions=[mint()])
    second = house.fire("puppet", idempotency_key="settle 2026-11-21", do="act", actions=[mint()])

    assert (first.is_new, second.is_new, second.call_id, second.outcome) == (True, False, first.call_id, "acted")
    assert len(house.effects_of(first.call_id)) == 1

"""A plugin says what it expects of its Actions: held against the simulation, and against what happened."""

import json

import pytest

from runnerd.control.messages import Fire, Fired
from tests.support.anvil import start_anvil
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.integration

STAKE_WEI = 10**15


def change(**bounds: object) -> dict[str, object]:
    return {"kind": "balance_change", **bounds}


def price(bps: int) -> dict[str, object]:
    return {"kind": "share_price", "read": "spot", "max_change_bps": bps}


def test_what_is_expected_and_comes_is_said_so(stage: Stage) -> None:
    """Checked before and after, on a node that keeps its states; the record says that it was."""
    with (
        start_anvil(block_time_s=0.1, prune_history=False) as node,
        stage.scene({"puppet": puppet()}, node=node) as scene,
    ):
        expect = [change(min=-STAKE_WEI, max=-STAKE_WEI), price(0)]
        fired = scene.fire("puppet", do="act", actions=[mint()], expect=expect)

        assert fired.outcome == "acted", fired
        assert (fired.reason or "").endswith("; expectations met")
        assert len(scene.effects_of(fired.call_id)) == 1


def test_a_node_that_keeps_no_states_leaves_it_unproven(house: Scene) -> None:
    """Nobody is accused, and nothing is claimed: the record says what could not be read."""
    fired = house.fire("puppet", do="act", actions=[mint()], expect=[price(0)])

    assert fired.outcome == "acted", fired
    assert (fired.reason or "").endswith("expectation 1 is not proven: read spot cannot be read before the transaction")
    assert house.log("expectation_breached") == []


@pytest.mark.parametrize(
    "expected, rule",
    [
        (change(min=1 - STAKE_WEI), f"native balance changes by -{STAKE_WEI}, below min = -{STAKE_WEI - 1}"),
        (change(token="0x" + "11" * 20, min=0), "is not in expect_tokens of vault demo; granted: none"),
        ({**price(5), "read": "nav"}, "read 'nav' is not in the catalogue of vault demo; granted: spot, positions"),
    ],
    ids=["bound", "token", "read"],
)
def test_what_would_break_an_expectation_is_denied(house: Scene, expected: dict[str, object], rule: str) -> None:
    """By its value, or because the owner did not grant that it be measured: nothing is signed."""
    fired = house.fire("puppet", do="act", actions=[mint()], expect=[price(0), expected])

    assert fired.outcome == "denied", fired
    assert "expectation 2: " in (fired.reason or "")
    assert rule in (fired.reason or "")
    assert house.rows("select * from attempts where call_id = %s", fired.call_id) == []


def test_a_breach_after_the_fact_pauses_the_vault_until_it_is_resumed(stage: Stage) -> None:
    """The price moves in the very block: the call has acted, the next one is denied with the reason."""
    with start_anvil(prune_history=False) as node, stage.scene({"puppet": puppet()}, node=node) as scene:
        node.rpc("evm_setAutomine", False)
        instruction = json.dumps({"do": "act", "actions": [mint()], "expect": [price(100)]})
        fired = scene.daemon.ask(Fire(plugin="puppet", payload=instruction, wait_s=0.0))
        assert isinstance(fired, Fired)
        sent = wait_for(lambda: [tx for tx in scene.transactions() if tx.state == "sent"], "a transaction in the pool")
        scene.venue.market.functions.setSpot(210_000).transact({"from": scene.venue.w3.eth.accounts[0], "gas": 100_000})

        for _ in range(8):
            node.rpc("evm_mine")
        run = scene.wait_run(fired.call_id)

        broken = (
            "expectation 1 is broken: read spot moves from 200000 to 210000, by 500 bps, above max_change_bps = 100"
        )
        assert run.outcome == "acted"
        assert (run.reason or "").endswith(f"; {broken}: vault demo was paused")
        (alert,) = scene.log("expectation_breached")
        assert (alert["level"], alert["vault"], alert["tx"]) == ("critical", "demo", sent[0].hash)
        denied = scene.fire("puppet", do="act", actions=[mint()])
        assert denied.outcome == "denied"
        assert f"vault demo is paused by runnerd: call {fired.call_id} of puppet did not do what it expected" in (
            denied.reason or ""
        )
        scene.kill()
        scene.start("puppet")
        assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "denied"

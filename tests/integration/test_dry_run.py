"""`fire --dry-run`: what would happen is told as it would be, and nothing happens; whatever ends the daemon."""

import json
from typing import Any

import pytest

from runnerd.control.dry_run_messages import DryRun
from runnerd.control.messages import Fire
from tests.support.rpc_proxy import rpc_proxy
from tests.support.scene import Scene, Stage, mint, puppet

pytestmark = pytest.mark.integration

STAKE_WEI = 10**15
TRACES = ("job_calls", "decisions", "intents", "attempts", "usage", "wallets", "plugin_state")


def dry_run(scene: Scene, wait_s: float = 30.0, **instruction: object) -> DryRun:
    """Of the puppet."""
    request = Fire(plugin="puppet", payload=json.dumps(instruction), is_dry_run=True, wait_s=wait_s)
    found = scene.daemon.ask(request)
    assert isinstance(found, DryRun)
    return found


def traces(scene: Scene) -> dict[str, list[dict[str, Any]]]:
    """All that the puppet has left in the ledger, and its wallet's next nonce."""
    by_plugin = {"job_calls", "plugin_state"}
    return {
        table: scene.rows(
            f"select * from {table} where plugin = 'puppet'" if table in by_plugin
            else f"select * from {table}" if table == "wallets"
            else f"select * from {table} where call_id in (select id from job_calls where plugin = 'puppet')"
        )
        for table in TRACES
    }  # fmt: skip


def test_it_tells_the_very_transaction_that_a_real_call_would_sign(house: Scene) -> None:
    """But for the intent id, which no two calls share. Nothing of it stays: no row, no nonce, no budget, no state."""
    actions = [mint(), ("mint_range", {"lower": 199_500, "upper": 200_500}, 2 * STAKE_WEI)]
    before, sent = traces(house), house.venue.w3.eth.get_transaction_count(house.venue.operator)  # type: ignore[arg-type]

    found = dry_run(house, do="act", actions=actions, put={"dry": 1})

    assert (found.outcome, found.value_wei, found.state_writes) == ("would act", 3 * STAKE_WEI, ["dry"])
    assert traces(house) == before
    assert house.venue.w3.eth.get_transaction_count(house.venue.operator) == sent  # type: ignore[arg-type]
    fired = house.fire("puppet", do="act", actions=actions)
    assert fired.outcome == "acted"
    assert fired.transaction is not None
    transaction = house.venue.w3.eth.get_transaction(fired.transaction)  # type: ignore[arg-type]
    real, told = bytes(transaction["input"]), bytes.fromhex((found.calldata or "0x")[2:])
    differing = [index for index, pair in enumerate(zip(real, told, strict=True)) if pair[0] != pair[1]]
    assert differing[-1] - differing[0] < 32
    assert transaction["to"] == found.to
    assert fired.call_id != found.call_id
    assert abs(transaction["gas"] - (found.gas_limit or 0)) < 5_000
    (limit,) = [limit for limit in found.limits if limit.key == "max_value_wei_per_day"]
    assert (limit.asked, limit.of) == (3 * STAKE_WEI, "vault demo")


@pytest.mark.parametrize(
    "instruction, outcome, reason",
    [
        ({"do": "noop", "reason": "calm"}, "noop", "calm"),
        ({"do": "act", "actions": [mint(strike=1)]}, "denied", "strike = 1 is below min = 1000"),
        ({"do": "act", "actions": [("mint_range", {"lower": 500, "upper": 400}, STAKE_WEI)]}, "failed",
         "market: lower is not below upper"),
        ({"do": "act", "actions": [mint()], "expect": [{"kind": "balance_change", "min": 0}]}, "denied",
         "simulation at block"),
        ({"do": "raise", "text": "oops"}, "failed", "decide raised RuntimeError: oops"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_with_its_reason(
    house: Scene, instruction: dict[str, Any], outcome: str, reason: str
) -> None:
    """By the plugin, the catalogue, the simulation and the expectations; and the plugin stays as it was."""
    before, state = traces(house), house.plugin("puppet")
    found = dry_run(house, **instruction)
    assert found.outcome == outcome
    assert reason in (found.reason or "")
    after = house.plugin("puppet")
    assert (after.state, after.last_at, traces(house)) == (state.state, state.last_at, before)


def test_what_it_claims_at_once_it_claims_for_itself_alone(house: Scene) -> None:
    """compare_and_set commits at once in a real call."""
    assert [dry_run(house, do="claim", key="dry lock").reason for _ in range(2)] == ["won", "won"]
    assert house.state("puppet", "dry lock") is None


def test_the_operator_reads_it(house: Scene) -> None:
    """The command waits, and its exit code says whether it would act."""
    payload = json.dumps({"do": "act", "actions": [mint()]})
    done = house.runnerctl("fire", "puppet", "--dry-run", "--payload", payload)
    assert done.returncode == 0, done
    assert "would act" in done.stdout
    assert "mint_binary(strike=200000, above=true) with 0.001" in done.stdout
    assert "max_value_wei_per_day of vault demo" in done.stdout
    denied = house.runnerctl("fire", "puppet", "--dry-run", "--json", "--payload",
                           json.dumps({"do": "act", "actions": [mint(strike=1)]}))  # fmt: skip
    assert (denied.returncode, json.loads(denied.stdout)["outcome"]) == (1, "denied")
    assert house.log("dry_run_finished")


def test_no_crash_makes_a_transaction_of_it(stage: Stage) -> None:
    """`kill -9` while one decides, one is simulated, and one has been told: the next start finds nothing of them."""
    act: dict[str, Any] = {"do": "act", "actions": [mint()]}
    with rpc_proxy(stage.node.url) as proxy, stage.scene({"puppet": puppet()}, url=proxy.url) as scene:
        told = dry_run(scene, **act)
        deciding = dry_run(scene, wait_s=0.01, do="wait", until="never", then=act["actions"])
        scene.wait_plugin("puppet", lambda plugin: plugin.deciding == 1)
        trap = proxy.hold("eth_estimateGas")
        simulating = dry_run(scene, wait_s=0.01, **act)
        trap.wait()

        scene.kill()
        proxy.open()
        scene.start("puppet")

        assert [found.outcome for found in (told, deciding, simulating)] == ["would act", None, None]
        for table in ("job_calls", "decisions", "intents", "attempts", "usage"):
            assert scene.rows(f"select * from {table}") == []
        assert scene.plugin("puppet").deciding == 0
        # What is done now is the first that this wallet does.
        fired = scene.fire("puppet", **act)
        assert fired.outcome == "acted"
        assert fired.call_id > simulating.call_id
        assert [row["nonce"] for row in scene.rows("select nonce from intents")] == [0]
        assert len(proxy.sent("eth_sendRawTransaction")) == len(scene.effects()) == 1

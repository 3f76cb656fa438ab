"""Keepers on a running daemon: their own wallet calls what everybody may call, once per decision, and nothing else.

One daemon: a vault with its operator, a keeper, a keeper whose wallet owns another vault, and a class that is written
for a vault and configured as a keeper. The keeper's wallet has a right at one market, so that there is one to refuse.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from web3.contract import Contract
from web3.types import RPCEndpoint

from deploy.demo.keepers import Upkeep, build_upkeep, keeper_plugins, keeper_tables
from deploy.demo.world import SPOT, make_keystore, render_config, render_tables
from runnerd.control.messages import Fired, Pause, Resume
from tests.support.contracts import deploy, load_artifact
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.integration

REFRESH: tuple[str, dict[str, object], int] = ("refresh", {}, 0)
REFRESHED = "Refreshed(address indexed caller, uint256 nav)"
MISTAKEN = """
from workers.sdk import Context, Noop, Plugin


class Mistaken(Plugin):
    name = "mistaken"
    vault = "demo"

    async def decide(self, ctx: Context) -> Noop:
        return Noop("it should not run")
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """The daemon, what its keeper keeps, and a market whose price only the keeper's wallet and the deployer may set."""

    scene: Scene
    upkeep: Upkeep
    private: Contract

    def ask(self, *actions: tuple[str, dict[str, object], int], plugin: str = "sweeper") -> Fired:
        """A call that asks for these actions."""
        return self.scene.fire(plugin, do="act", actions=list(actions))

    def refreshed(self) -> int:
        """The block of the last refresh."""
        block: int = self.upkeep.feed.functions.refreshedAt().call()
        return block

    def attempts(self, fired: Fired) -> int:
        """How many transactions were signed for it."""
        return len(self.scene.rows("select 1 from attempts where call_id = %s", fired.call_id))


@pytest.fixture(scope="module")
def kept(stage: Stage) -> Iterator[Kept]:
    """See the module."""
    with stage.scene({}, start=False) as scene:
        venue = scene.venue
        upkeep = build_upkeep(venue, make_keystore(scene.directory, "keeper"))
        usurper = make_keystore(scene.directory, "usurper")
        theirs = deploy(venue.w3, "OperatorVault", usurper, venue.operator)
        private = venue.w3.eth.contract(
            deploy(venue.w3, "RangeMarket", SPOT, upkeep.wallet), abi=load_artifact("RangeMarket")["abi"]
        )
        (scene.directory / "mistaken.py").write_text(MISTAKEN)
        market, feed = venue.market.address, upkeep.feed.address
        tables: dict[str, dict[str, object]] = {
            "wallets.keeper": {"keystore": "keeper.json", "passphrase_file": "keeper-passphrase"},
            "wallets.usurper": {"keystore": "usurper.json", "passphrase_file": "usurper-passphrase"},
            "vaults.theirs": {"chain": "local", "address": theirs, "wallet": "operator"},
            "keepers.usurper": {"chain": "local", "wallet": "usurper"},
            "keepers.nav": {"chain": "local", "wallet": "keeper"},
            "keepers.nav.reads.spot": {"contract": market, "function": "spot() view returns (uint256)"},
            "keepers.nav.reads.positions": {"contract": market, "function": "positionCount() view returns (uint256)"},
            "keepers.nav.actions.refresh": {"contract": feed, "function": "refresh()", "permissionless": True},
            "keepers.nav.actions.settle": {
                "contract": upkeep.rounds.address, "function": "settle(uint256 round)", "permissionless": True,
            },
            "keepers.nav.actions.set_spot": {  # the owner's statement is wrong
                "contract": private.address, "function": "setSpot(uint256 price)", "permissionless": True,
            },
            "consumers.answers": {"kind": "submit", "plugin": "respondent", "action": "refresh"},
        }  # fmt: skip
        plugins: dict[str, dict[str, object]] = {
            "alpha": puppet(),
            "sweeper": puppet(role="keeper", keeper="nav"),
            "usurper": puppet(role="keeper", keeper="usurper"),
            "respondent": puppet(role="keeper", keeper="nav", triggers=[
                {"kind": "log", "addresses": [feed], "event": REFRESHED, "where": {"caller": venue.owner}},
            ]),
            "mistaken": {"role": "keeper", "keeper": "nav", "path": str(scene.directory / "mistaken.py")},
        }  # fmt: skip
        scene.config.write_text(render_config(venue, plugins, dsn=scene.dsn) + render_tables(tables))
        scene.start("alpha", "sweeper", "respondent")
        yield Kept(scene, upkeep, private)


def test_a_keepers_action_goes_through_from_its_own_wallet(kept: Kept) -> None:
    """The contract is called by the keeper's wallet itself, and the ledger, status and chain say the same."""
    before = kept.refreshed()
    fired = kept.ask(REFRESH)

    assert (fired.outcome, kept.refreshed() > before) == ("acted", True)
    sent = kept.scene.venue.w3.eth.get_transaction(fired.transaction)  # type: ignore[arg-type]
    assert (sent["from"], sent["to"], sent["value"]) == (kept.upkeep.wallet, kept.upkeep.feed.address, 0)
    (signed,) = [one for one in kept.scene.transactions() if one.call_id == fired.call_id]
    assert (signed.vault, signed.wallet, signed.target) == ("nav", kept.upkeep.wallet, kept.upkeep.feed.address)


def test_a_keeper_answers_the_contract_that_asked_from_its_own_wallet(kept: Kept) -> None:
    """Once: what it does itself, and what its plugin does by hand, asks for nothing."""
    scene, refreshed = kept.scene, kept.upkeep.feed.events.Refreshed
    wait_for(lambda: scene.log("chain_trigger_follows"), "the trigger")
    scene.venue.send(kept.upkeep.feed.functions.refresh())
    wait_for(lambda: [run for run in scene.runs("respondent") if run.trigger == "answer" and run.outcome], "the answer")
    assert kept.ask(REFRESH, plugin="respondent").outcome == "acted"

    (answer,) = scene.rows("select * from job_calls where trigger = 'answer'")
    assert (answer["plugin"], answer["outcome"], answer["principal"]) == ("respondent", "acted", "consumer:answers")
    (attempt,) = scene.rows("select hash from attempts where call_id = %s", answer["id"])
    logs = {log["transactionHash"].to_0x_hex(): log["args"]["caller"] for log in refreshed().get_logs(from_block=0)}
    assert logs[attempt["hash"]] == kept.upkeep.wallet


def test_the_status_shows_the_keeper_beside_the_vaults(kept: Kept) -> None:
    """With its wallet and what is in it; a plugin says which role it has."""
    status = kept.scene.daemon.status()

    assert [vault.name for vault in status.vaults] == ["demo", "theirs"]
    nav = next(keeper for keeper in status.keepers if keeper.name == "nav")
    assert (nav.chain, nav.address, nav.problem, nav.paused) == ("local", kept.upkeep.wallet, None, None)
    roles = {plugin.name: (plugin.role, plugin.vault) for plugin in status.plugins}
    assert (roles["alpha"], roles["sweeper"]) == (("operator", "demo"), ("keeper", "nav"))


def test_an_action_that_a_stranger_may_not_call_is_refused(kept: Kept) -> None:
    """Although the owner says that it is permissionless, and although it would succeed. Nothing is signed."""
    set_spot = kept.private.functions.setSpot(201_000)
    set_spot.call({"from": kept.upkeep.wallet})  # the control: the keeper's wallet may
    fired = kept.ask(("set_spot", {"price": 201_000}, 0))

    assert (fired.outcome, kept.attempts(fired)) == ("denied", 0)
    assert (
        f"not permissionless: it succeeds for the keeper {kept.upkeep.wallet} and reverts for a stranger: "
        "market: caller is not the keeper" in (fired.reason or "")
    )
    assert kept.private.functions.spot().call() == SPOT


def test_an_action_that_reverts_for_all_has_failed_and_is_not_called_privileged(kept: Kept) -> None:
    """The round that is named is not the running one: that says nothing of rights."""
    fired = kept.ask(("settle", {"round": 99}, 0))

    assert (fired.outcome, kept.attempts(fired)) == ("failed", 0)
    assert (fired.reason or "").endswith("reverted: rounds: not the running round")


def test_two_actions_in_one_decision_are_refused(kept: Kept) -> None:
    """A plain account cannot make them one transaction. One of them alone passes, see above."""
    before = kept.refreshed()
    fired = kept.ask(REFRESH, REFRESH)

    assert (fired.outcome, kept.attempts(fired), kept.refreshed()) == ("denied", 0, before)
    assert (fired.reason or "").startswith("2 actions in one decision: a keeper's wallet is a plain account")


def test_neither_side_has_the_others_actions(kept: Kept) -> None:
    """The operator asks for the keeper's, the keeper for the operator's and for value; each passes at home."""
    denied = kept.ask(REFRESH, plugin="alpha")
    assert (denied.outcome, denied.reason) == (
        "denied",
        "action 1 (refresh) is not in the catalogue of vault demo; granted: mint_binary, mint_range",
    )
    denied = kept.ask(mint())
    assert "is not in the catalogue of keeper nav; granted: refresh, settle, set_spot" in (denied.reason or "")
    denied = kept.ask(("refresh", {}, 1))
    assert denied.reason == "action 1 (refresh): value_wei = 1 is above max_value_wei = 0"
    assert kept.ask(mint(), plugin="alpha").outcome == "acted"


def test_a_keeper_is_paused_as_a_vault_is(kept: Kept) -> None:
    """By its name, in the same scope; the vault goes on."""
    kept.scene.daemon.ask(Pause(scope="vault", name="nav"))
    denied = kept.ask(REFRESH)
    assert (denied.outcome, kept.attempts(denied)) == ("denied", 0)
    assert next(one for one in kept.scene.daemon.status().keepers if one.name == "nav").paused == denied.reason
    assert kept.ask(mint(), plugin="alpha").outcome == "acted"
    kept.scene.daemon.ask(Resume(scope="vault", name="nav"))
    assert kept.ask(REFRESH).outcome == "acted"


def test_a_wallet_with_a_right_at_a_vault_is_refused_as_a_keeper(kept: Kept) -> None:
    """It owns a vault that another wallet operates. The vault itself is served."""
    plugin = kept.scene.wait_plugin("usurper", lambda plugin: plugin.state == "quarantined")

    assert plugin.pid is None
    assert "has a right at vault theirs (owner of" in plugin.reason
    assert "the key of an operator never serves a keeper" in plugin.reason
    status = kept.scene.daemon.status()
    assert [vault.problem for vault in status.vaults] == [None, None]
    assert any(problem.startswith("keeper usurper: our wallet") for problem in status.problems)


def test_a_class_that_names_a_vault_is_refused_as_a_keeper(kept: Kept) -> None:
    """What was written for a vault's rights does not run without them."""
    plugin = kept.scene.wait_plugin("mistaken", lambda plugin: plugin.state == "quarantined")

    assert "the class is written for vault 'demo', the configuration gives it none: it is a keeper" in plugin.reason


def test_one_key_under_two_names_starts_nothing(stage: Stage) -> None:
    """The configuration cannot know it, the open keys tell: exit code 78. With another key it starts, see above."""
    with stage.scene({}, start=False) as scene:
        shutil.copy(scene.directory / "operator.json", scene.directory / "copy.json")
        tables: dict[str, dict[str, object]] = {
            "wallets.copy": {"keystore": "copy.json", "passphrase_file": "passphrase"},
            "keepers.nav": {"chain": "local", "wallet": "copy"},
        }
        scene.config.write_text(render_config(scene.venue, {}, dsn=scene.dsn) + render_tables(tables))
        daemon = scene.start_unready()

        assert daemon.process.wait(30) == 78
        (record,) = scene.log("start_refused")
        assert "keepers.nav.wallet: wallets.copy has the address of wallets.operator" in record["message"]
        assert scene.log("ready") == []


def test_a_backlog_of_blocks_is_one_settlement_of_a_round(stage: Stage) -> None:
    """The demo's keeper meets forty blocks at once, all after the end of the round: nothing reverts on chain."""
    with stage.scene({}, start=False) as scene:
        upkeep = build_upkeep(scene.venue, make_keystore(scene.directory, "keeper"))
        # Forty blocks pass in a moment here: that alone must not look as if what was asked for had been lost.
        plugins = {"settlement": {**keeper_plugins(upkeep)["settlement"], "params": {"patience_blocks": 1_000}}}
        scene.config.write_text(
            render_config(scene.venue, plugins, dsn=scene.dsn) + render_tables(keeper_tables(upkeep))
        )
        scene.start("settlement")
        wait_for(lambda: scene.log("chain_trigger_follows"), "the trigger has begun")
        scene.venue.w3.provider.make_request(RPCEndpoint("anvil_mine"), [hex(40)])
        settled = "select 1 from intents where state = 'included' or state = 'final'"
        wait_for(lambda: scene.rows(settled), "the settlement")
        wait_for(lambda: all(run.outcome for run in scene.runs("settlement")), "all calls have ended")
        mined = scene.rows("select is_success from attempts where is_success is not null")
        assert {row["is_success"] for row in mined} == {True}  # a next round may be over as well by now

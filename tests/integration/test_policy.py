"""Policy on a running daemon: switches of actions, reducing mode, rolling sums over a restart, the vault's own caps."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.demo.world import ETHER
from runnerd.control.messages import Done, Fired, Pause, Reduce, Resume
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.integration

PER_DAY = 500_000
CAP_WEI = 5 * 10**15


@contextmanager
def limited(stage: Stage) -> Iterator[Scene]:
    """Strikes may add up to 500,000 in a day; of the two actions, `mint_range` is the one that reduces."""
    plugins = {"alpha": puppet(), "beta": puppet(budget={"max_transactions_per_day": 1})}
    with stage.scene(plugins, start=False) as scene:
        text = scene.config.read_text()
        text = text.replace("max = 10000000", f"max = 10000000\nmax_per_day = {PER_DAY}")
        head, tail = text.split("[vaults.demo.actions.mint_range]")
        assert "max_per_day" in head
        scene.config.write_text(f"{head}[vaults.demo.actions.mint_range]\nreducing = true{tail}")
        scene.start(*plugins)
        yield scene


@pytest.fixture(scope="module")
def scene(stage: Stage) -> Iterator[Scene]:
    """A daemon that goes on; a test that restarts it makes its own."""
    with limited(stage) as scene:
        yield scene


def binary(scene: Scene, strike: int = 1_000, value_wei: int = 10**15, *, plugin: str = "alpha") -> Fired:
    """A call that asks for the action that is limited."""
    return scene.fire(plugin, do="act", actions=[mint(strike=strike, value_wei=value_wei)])


def in_range(scene: Scene) -> Fired:
    """A call that asks for the reducing one."""
    return scene.fire("alpha", do="act", actions=[("mint_range", {"lower": 100_000, "upper": 300_000}, 10**15)])


def attempts(scene: Scene, fired: Fired) -> int:
    """How many transactions were signed for it."""
    return len(scene.rows("select 1 from attempts where call_id = %s", fired.call_id))


def test_paused_action_stops_decisions_with_it_and_no_others(scene: Scene) -> None:
    """The plugin goes on; the status names the switch; after resume it acts again."""
    assert isinstance(scene.daemon.ask(Pause(scope="action", name="demo.mint_binary")), Done)
    denied = binary(scene)
    assert (denied.outcome, attempts(scene, denied)) == ("denied", 0)
    assert (denied.reason or "").startswith("action demo.mint_binary is paused by uid:")
    assert in_range(scene).outcome == "acted"
    status = scene.daemon.status()
    assert status.vaults[0].paused_actions == ["demo.mint_binary"]
    assert denied.reason in status.problems
    assert scene.plugin("alpha").paused is None
    scene.daemon.ask(Resume(scope="action", name="demo.mint_binary"))
    assert binary(scene).outcome == "acted"


def test_reduced_vault_lets_only_reducing_actions_pass(stage: Stage) -> None:
    """Over a restart too, until it is resumed."""
    with limited(stage) as scene:
        _reduce(scene)


def test_rolling_sum_is_still_used_up_after_a_restart(stage: Stage) -> None:
    """Of a stopped daemon and of a killed one. A call that was denied took nothing of it."""
    with limited(stage) as scene:
        _use_up(scene)


def _reduce(scene: Scene) -> None:
    assert isinstance(scene.daemon.ask(Reduce(scope="vault", name="demo")), Done)
    for _ in range(2):
        denied = binary(scene)
        assert (denied.outcome, attempts(scene, denied)) == ("denied", 0)
        assert (denied.reason or "").startswith("action mint_binary is not reducing, and vault demo is set to reducing")
        assert in_range(scene).outcome == "acted"
        assert scene.daemon.status().vaults[0].reducing is not None
        assert scene.stop() == 0
        scene.start("alpha", "beta")
    scene.daemon.ask(Resume(scope="vault", name="demo"))
    assert binary(scene).outcome == "acted"


def test_budget_of_one_plugin_is_not_that_of_another(scene: Scene) -> None:
    """Beta may send one transaction a day."""
    assert binary(scene, plugin="beta").outcome == "acted"
    denied = binary(scene, plugin="beta")
    assert denied.outcome == "denied"
    assert (denied.reason or "").endswith("max_transactions_per_day = 1 of plugin beta")
    assert binary(scene).outcome == "acted"


def _use_up(scene: Scene) -> None:
    assert binary(scene, 2_000).outcome == "acted"
    denied = binary(scene, PER_DAY - 1_999)
    assert denied.outcome == "denied"
    assert f"strike: {PER_DAY - 1_999} on top of 2000 in the last 24 hours is above max_per_day" in str(denied.reason)
    assert binary(scene, PER_DAY - 3_000).outcome == "acted"
    for end in (scene.stop, scene.kill):
        denied = binary(scene, 1_001)
        assert (denied.outcome, attempts(scene, denied)) == ("denied", 0)
        assert f"1001 on top of {PER_DAY - 1_000} in the last 24 hours" in str(denied.reason)
        end()
        scene.start("alpha", "beta")
    assert "1001 on top of" in str(binary(scene, 1_001).reason)
    assert binary(scene, 1_000).outcome == "acted"


def test_cap_of_the_vault_is_refused_off_chain(scene: Scene) -> None:
    """With the contract's own name for it, and no transaction, not even a simulation that reverts."""
    scene.venue.send(scene.venue.vault.functions.setCaps(CAP_WEI, 5 * ETHER))
    actions = [("mint_range", {"lower": 100_000, "upper": 300_000}, CAP_WEI + 1)]

    def asked() -> Fired | None:
        fired = scene.fire("alpha", do="act", actions=actions)
        return fired if fired.outcome == "denied" else None

    sent = len(scene.transactions())
    denied = wait_for(asked, "the mirror has read the new cap")
    assert denied.reason == (
        f"action 1 (mint_range): vault allows {CAP_WEI} wei in one transaction (maxPerTransaction), asked {CAP_WEI + 1}"
    )
    assert (attempts(scene, denied), len(scene.transactions())) == (0, sent)
    assert in_range(scene).outcome == "acted"

"""Kill switches: the widest that covers a plugin counts, and who made it is told."""

from datetime import UTC, datetime

import pytest

from runnerd.pauses import EVERYTHING, Mode, Pause, Pauses, Scope

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def pauses(*scopes: tuple[Scope, str]) -> Pauses:
    """These are switched off."""
    switches = Pauses()
    for scope, name in scopes:
        switches.add(Pause(scope, name, "uid:7", AT))
    return switches


@pytest.mark.parametrize(
    "active, scope",
    [
        ([], None),
        ([(Scope.PLUGIN, "alpha")], Scope.PLUGIN),
        ([(Scope.PLUGIN, "beta"), (Scope.VAULT, "other")], None),
        ([(Scope.VAULT, "main"), (Scope.PLUGIN, "alpha")], Scope.VAULT),
        ([(Scope.PLUGIN, "alpha"), (Scope.VAULT, "main"), (Scope.ALL, EVERYTHING)], Scope.ALL),
        ([(Scope.PLUGIN, "main"), (Scope.VAULT, "alpha")], None),
    ],
    ids=["none", "plugin", "of others", "vault before plugin", "all before vault", "names of another scope"],
)
def test_widest_pause_counts(active: list[tuple[Scope, str]], scope: Scope | None) -> None:
    """For plugin alpha on vault main."""
    found = pauses(*active).of("alpha", "main")
    assert (found.scope if found else None) is scope


def test_removed_pause_leaves_the_others() -> None:
    """Resuming a plugin does not resume its vault; resuming what is not paused does nothing."""
    switches = pauses((Scope.PLUGIN, "alpha"), (Scope.VAULT, "main"))
    switches.remove(Scope.VAULT, "main")
    switches.remove(Scope.ALL, EVERYTHING)
    found = switches.of("alpha", "main")
    assert found is not None
    assert found.scope is Scope.PLUGIN


def test_pauses_of_a_former_run_are_in_force() -> None:
    """As they stand in the table."""
    switches = Pauses()
    switches.load([{"scope": "all", "name": "*", "paused_by": "uid:0", "paused_at": AT, "mode": "paused"}])
    assert str(switches.of("alpha", "main")) == "everything is paused by uid:0 since 2026-01-02 03:04:05 UTC"


def test_pause_says_what_who_and_since_when() -> None:
    """This sentence is the reason of every denied call."""
    assert str(Pause(Scope.VAULT, "main", "uid:7", AT)) == "vault main is paused by uid:7 since 2026-01-02 03:04:05 UTC"
    assert str(Pause(Scope.PLUGIN, "alpha", "uid:7", AT)).startswith("plugin alpha is paused by uid:7")


# --- actions and reducing mode ---------------------------------------------------------------------------------------


def reducing(*scopes: tuple[Scope, str]) -> Pauses:
    """These only let `close` of vault main pass."""
    switches = Pauses(reducing={"main": frozenset({"close"}), "other": frozenset()})
    for scope, name in scopes:
        switches.add(Pause(scope, name, "uid:7", AT, Mode.REDUCING))
    return switches


def test_paused_action_stops_only_decisions_with_it() -> None:
    """Of whichever plugin of that vault; the plugin itself goes on."""
    switches = pauses((Scope.ACTION, "main.mint"))
    assert switches.objection("alpha", "main", ["burn"]) is None
    assert switches.objection("alpha", "other", ["mint"]) is None
    assert switches.of("alpha", "main") is None
    assert switches.objection("alpha", "main", ["burn", "mint"]) == (
        "action main.mint is paused by uid:7 since 2026-01-02 03:04:05 UTC"
    )
    assert [pause.name for pause in switches.of_actions("main")] == ["main.mint"]


@pytest.mark.parametrize("scope, name", [(Scope.PLUGIN, "alpha"), (Scope.VAULT, "main"), (Scope.ALL, EVERYTHING)])
def test_reducing_mode_lets_only_marked_actions_pass(scope: Scope, name: str) -> None:
    """A Decision with any other is stopped whole; the plugin goes on being asked."""
    switches = reducing((scope, name))
    assert switches.of("alpha", "main") is None
    assert switches.objection("alpha", "main", ["close", "close"]) is None
    objection = switches.objection("alpha", "main", ["close", "mint"])
    assert objection is not None
    assert objection.startswith("action mint is not reducing, and ")
    assert objection.endswith("set to reducing by uid:7 since 2026-01-02 03:04:05 UTC")
    assert (switches.objection("beta", "other", ["close"]) is None) is (scope is not Scope.ALL)


def test_pause_is_stricter_than_reducing() -> None:
    """In whatever order they come, and in whatever scopes."""
    for order in ([Mode.PAUSED, Mode.REDUCING], [Mode.REDUCING, Mode.PAUSED]):
        switches = reducing()
        for mode in order:
            switches.add(Pause(Scope.VAULT, "main", "uid:7", AT, mode))
        assert switches.of("alpha", "main") is not None
    switches = reducing((Scope.ALL, EVERYTHING))
    switches.add(Pause(Scope.PLUGIN, "alpha", "uid:7", AT))
    assert "plugin alpha is paused" in str(switches.objection("alpha", "main", ["close"]))
    switches.remove(Scope.ALL, EVERYTHING)
    switches.remove(Scope.PLUGIN, "alpha")
    assert switches.objection("alpha", "main", ["mint"]) is None


def test_intent_whose_actions_are_unknown_is_stopped_by_every_switch_that_may_mean_one() -> None:
    """It is older than the record of actions: fail closed, but only where a switch is thrown."""
    assert reducing().objection("alpha", "main", []) is None
    assert pauses((Scope.ACTION, "other.mint")).objection("alpha", "main", []) is None
    assert str(pauses((Scope.ACTION, "main.mint")).objection("alpha", "main", [])).startswith("its actions are not kn")
    assert str(reducing((Scope.VAULT, "main")).objection("alpha", "main", [])).startswith("its actions are not known")

"""Kill switches: the widest that covers a plugin counts, and who made it is told."""

from datetime import UTC, datetime

import pytest

from runnerd.pauses import EVERYTHING, Pause, Pauses, Scope

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

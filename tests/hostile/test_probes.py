"""Everything that a plugin must not be able to do: denied inside the real sandbox, shown possible outside of it."""

import os
from collections.abc import Callable

import pytest

from runnerd.control.messages import Restart
from tests.hostile.probes import PROBES
from tests.hostile.probes.table import Probe
from tests.support.scene import Scene

pytestmark = pytest.mark.hostile

Outside = Callable[[str, dict[str, object]], str]
ATTACKS = [name for name, probe in PROBES.items() if probe.attack]
"""Probes of what no library does by accident."""


@pytest.mark.parametrize("name", [name for name in PROBES if name not in ATTACKS])
def test_a_plugin_cannot(fort: Scene, targets: dict[str, object], outside: Outside, name: str) -> None:
    """Denied, in a worker that lives on; and the same function succeeds outside the sandbox."""
    probe = _offered(fort, targets, outside, name)
    pid = fort.plugin("prober").pid

    fired = fort.fire("prober", probe=name, targets=targets)

    assert fired.outcome == "noop", fired
    assert (fired.reason or "").startswith(tuple(f"denied: {number} " for number in probe.denials)), fired.reason
    assert fort.plugin("prober").pid == pid


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_its_worker_and_quarantines_the_plugin(
    fort: Scene, targets: dict[str, object], outside: Outside, name: str
) -> None:
    """Killed before it is answered, named in status, call and history, counted; and back when the operator says so."""
    attack = _offered(fort, targets, outside, name).attack
    why = f"attack: {attack}"

    fired = fort.fire("prober", probe=name, targets=targets)

    assert (fired.outcome, fired.reason) == ("failed", f"plugin is quarantined: {why}")
    stopped = fort.wait_plugin("prober", lambda plugin: plugin.pid is None)
    assert (stopped.state, stopped.reason) == ("quarantined", why)
    events = fort.history("prober")
    assert ("attack", attack) in [(event.kind, event.detail) for event in events[:3]]
    assert [record for record in fort.log("sandbox_attack") if record["syscall"] == attack]


def _offered(fort: Scene, targets: dict[str, object], outside: Outside, name: str) -> Probe:
    """The probe, once it has succeeded outside. Skips where there is nothing to refuse."""
    probe = PROBES[name]
    if probe.needs_root and os.geteuid() != 0:
        pytest.skip("outside the sandbox this needs root as well: there would be no positive control")
    prober = fort.plugin("prober")
    if prober.state != "ready":  # the test before has cost it its worker
        fort.daemon.ask(Restart(plugin="prober"))
        prober = fort.wait_plugin("prober", lambda plugin: plugin.state == "ready")
    if probe.layer in prober.missing_layers:
        pytest.skip(f"this host has no {probe.layer}, and nothing else refuses it")
    targets["doomed"] = "doomed"
    doomed = fort.directory / "scratch/doomed"
    doomed.touch()
    said = outside(name, targets)
    doomed.touch()
    if probe.is_offered_by_some and said != "succeeded":
        pytest.skip(f"this kernel offers it to nobody: {said.splitlines()[-1]}")
    assert said == "succeeded"
    return probe

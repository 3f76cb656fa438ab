"""Everything that a plugin must not be able to do: denied inside the real sandbox, shown possible outside of it."""

import os
from collections.abc import Callable

import pytest

from tests.hostile.probes import PROBES
from tests.support.scene import Scene

pytestmark = pytest.mark.hostile


@pytest.mark.parametrize("name", PROBES)
def test_a_plugin_cannot(
    fort: Scene, targets: dict[str, object], outside: Callable[[str, dict[str, object]], str], name: str
) -> None:
    """Denied, in a worker that lives on (or is ended for it); and the same function succeeds outside the sandbox."""
    probe = PROBES[name]
    if probe.needs_root and os.geteuid() != 0:
        pytest.skip("outside the sandbox this needs root as well: there would be no positive control")
    prober = fort.plugin("prober")
    if probe.layer in prober.missing_layers:
        pytest.skip(f"this host has no {probe.layer}, and nothing else refuses it")
    targets = {**targets, "doomed": "doomed"}
    doomed = fort.directory / "scratch/doomed"

    doomed.touch()
    said = outside(name, targets)
    if probe.is_offered_by_some and said != "succeeded":
        pytest.skip(f"this kernel offers it to nobody: {said.splitlines()[-1]}")
    doomed.touch()
    fired = fort.fire("prober", probe=name, targets=targets)

    assert said == "succeeded"
    if probe.ends_with is None:
        assert fired.outcome == "noop", fired
        assert (fired.reason or "").startswith(tuple(f"denied: {number} " for number in probe.denials)), fired.reason
        assert fort.plugin("prober").pid == prober.pid
    else:
        assert fired.outcome == "dead", fired
        assert probe.ends_with in (fired.reason or "")
        fort.wait_plugin("prober", lambda plugin: plugin.state == "ready")

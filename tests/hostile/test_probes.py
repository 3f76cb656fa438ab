"""Everything that a plugin must not be able to do: denied inside the real sandbox, shown possible outside of it."""

import errno
import json
import os
import subprocess
import sys

import pytest

from tests.hostile import probes
from tests.hostile.probes import PROBES
from tests.support.scene import Scene

pytestmark = pytest.mark.hostile

DENIALS = (errno.EPERM, errno.EACCES)


@pytest.mark.parametrize("name", PROBES)
def test_a_plugin_cannot(fort: Scene, targets: dict[str, object], name: str) -> None:
    """Denied with EPERM or EACCES, in a worker that lives on; and the same function succeeds outside the sandbox."""
    if PROBES[name].needs_root and os.geteuid() != 0:
        pytest.skip("outside the sandbox this needs root as well: there would be no positive control")
    doomed = fort.directory / "scratch/doomed"
    doomed.touch()
    targets = {**targets, "doomed": doomed.name}
    pid = fort.plugin("prober").pid

    inside = _probe_inside(fort, name, targets)
    outside = _probe_outside(name, targets)

    assert inside.startswith(tuple(f"denied: {number} " for number in DENIALS)), inside
    assert outside.returncode == 0, outside.stderr
    assert fort.plugin("prober").pid == pid


def _probe_inside(fort: Scene, name: str, targets: dict[str, object]) -> str:
    """Run a probe in the prober's worker; what the plugin said of it."""
    fired = fort.fire("prober", probe=name, targets=targets)
    assert fired.outcome == "noop", fired
    return fired.reason or ""


def _probe_outside(name: str, targets: dict[str, object]) -> "subprocess.CompletedProcess[str]":
    """Run a probe in a plain process of this user."""
    return subprocess.run(
        [sys.executable, "-I", "-S", probes.__file__, name, json.dumps(targets)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

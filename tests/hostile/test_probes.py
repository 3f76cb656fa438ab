"""Everything that a plugin must not be able to do: denied inside the real sandbox, shown possible outside of it."""

import errno
import json
import os
import subprocess
import sys

import pytest

from runnerd.control.messages import Restart
from tests.hostile import probes
from tests.hostile.probes import PROBES
from tests.support.scene import Scene

pytestmark = pytest.mark.hostile

DENIALS = (errno.EPERM, errno.EACCES)


ATTACKS = {
    "trace_a_neighbour": "ptrace",
    "read_a_neighbours_memory": "process_vm_readv",
    "mount_a_filesystem": "mount",
    "change_the_root": "chroot",
    "join_a_namespace": "setns",
    "load_bpf": "bpf",
    "handle_page_faults": "userfaultfd",
    "use_the_kernels_keyrings": "add_key",
}
"""Probes of what no library does by accident, and the system call that each of them makes."""


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_its_worker_and_quarantines_the_plugin(
    fort: Scene, targets: dict[str, object], name: str
) -> None:
    """Killed before it is answered, named in status, call and history, counted; and back when the operator says so."""
    if PROBES[name].needs_root and os.geteuid() != 0:
        pytest.skip("outside the sandbox this needs root as well: there would be no positive control")
    why = f"attack: {ATTACKS[name]}"

    fired = fort.fire("prober", probe=name, targets=targets)
    outside = _probe_outside(name, targets)

    assert (fired.outcome, fired.reason) == ("failed", f"plugin is quarantined: {why}")
    assert outside.returncode == 0, outside.stderr
    stopped = fort.wait_plugin("prober", lambda plugin: plugin.pid is None)
    assert (stopped.state, stopped.reason) == ("quarantined", why)
    events = fort.history("prober")
    assert ("attack", ATTACKS[name]) in [(event.kind, event.detail) for event in events[:3]]
    assert [record for record in fort.log("sandbox_attack") if record["syscall"] == ATTACKS[name]]
    fort.daemon.ask(Restart(plugin="prober"))
    fort.wait_plugin("prober", lambda plugin: plugin.state == "ready")


@pytest.mark.parametrize("name", [name for name in PROBES if name not in ATTACKS])
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


@pytest.mark.skipif(not probes.X86_64, reason="i386 is a second architecture of x86_64 only")
def test_a_system_call_of_another_architecture_ends_the_worker(fort: Scene) -> None:
    """Its number means another call there: nothing to deny by name, so the process is gone before the kernel acts."""
    outside = _probe_outside("call_the_kernel_as_i386", {})
    if outside.returncode != 0:
        pytest.skip(f"this kernel takes no i386 calls: {outside.stderr}")

    fired = fort.fire("prober", probe="call_the_kernel_as_i386", targets={})

    assert (fired.outcome, fired.reason) == ("failed", "plugin is quarantined: attack: SIGSYS")
    fort.daemon.ask(Restart(plugin="prober"))
    fort.wait_plugin("prober", lambda plugin: plugin.state == "ready")


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

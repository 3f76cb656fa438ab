"""`python -m workers.sandbox.probe`: what `runnerctl doctor` reads."""

import json
import subprocess
import sys

from protocol.zygote import Layer
from tests.support.probes import DEADLINE_S
from workers.sandbox.layers import FLOOR, REMEDY


def run_probe(*preparation: str) -> dict[str, dict[str, object]]:
    """The printed object; `preparation` is code that runs before, in the same process."""
    code = ["import runpy", *preparation, "runpy.run_module('workers.sandbox.probe', run_name='__main__')"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", "\n".join(code)], capture_output=True, check=True, timeout=DEADLINE_S
    )
    return dict(json.loads(done.stdout))


def test_every_layer_is_tried_and_explained() -> None:
    """One entry per layer: on this host all are there, none of them costs anything. A cgroup is made by runnerd."""
    found = run_probe()
    assert set(found) == {layer.value for layer in Layer} - {Layer.CGROUP}
    for layer, finding in found.items():
        assert finding["is_required"] == (Layer(layer) in FLOOR)
        assert finding["available"], (layer, finding)
        assert finding["detail"]
        assert finding["cost"] is None
        assert finding["remedy"] is None


def test_a_missing_layer_comes_with_its_cost_and_its_remedy() -> None:
    """A host that allows no more user namespaces: named, with what it means and what to do."""
    no_namespaces = (
        "import os",
        "from workers.sandbox import libc",
        "def refuse(flags): raise OSError(28, os.strerror(28))",
        "libc.unshare = refuse",
    )
    finding = run_probe(*no_namespaces)["namespaces"]
    assert not finding["available"]
    assert "No space left on device" in str(finding["detail"])
    assert "seccomp" in str(finding["cost"])
    assert finding["remedy"] == REMEDY[Layer.NAMESPACES]


def test_a_host_without_libseccomp_is_told_what_to_install() -> None:
    """The floor is missing then: `doctor` must run all the same, to say so."""
    no_library = (
        "import ctypes.util",
        "ctypes.util.find_library = lambda name: None if name == 'seccomp' else 'libc.so.6'",
    )
    finding = run_probe(*no_library)["seccomp"]
    assert not finding["available"]
    assert finding["is_required"]
    assert "apt install libseccomp2" in str(finding["remedy"])

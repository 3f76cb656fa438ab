"""What the zygote plays before the first fork: it must leave nothing behind, and notice what is broken."""

import subprocess
import sys

import pytest

from protocol.zygote import PluginSource
from workers import rehearsal
from workers.sdk.plugin import PluginError

SCRIPT = """
import logging, os, sys, threading
from pathlib import Path
from workers import inherited
before = set(os.listdir("/proc/self/fd"))
inherited.prepare()
threads = Path("/proc/self/status").read_text().partition("Threads:")[2].split()[0]
print(threads, sorted(set(os.listdir("/proc/self/fd")) - before), [m for m in sys.modules if "rehearsed" in m])
logging.warning("nobody takes this, and nobody fails")
"""


def test_it_leaves_no_thread_no_descriptor_and_no_module() -> None:
    """A fork copies all three: a thread's locks stay locked, a descriptor is a hole, a module is not the plugin's."""
    done = subprocess.run([sys.executable, "-I", "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1 [] []\n"
    assert done.stderr == ""


def test_what_a_worker_cannot_do_is_said_before_the_first_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK that cannot be imported, say."""
    monkeypatch.setattr(rehearsal, "SOURCE", PluginSource(kind="path", value="/nowhere/plugin.py"))
    with pytest.raises(PluginError, match="cannot be read: No such file"):
        rehearsal.rehearse()

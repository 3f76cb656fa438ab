"""Frames without number and frames that take long to read: they cost their plugin its worker, and nobody a call."""

import time
from collections.abc import Iterator

import pytest

from runnerd.control.messages import Restart
from tests.support.scene import Scene, mint

pytestmark = pytest.mark.hostile

DEADLINE_S = 30.0
PATIENCE_S = 1.0
"""For a call of another plugin during a flood; without one it takes 10 ms."""


@pytest.fixture(autouse=True)
def fresh_forger(fort: Scene) -> Iterator[None]:
    """A new worker before the test, since an earlier deed may have left it without descriptors, and one after it."""
    _renew(fort)
    yield
    _renew(fort)


def _renew(fort: Scene) -> None:
    former = fort.plugin("forger").generation
    fort.daemon.ask(Restart(plugin="forger"))
    fort.wait_plugin("forger", lambda plugin: plugin.state == "ready" and plugin.generation > former)


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("integers", "more than 20000 values in a frame"),
        ("actions", "more than 22048 texts in a frame"),
        ("pong", "bytes a second"),
        ("log", "bytes a second"),
    ],
)
def test_a_flood_of_frames_ends_the_worker_and_holds_up_nobody(fort: Scene, kind: str, reason: str) -> None:
    """1 MiB of integers took 0.2 s to read, 64 of them in a turn of the loop; white space 1.7 ms, for ever."""
    others = {name: pid for name, pid in fort.pids().items() if name != "forger"}

    fort.fire("forger", wait_s=0, do="flood_with_frames", kind=kind, frames=200_000)
    waits_s = []
    until = time.monotonic() + DEADLINE_S
    while (flooding := fort.plugin("forger")).state != "quarantined":
        started = time.monotonic()
        assert fort.fire("bystander", do="noop").outcome == "noop"
        waits_s.append(time.monotonic() - started)
        assert started < until, f"{flooding.state}: {flooding.reason}; last {flooding.last_outcome}"
    status = fort.wait_plugin("forger", lambda plugin: plugin.pid is None)

    assert "bad protocol: " in status.reason
    assert reason in status.reason
    assert max(waits_s, default=0.0) < PATIENCE_S
    assert {name: pid for name, pid in fort.pids().items() if name != "forger"} == others
    assert fort.fire("bystander", do="act", actions=[mint()]).outcome == "acted"

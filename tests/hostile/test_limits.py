"""A plugin over a limit is ended, and `why` has the reason; the same deed within its limits ends nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scene import Scene, Stage

pytestmark = pytest.mark.hostile

PLUGIN = {
    "path": str(Path(__file__).with_name("plugins") / "glutton.py"),
    "class_name": "glutton",
    "parallel": 1,
    "attempts": 1,
    "decide_deadline_s": 30.0,
    "restart": {"crashes_to_quarantine": 100, "backoff_first_s": 0.02, "backoff_max_s": 0.02},
}
TIGHT = {"memory_mib": 96, "max_threads": 30, "max_files": 64, "max_cpus": 0.05}
DEMANDING = {**PLUGIN, "sandbox": {"require": ["cgroup"]}}
LONG_S = 30
"""Longer than any look takes to come round: if nobody ended the worker, the call would fail at its deadline."""


@pytest.fixture(scope="module")
def gluttons(stage: Stage) -> Iterator[Scene]:
    """One with room, and one without: the same code."""
    plugins = {"wide": PLUGIN, "narrow": {**PLUGIN, "sandbox": TIGHT}, "demanding": DEMANDING}
    with stage.scene(plugins, start=False) as scene:
        scene.start("wide", "narrow")
        yield scene


@pytest.mark.parametrize(
    "deed, limit, allowed",
    [
        ("leak_memory", "memory", "96 MiB"),
        ("start_threads", "thread", "30"),
        ("open_descriptors", "descriptor", "64"),
        ("spin", "CPU", "0.5 s are allowed"),
    ],
)
def test_worker_over_a_limit_is_ended_with_the_reason(gluttons: Scene, deed: str, limit: str, allowed: str) -> None:
    """Limit and figures are in the outcome of the call and in the plugin's history; as root, too."""
    within = gluttons.fire("wide", do=deed, rest_s=0)
    over = gluttons.fire("narrow", do=deed, rest_s=LONG_S)

    assert (within.outcome, within.reason) == ("noop", "had enough")
    assert over.outcome == "dead"
    assert f"over its {limit} limit: " in (over.reason or "")
    assert allowed in (over.reason or "")
    ended = next(event for event in gluttons.history("narrow") if event.kind == "exited")
    assert ended.detail.startswith(f"over its {limit} limit: ")
    gluttons.wait_plugin("narrow", lambda plugin: plugin.state == "ready")
    assert gluttons.plugin("wide").restarts == 0


def test_plugin_whose_required_layer_is_missing_is_not_started(gluttons: Scene) -> None:
    """Fails closed, and the reason says what is missing and what to do; the others run without it."""
    if "cgroup" not in gluttons.plugin("wide").missing_layers:
        pytest.skip("this process was given a cgroup to delegate: nothing is missing here")
    demanding = gluttons.wait_plugin("demanding", lambda plugin: plugin.state == "quarantined")

    assert demanding.reason.startswith(
        "sandbox refused: cgroup is missing: none was delegated to runnerd; to have it: "
    )
    assert "Delegate=memory pids cpu" in demanding.reason
    fired = gluttons.fire("demanding", do="spin", rest_s=0)
    assert (fired.outcome, fired.reason) == ("failed", f"plugin is quarantined: {demanding.reason}")

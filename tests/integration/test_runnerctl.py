"""`runnerctl` as an operator runs it: a process, its output, its exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runnerd.control.messages import Pause, Resume
from tests.support.scene import Scene, mint, wait_for

pytestmark = pytest.mark.integration

RUNNERCTL = Path(sys.executable).with_name("runnerctl")


def test_status_exits_0_when_healthy_1_when_degraded(house: Scene) -> None:
    """A script can tell by the exit code alone; --json gives the whole status either way."""
    wait_for(lambda: house.daemon.status().health == "healthy", "health")
    healthy = _run(house, "status", "--json")
    house.daemon.ask(Pause(scope="vault", name="demo"))
    try:
        degraded = _run(house, "status", "--json")
    finally:
        house.daemon.ask(Resume(scope="vault", name="demo"))

    assert (healthy.returncode, degraded.returncode) == (0, 1)
    assert json.loads(healthy.stdout)["health"] == "healthy"
    status = json.loads(degraded.stdout)
    assert status["health"] == "degraded"
    assert "vault demo is paused" in status["problems"][0]
    (plugin,) = [plugin for plugin in status["plugins"] if plugin["name"] == "bystander"]
    assert (plugin["state"], plugin["pid"]) == ("ready", house.plugin("bystander").pid)


def test_status_exits_2_when_nobody_answers(tmp_path: Path) -> None:
    """Down is an answer: one sentence on stderr, and JSON for programs."""
    done = _call("--socket", str(tmp_path / "none.sock"), "status", "--json")

    assert done.returncode == 2
    assert json.loads(done.stdout)["health"] == "down"
    assert "runnerd is not running" in done.stderr


def test_the_status_table_shows_every_plugin(house: Scene) -> None:
    """What a person sees: each plugin with its state."""
    done = _run(house, "status")

    assert done.returncode == 0, done
    for name in ("puppet", "ticker", "bystander", "fragile"):
        assert name in done.stdout


def test_fire_wait_prints_outcome_and_transaction(house: Scene) -> None:
    """The call acts, and its hash is the one on chain."""
    payload = json.dumps({"do": "act", "actions": [mint()]})
    done = _run(house, "fire", "puppet", "--payload", payload, "--wait", "--json")

    assert done.returncode == 0, done
    fired = json.loads(done.stdout)
    assert fired["outcome"] == "acted"
    assert [effect.transaction for effect in house.effects_of(fired["call_id"])] == [fired["transaction"]]
    assert fired["transaction"] in _run(house, "tx").stdout
    transactions = json.loads(_run(house, "tx", "--json").stdout)["transactions"]
    assert [tx["hash"] for tx in transactions if tx["call_id"] == fired["call_id"]] == [fired["transaction"]]
    runs = json.loads(_run(house, "runs", "--json").stdout)["runs"]
    assert [run["transaction"] for run in runs if run["id"] == fired["call_id"]] == [fired["transaction"]]


def test_fire_wait_exits_1_for_another_outcome(house: Scene) -> None:
    """A denied call is not a success for a script, and the reason is printed."""
    payload = json.dumps({"do": "act", "actions": [["withdraw", {}, 0]]})
    done = _run(house, "fire", "puppet", "--payload", payload, "--wait")

    assert done.returncode == 1
    assert "denied" in done.stdout
    assert "not in the catalogue" in done.stdout


def test_why_shows_the_reason_of_the_last_decisions(house: Scene) -> None:
    """The first question of an operator."""
    house.fire("bystander", do="noop", reason="the pool is too thin today")
    done = _run(house, "why", "bystander")

    assert done.returncode == 0, done
    assert "the pool is too thin today" in " ".join(done.stdout.split())


def test_pause_resume_and_restart_are_carried_out(house: Scene) -> None:
    """Three commands, three effects, seen in the daemon."""
    generation = house.plugin("bystander").generation
    assert _run(house, "pause", "bystander").returncode == 0
    assert house.plugin("bystander").paused
    assert _run(house, "resume", "bystander").returncode == 0
    assert not house.plugin("bystander").paused
    assert _run(house, "restart", "bystander").returncode == 0
    house.wait_plugin("bystander", lambda plugin: plugin.state == "ready" and plugin.generation > generation)


def test_an_unknown_plugin_is_refused_with_the_known_ones(house: Scene) -> None:
    """A typing error costs one line."""
    done = _run(house, "fire", "pupet")

    assert done.returncode == 1
    assert "there is no plugin 'pupet'; there are: bystander, fragile, hoarder, puppet, ticker" in done.stderr
    assert "Traceback" not in done.stderr


def _run(scene: Scene, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return _call("--config", str(scene.config), *arguments)


def _call(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(RUNNERCTL), *arguments], capture_output=True, text=True, timeout=60, check=False)

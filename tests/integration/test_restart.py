"""A daemon ends in order and starts again: what was asked is finished, what was durable is there."""

import subprocess
import sys
from pathlib import Path

import pytest

from runnerd.control.messages import Pause, Resume
from tests.support.leaks import find_descendants, find_socket_files, wait_until_gone
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.integration

DAY_WEI = 10**16


def test_sigterm_drains_and_leaves_nothing(stage: Stage) -> None:
    """A call that is being decided finishes and is recorded; the exit code is 0; no process, no socket is left."""
    with stage.scene({"steady": puppet()}) as scene:
        _drain(scene)


def test_state_pauses_and_spending_survive_a_restart(stage: Stage) -> None:
    """What was durable before is there afterwards: plugin state, kill switches, what the vault spent today."""
    plugins = {"steady": puppet(), "paused": puppet()}
    with stage.scene(plugins, vault={"max_value_wei_per_day": DAY_WEI}) as scene:
        _restart(scene)


def test_a_start_that_fails_ends_what_it_had_begun_and_says_why(stage: Stage) -> None:
    """Key, zygote and ledger are opened side by side: the passphrase is wrong, so the other two are closed again."""
    with stage.scene({"steady": puppet()}) as scene:
        assert scene.stop() == 0
        (scene.directory / "passphrase").write_text("not this one\n")
        program = [str(Path(sys.executable).with_name("runnerd")), "--config", str(scene.config)]
        done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert "passphrase" in done.stderr
        assert "Traceback" not in done.stderr
        assert find_socket_files(scene.directory) == []
        others = "datname = current_database() and pid <> pg_backend_pid()"
        left = f"select count(*) as open from pg_stat_activity where {others}"
        wait_for(lambda: scene.rows(left)[0]["open"] == 0, "its connections are closed")


def _drain(scene: Scene) -> None:
    fired = scene.fire("steady", wait_s=0, do="wait", seconds=0.5, put={"drained": True})
    wait_for(lambda: scene.state("steady", f"begun:{fired.call_id}"), "decide has begun")
    supervisor = scene.daemon.process.pid
    wait_for(lambda: "worker: spare" in find_descendants(supervisor).values(), "the zygote has its spare")
    pids = find_descendants(supervisor)
    assert len(pids) >= 5  # http, zygote, its spare, workers

    assert scene.stop() == 0

    wait_until_gone(pids)
    (row,) = scene.rows("select state, outcome, reason from job_calls where id = %s", fired.call_id)
    assert (row["state"], row["outcome"], row["reason"]) == ("done", "noop", "waited, attempt 1")
    assert scene.state("steady", "drained") is True
    assert find_socket_files(scene.directory) == []
    assert list((scene.directory / "run/links").iterdir()) == []


def _restart(scene: Scene) -> None:
    spent = scene.fire("steady", do="act", actions=[mint(value_wei=DAY_WEI * 6 // 10)], put={"kept": [1, 2]})
    assert spent.outcome == "acted", spent
    scene.daemon.ask(Pause(scope="plugin", name="paused"))
    generation = scene.plugin("steady").generation

    assert scene.stop() == 0
    scene.start("steady", "paused")

    assert scene.fire("steady", do="get", key="kept").reason == "[1,2]"
    assert scene.plugin("steady").generation > generation
    paused = scene.fire("paused", do="noop")
    assert paused.outcome == "denied"
    assert "plugin paused is paused by uid:" in (paused.reason or "")
    scene.daemon.ask(Resume(scope="plugin", name="paused"))
    assert scene.daemon.status().vaults[0].spent_today_wei == DAY_WEI * 6 // 10
    denied = scene.fire("steady", do="act", actions=[mint(value_wei=DAY_WEI * 6 // 10)])
    assert denied.outcome == "denied"
    assert f"is above max_value_wei_per_day = {DAY_WEI} of vault demo" in (denied.reason or "")

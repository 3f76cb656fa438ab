"""How runnerd stops: what is being decided ends, what is in flight is finished or left, and a second signal hurries."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from runnerd.control.messages import ControlError
from tests.support.scene import DEADLINE_S, Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.integration
RUNNERCTL: Final = Path(sys.executable).with_name("runnerctl")
PATIENT: Final = puppet(decide_deadline_s=60, stop_grace_s=0.5)


def begin(scene: Scene, **instruction: Any) -> int:
    """A call that is being decided until its state says otherwise; its id."""
    fired = scene.fire("puppet", wait_s=0, do="wait", **instruction)
    wait_for(lambda: scene.state("puppet", f"begun:{fired.call_id}"), "the call begins")
    return fired.call_id


def release(scene: Scene) -> None:
    """Let the calls go on that wait for `go`."""
    scene.rows("insert into plugin_state (plugin, key, value) values ('puppet', 'go', '1') returning key")


def test_what_is_being_decided_ends_and_is_acted_upon(stage: Stage) -> None:
    """`runnerctl drain` comes back when the process is gone: the call was decided, and its transaction is final."""
    with stage.scene({"puppet": PATIENT}) as scene:
        call = begin(scene, until="go", then=[mint()])
        command = [str(RUNNERCTL), "--config", str(scene.config), "drain", "--transactions", "60"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as drain:
            wait_for(lambda: scene.log("stopping"), "it begins to stop")
            with pytest.raises(ControlError, match="is stopping and takes no more calls"):
                scene.fire("puppet", wait_s=0, do="noop")
            release(scene)
            output, _ = drain.communicate(timeout=DEADLINE_S)
        assert (drain.returncode, output.splitlines()[-1]) == (0, "runnerd has ended")
        assert scene.daemon.process.wait(DEADLINE_S) == 0
        assert [record["intents"] for record in scene.log("settling")] == [1]
        assert scene.log("parked") == []
        (outcome,) = scene.rows("select outcome from job_calls where id = %s", call)
        assert outcome["outcome"] == "acted"
        assert len(scene.effects_of(call)) == 1


def test_a_second_signal_hurries_and_nothing_is_lost(stage: Stage) -> None:
    """The call that was being decided is decided again after the next start."""
    with stage.scene({"puppet": PATIENT}) as scene:
        call = begin(scene, until="go")
        process = scene.daemon.process
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: scene.log("stopping"), "it begins to stop")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        assert [record["level"] for record in scene.log("hurried")] == ["warning"]
        scene.start("puppet")
        release(scene)
        assert scene.wait_run(call).outcome == "noop"


def test_a_stop_leaves_what_is_in_flight_to_the_next_start(stage: Stage) -> None:
    """Without `drain_s` nobody waits for blocks: it is final after the restart, once."""
    with stage.scene({"puppet": PATIENT}) as scene:
        fired = scene.fire("puppet", wait_s=0, do="act", actions=[mint()])
        wait_for(scene.transactions, "it is sent")
        assert scene.stop() == 0
        assert [record["intents"] for record in scene.log("parked")] == [1]
        scene.start("puppet")
        assert scene.wait_run(fired.call_id).outcome == "acted"
        assert len(scene.effects_of(fired.call_id)) == 1


def test_a_start_that_waits_for_its_database_ends_when_it_is_told_to(stage: Stage) -> None:
    """An administrator's lock keeps its first record from the audit trail. It never becomes ready."""
    with stage.scene({"puppet": PATIENT}) as scene:
        assert scene.stop() == 0
        ready = len(scene.log("ready"))
        with psycopg.connect(scene.dsn) as administrator:
            administrator.execute("lock table audit_records in access exclusive mode")
            process = scene.start_unready().process
            wait_for(lambda: scene.rows("select 1 from pg_locks where not granted"), "it waits for the lock")
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: scene.log("audit_stop_missing"), "it does not wait any longer")
        assert process.wait(DEADLINE_S) == 0
        assert len(scene.log("ready")) == ready

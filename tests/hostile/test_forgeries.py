"""Forged frames through the worker's own socket: the worker is ended with a reason, and nobody else is affected."""

from collections.abc import Iterator

import pytest

from runnerd.control.messages import Restart
from tests.support.scene import Scene, mint, wait_for

pytestmark = pytest.mark.hostile


@pytest.fixture(autouse=True)
def fresh_anarchist(fort: Scene) -> Iterator[None]:
    """Ready before the test, and out of quarantine after it."""
    fort.wait_plugin("anarchist", lambda plugin: plugin.state == "ready")
    yield
    fort.daemon.ask(Restart(plugin="anarchist"))
    fort.wait_plugin("anarchist", lambda plugin: plugin.state == "ready")


@pytest.mark.parametrize(
    "deed, reason",
    [
        ("answer_twice", "which is not with it"),
        ("answer_for_a_later_attempt", "which is not with it"),
        ("send_garbage", "bad protocol"),
        ("send_several_frames", "several frames"),
        ("write_parts_without_end", "several frames"),
        ("send_a_second_hello", "a second Hello"),
        ("send_an_unknown_field", "principal"),
        ("ask_for_state_without_end", "too many state requests at once"),
    ],
)
def test_a_forged_frame_ends_the_worker_with_a_reason(fort: Scene, deed: str, reason: str) -> None:
    """Quarantined with what was wrong, as the operator reads it; the other plugins' processes and calls go on."""
    others = {name: pid for name, pid in fort.pids().items() if name != "anarchist"}

    fired = fort.fire("anarchist", wait_s=0, do=deed)
    status = fort.wait_plugin("anarchist", lambda plugin: plugin.state == "quarantined" and plugin.pid is None)

    assert "bad protocol: " in status.reason
    assert reason in status.reason
    assert fort.wait_run(fired.call_id).outcome in ("failed", "noop")
    assert {name: pid for name, pid in fort.pids().items() if name != "anarchist"} == others
    assert fort.fire("bystander", do="act", actions=[mint()]).outcome == "acted"


def test_an_answer_to_somebody_elses_call_decides_nothing(fort: Scene) -> None:
    """The call of another plugin is answered by that plugin alone."""
    theirs = fort.fire("bystander", wait_s=0, do="wait", until="forgery is over")
    wait_for(lambda: fort.state("bystander", f"begun:{theirs.call_id}"), "decide has begun")

    fort.fire("anarchist", wait_s=0, do="answer_a_call_of_somebody_else", call_id=theirs.call_id)
    status = fort.wait_plugin("anarchist", lambda plugin: plugin.state == "quarantined")

    assert f"an answer to call {theirs.call_id}, which is not with it" in status.reason
    assert fort.run(theirs.call_id).outcome is None
    fort.rows("insert into plugin_state values ('bystander', 'forgery is over', '1') returning 1")
    assert fort.wait_run(theirs.call_id).reason == "waited, attempt 1"


def test_the_first_of_two_answers_counts_once(fort: Scene) -> None:
    """A call has one outcome and one decision, whatever a worker sends."""
    fired = fort.fire("anarchist", do="answer_twice")

    assert fort.wait_run(fired.call_id).reason == "first"
    assert len(fort.rows("select 1 from decisions where call_id = %s", fired.call_id)) == 1
    finished = [record for record in fort.log("call_finished") if record["call"] == fired.call_id]
    assert len(finished) == 1


def test_a_giant_frame_never_reaches_the_supervisor(fort: Scene) -> None:
    """It is refused from its header: the worker is ended, and its call ends with an outcome."""
    fired = fort.fire("anarchist", wait_s=0, do="send_a_giant_frame")

    run = fort.wait_run(fired.call_id, 30)
    assert run.outcome in ("failed", "dead", "noop"), run
    assert fort.fire("bystander", do="noop").outcome == "noop"

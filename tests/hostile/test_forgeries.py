"""Forged frames through the worker's own socket: the worker is ended with a reason, and nobody else is affected."""

import json
from collections.abc import Iterator

import pytest

from runnerd.control.messages import Restart
from tests.hostile.plugins.forger import FRAMES
from tests.support.scene import Scene, mint, wait_for

pytestmark = pytest.mark.hostile

NOT_WITH_IT = "which is not with it"
NOT_A_MESSAGE = "not a message of this protocol"
REASONS = {
    "an_invented_call": NOT_WITH_IT,
    "call_zero": "call_id",
    "a_negative_call": "call_id",
    "a_call_beyond_64_bits": "call_id",
    "a_later_attempt": NOT_WITH_IT,
    "two_answers": NOT_WITH_IT,
    "an_unknown_field": "principal",
    "an_unknown_message": "sign",
    "a_message_of_the_other_side": "stop",
    "a_second_hello": "a second Hello",
    "a_hello_of_another_version": "speaks protocol 1",
    "a_bomb_of_lists": "values in a frame",
    "a_bomb_of_nothing": "values in a frame",
    "a_bomb_of_actions": "in a frame",
    "a_million_state_writes": "in a frame",
    "state_requests_without_end": "too many state requests at once",
}
"""Of the frames whose reason has a name; the others are no messages at all."""


@pytest.fixture(autouse=True)
def fresh_forger(fort: Scene) -> Iterator[None]:
    """Ready before the test, and out of quarantine after it."""
    fort.wait_plugin("forger", lambda plugin: plugin.state == "ready")
    yield
    former = fort.plugin("forger").generation
    fort.daemon.ask(Restart(plugin="forger"))
    fort.wait_plugin("forger", lambda plugin: plugin.state == "ready" and plugin.generation > former)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_forged_frame_ends_the_worker_with_a_reason(fort: Scene, frame: str) -> None:
    """Quarantined with what was wrong, as the operator reads it; the other plugins' processes and calls go on."""
    _is_refused(fort, REASONS.get(frame, NOT_A_MESSAGE), do="forge", frame=frame)


@pytest.mark.parametrize("deed", ["send_several_frames", "write_parts_without_end"])
def test_a_message_of_several_frames_ends_the_worker(fort: Scene, deed: str) -> None:
    """By ZeroMQ, and past it."""
    _is_refused(fort, "several frames", do=deed)


def _is_refused(fort: Scene, reason: str, *, do: str, frame: str = "", call_id: int | None = None) -> None:
    others = {name: pid for name, pid in fort.pids().items() if name != "forger"}

    fired = fort.fire("forger", 0, do=do, frame=frame, call_id=call_id)
    status = fort.wait_plugin("forger", lambda plugin: plugin.state == "quarantined" and plugin.pid is None)

    assert "bad protocol: " in status.reason
    assert reason in status.reason
    assert fort.wait_run(fired.call_id).outcome in ("failed", "noop")
    assert {name: pid for name, pid in fort.pids().items() if name != "forger"} == others
    assert fort.fire("bystander", do="noop").outcome == "noop"


def test_an_answer_to_somebody_elses_call_decides_nothing(fort: Scene) -> None:
    """The call of another plugin is answered by that plugin alone."""
    theirs = fort.fire("bystander", wait_s=0, do="wait", until="forgery is over")
    wait_for(lambda: fort.state("bystander", f"begun:{theirs.call_id}"), "decide has begun")

    _is_refused(
        fort, f"an answer to call {theirs.call_id}, which is not with it", do="forge", frame="a_later_attempt",
        call_id=theirs.call_id,
    )  # fmt: skip

    assert fort.run(theirs.call_id).outcome is None
    fort.rows("insert into plugin_state values ('bystander', 'forgery is over', '1') returning 1")
    assert fort.wait_run(theirs.call_id).reason == "waited, attempt 1"
    assert fort.fire("bystander", do="act", actions=[mint()]).outcome == "acted"


def test_an_answer_to_a_call_that_is_over_decides_nothing(fort: Scene) -> None:
    """What is recorded stays."""
    over = fort.fire("forger", do="forge", frame="nothing")  # raises: there is no such frame
    assert over.outcome == "failed"

    _is_refused(fort, NOT_WITH_IT, do="forge", frame="two_answers", call_id=over.call_id)

    assert fort.run(over.call_id).outcome == "failed"
    assert fort.rows("select 1 from decisions where call_id = %s", over.call_id) == []


def test_the_first_of_two_answers_counts_once(fort: Scene) -> None:
    """A call has one outcome and one decision, whatever a worker sends."""
    fired = fort.fire("forger", do="forge", frame="two_answers")

    assert fort.wait_run(fired.call_id).reason == "1"
    assert len(fort.rows("select 1 from decisions where call_id = %s", fired.call_id)) == 1
    finished = [record for record in fort.log("call_finished") if record["call"] == fired.call_id]
    assert len(finished) == 1


def test_keys_that_are_there_twice_mean_one_thing(fort: Scene) -> None:
    """What was judged is what is recorded, with each key once: no later reader can see another answer in it."""
    fired = fort.fire("forger", do="send_keys_twice")

    run = fort.wait_run(fired.call_id)
    [row] = fort.rows("select * from decisions where call_id = %s", fired.call_id)
    assert run.reason == "second"
    assert "first" not in json.dumps(row, default=str)


def test_a_giant_frame_never_reaches_the_supervisor(fort: Scene) -> None:
    """It is refused from its header: the worker is ended, and its call ends with an outcome."""
    fired = fort.fire("forger", wait_s=0, do="send_a_giant_frame")

    run = fort.wait_run(fired.call_id, 30)
    assert run.outcome in ("failed", "dead", "noop"), run
    assert fort.fire("bystander", do="noop").outcome == "noop"

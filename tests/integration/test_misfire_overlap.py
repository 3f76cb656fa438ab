"""A daemon that is killed and started again makes up for what passed; and calls of one trigger overlap as it says."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from deploy.demo.world import render_config
from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = pytest.mark.integration

EVERY_S = 0.5
SLOTS = "select due_at, state, outcome, reason from job_calls where plugin = 'steady' and trigger = 'cron' order by id"


def test_slots_of_a_downtime_are_made_up_for_once_each(stage: Stage) -> None:
    """Killed, down for some slots, started again: each slot has one call, under its own time, in order."""
    triggers = [{"kind": "cron", "every_seconds": EVERY_S, "misfire": "all"}]
    with stage.scene({"steady": puppet(triggers=triggers)}) as scene:
        wait_for(lambda: len(_slots(scene)) >= 3, "three slots")
        scene.kill()
        killed, last = len(_slots(scene)), _slots(scene)[-1]
        wait_for(lambda: datetime.now(last.tzinfo) > last + timedelta(seconds=3), "some slots have passed")
        scene.start("steady")
        wait_for(lambda: len(_slots(scene)) >= killed + 9, "slots of the downtime, and some more")
        slots = _slots(scene)
        assert {after - before for before, after in pairwise(slots)} == {timedelta(seconds=EVERY_S)}


def test_slots_of_a_plugin_that_was_switched_off_are_not_made_up_for(stage: Stage) -> None:
    """In the file, while runnerd was down: switched off for one run, and on again for the next."""
    plugin = puppet(triggers=[{"kind": "cron", "every_seconds": EVERY_S, "misfire": "all"}])
    with stage.scene({"steady": plugin, "other": puppet()}) as scene:
        wait_for(lambda: _slots(scene), "a slot")
        scene.kill()
        _write_config(scene, {"steady": {**plugin, "enabled": False}, "other": puppet()})
        scene.start("other")
        scene.kill()
        _write_config(scene, {"steady": plugin, "other": puppet()})
        slots = _slots(scene)
        passed = slots[-1] + timedelta(seconds=2 * EVERY_S)
        wait_for(lambda: datetime.now(UTC) > passed, "some slots have passed")
        back = datetime.now(UTC)
        scene.start("other")
        wait_for(lambda: len(_slots(scene)) > len(slots), "a slot of the last run")
        assert _slots(scene)[len(slots)] > back


def _write_config(scene: Scene, plugins: Mapping[str, Mapping[str, object]]) -> None:
    scene.config.write_text(render_config(scene.venue, plugins, dsn=scene.dsn))


def test_calls_of_one_trigger_coalesce_while_one_is_decided(stage: Stage) -> None:
    """The one that is decided ends in peace; of those that came meanwhile the last is decided."""
    triggers = [{"kind": "event", "topic": "orders", "overlap": "coalesce"}]
    with stage.scene({"steady": puppet(triggers=triggers)}) as scene:
        scene.announce("orders", {"do": "wait", "seconds": 3})
        wait_for(lambda: scene.plugin("steady").deciding == 1, "the first is being decided")
        for number in range(4):
            scene.announce("orders", {"do": "noop", "reason": f"number {number}"})
        wait_for(lambda: len([run for run in scene.runs("steady") if run.outcome]) == 5, "all five have ended")
        first, *superseded, newest = sorted(scene.runs("steady"), key=lambda run: run.id)
        assert (first.outcome, newest.reason) == ("noop", "number 3")
        ids = [run.id for run in [*superseded, newest]]
        assert [(run.outcome, run.reason) for run in superseded] == [
            ("expired", f"superseded by call {call_id}") for call_id in ids[1:]
        ]


def _slots(scene: Scene) -> list[datetime]:
    return [row["due_at"] for row in scene.rows(SLOTS)]

"""Routes of a real daemon: one event to several plugins, copies for an auditor, the fallback, and limits of a job."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runnerd.control.messages import ControlError, Fire, Fired
from tests.support.scene import Scene, Stage, wait_for

pytestmark = pytest.mark.integration

CLERK = {"path": str(Path(__file__).parent / "plugins/clerk.py"), "class_name": "clerk"}
FLOW = {"kind": "event", "topic": "flow"}
PLUGINS: dict[str, dict[str, object]] = {
    "alpha": {**CLERK, "triggers": [FLOW], "jobs": {"settle": {"parallel": 1, "call_deadline_s": 30.0}}},
    "beta": {**CLERK, "triggers": [{**FLOW, "job": "settle"}]},
    "auditor": {**CLERK, "triggers": []},
    "catcher": {**CLERK, "triggers": []},
}
ROUTER = """
[router]
always = [{ plugin = "auditor", job = "audit", triggers = ["event"] }]
[router.fallback]
plugin = "catcher"
job = "catch"
topics = ["lost"]
[router.layers]
parallel = 3
decide_deadline_s = 4.0
"""


@pytest.fixture(scope="module")
def office(stage: Stage) -> Iterator[Scene]:
    """Four clerks, an auditor and a catcher among them."""
    with stage.scene(PLUGINS, start=False) as scene:
        scene.config.write_text(scene.config.read_text() + ROUTER)
        scene.start(*PLUGINS)
        wait_for(lambda: {"flow", "lost"} <= listened(scene), "both topics are listened to")
        yield scene


def listened(office: Scene) -> set[str]:
    return {topic for record in office.log("listening") for topic in record["topics"]}


def outcomes(office: Scene, payload: str, count: int) -> list[tuple[str, str, str]]:
    """(plugin, job, what it noted) of the calls with this payload, once there are so many and all have ended."""
    query = "select plugin, job, reason from job_calls where payload = %s and state = 'done' order by plugin"

    def ended() -> list[tuple[str, str, str]] | None:
        rows = office.rows(query, payload)
        return [(row["plugin"], row["job"], row["reason"]) for row in rows] if len(rows) >= count else None

    return wait_for(ended, f"{count} calls have ended")


def test_an_event_is_each_takers_own_call_and_the_auditors_once(office: Scene) -> None:
    """Committed together, each with its own identity."""
    payload = '{"n": 1}'
    office.announce("flow", json.loads(payload))
    found = outcomes(office, payload, 3)
    by_plugin = {plugin: (job, noted) for plugin, job, noted in found}
    stimulus = by_plugin["auditor"][1].removeprefix("audit: always audit: ")
    assert stimulus.startswith("notify ")
    assert by_plugin == {
        "alpha": ("decide", f"decide: {stimulus} event flow"),
        "auditor": ("audit", f"audit: always audit: {stimulus}"),
        "beta": ("settle", f"settle: {stimulus} event flow > settle"),
    }
    commits = office.rows("select distinct fired_at, topic, principal from job_calls where payload = %s", payload)
    assert {(row["topic"], row["principal"]) for row in commits} == {
        ("flow", "pg:flow"), ("flow", "copy of pg:flow"),
    }  # fmt: skip


def test_what_nobody_takes_is_the_fallbacks_and_the_auditors(office: Scene) -> None:
    """A topic without a trigger, which is listened to for the fallback alone."""
    payload = '{"n": 2}'
    office.announce("lost", json.loads(payload))
    (audited, caught) = outcomes(office, payload, 2)
    assert (audited[:2], caught[:2]) == (("auditor", "audit"), ("catcher", "catch"))
    assert caught[2].startswith("catch: fallback nobody: notify ")


def test_a_fire_at_nobody_is_the_fallbacks_and_its_key_still_makes_one_call_of_two(office: Scene) -> None:
    """Of a plugin that is not there, and of a job that is not. The answer says who has it."""
    first, again, misspelt = (
        office.daemon.ask(Fire(plugin=plugin, job=job, key="k1", wait_s=30))
        for plugin, job in (("typo", "decide"), ("typo", "decide"), ("alpha", "setle"))
    )
    assert isinstance(first, Fired)
    assert isinstance(again, Fired)
    assert isinstance(misspelt, Fired)
    assert (first.fell_back_to, first.reason) == ("catcher/catch", "catch: fallback typo/decide: manual k1")
    assert (again.call_id, again.is_new) == (first.call_id, False)
    assert misspelt.reason == "catch: fallback alpha/setle: manual k1"


def test_a_job_at_its_limit_keeps_no_other_job_waiting(office: Scene) -> None:
    """Two settlements come one after the other; what is to be decided goes on beside them."""
    fires = [
        office.daemon.ask(Fire(plugin="alpha", job="settle", payload='{"until": "open"}')) for _ in range(2)
    ]  # fmt: skip
    office.wait_plugin("alpha", lambda plugin: (plugin.deciding, plugin.waiting) == (1, 1))
    beside = office.daemon.ask(Fire(plugin="alpha", wait_s=30))
    assert isinstance(beside, Fired)
    assert beside.outcome == "noop"
    assert office.plugin("alpha").waiting == 1
    office.daemon.ask(Fire(plugin="alpha", job="catch", payload='{"put": "open"}', wait_s=30))
    for fired in fires:
        assert isinstance(fired, Fired)
        assert office.wait_run(fired.call_id).outcome == "noop"


def test_the_routes_are_listed_with_the_tightest_limits(office: Scene) -> None:
    """In `status --json`, and as a table of their own."""
    routes = {(route.plugin, route.job, route.kind): route for route in office.daemon.status().routes}
    settle, audit = routes["alpha", "settle", "manual"], routes["auditor", "audit", "always"]
    assert (settle.parallel, settle.decide_deadline_s, settle.call_deadline_s) == (1, 4.0, 30.0)
    assert (audit.parallel, audit.source) == (3, "event")
    assert routes["catcher", "catch", "fallback"].source == "topics lost"
    assert routes["beta", "settle", "trigger"].source == "event flow > settle"
    done = office.runnerctl("routes")
    (line,) = [line for line in done.stdout.splitlines() if "fallback" in line]
    assert line.split()[:3] == ["catcher", "catch", "fallback"]


def test_without_a_fallback_a_fire_at_nobody_is_refused(house: Scene) -> None:
    """As it ever was."""
    with pytest.raises(ControlError, match="there is no plugin 'typo'"):
        house.daemon.ask(Fire(plugin="typo"))

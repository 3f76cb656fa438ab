"""A plugin's durable state: what commits when, and who wins."""

import re

import pytest

from tests.support.scene import Scene, wait_for

pytestmark = pytest.mark.integration


def test_of_two_calls_at_once_one_gets_the_claim(house: Scene) -> None:
    """compare_and_set is atomic across calls that run in parallel."""
    house.announce("orders", *({"do": "claim", "key": "lot 4", "n": number} for number in range(8)))

    def claims() -> list[str]:
        reasons = [run.reason or "" for run in house.runs("puppet") if '"lot 4"' in run.payload and run.outcome]
        return reasons if len(reasons) == 8 else []

    assert sorted(wait_for(claims, "eight claims")) == ["lost"] * 7 + ["won"]


def test_a_put_commits_with_its_decision(house: Scene) -> None:
    """What decide puts is there when the call has its outcome, for the next call to read."""
    house.fire("puppet", do="noop", put={"price": 2**255, "path": ["a", {"b": None}]})

    assert house.state("puppet", "price") == 2**255
    assert house.fire("puppet", do="get", key="path").reason == '["a",{"b":null}]'


def test_a_delete_commits_with_its_decision(house: Scene) -> None:
    """A deleted key is absent for the next call."""
    house.fire("puppet", do="noop", put={"gone": 1})
    house.fire("puppet", do="noop", delete=["gone"])

    assert house.fire("puppet", do="get", key="gone").reason == '"absent"'


def test_a_put_of_a_call_that_raised_is_not_committed(house: Scene) -> None:
    """No Decision, no state: half a call leaves nothing behind."""
    fired = house.fire("bystander", do="raise", text="after the put", put={"half": 1})

    assert fired.outcome == "failed"
    assert house.state("bystander", "half") is None
    house.fire("bystander", do="noop")


def test_state_is_scoped_by_plugin(house: Scene) -> None:
    """Two plugins of one class share no key."""
    house.fire("puppet", do="noop", put={"mine": "puppet"})

    assert house.fire("bystander", do="get", key="mine").reason == '"absent"'


def test_a_plugin_over_its_state_limit_is_ended_with_that_reason(house: Scene) -> None:
    """Bytes by a Decision, keys by a compare-and-set at once: nothing of it is kept. What fits is (control)."""
    house.fire("hoarder", do="noop", put={"fits": "x" * 1_900})
    assert house.state("hoarder", "fits") == "x" * 1_900
    others = {name: pid for name, pid in house.pids().items() if name != "hoarder"}

    fired = house.fire("hoarder", do="noop", put={"more": "x" * 100})

    assert fired.outcome == "failed"
    too_much = re.search(r"over its state limit: 20\d\d of 2000 bytes", fired.reason or "")
    assert too_much, fired.reason
    assert house.state("hoarder", "more") is None
    wait_for(lambda: [e for e in house.history("hoarder") if e.kind == "exited" and too_much[0] in e.detail], "its end")

    house.wait_plugin("hoarder", lambda plugin: plugin.state == "ready")
    house.fire("hoarder", do="noop", delete=["fits"])
    for key in ("a", "b", "c"):
        assert house.fire("hoarder", do="claim", key=key).reason == "won"
    assert house.fire("hoarder", do="claim", key="d").outcome in ("failed", "dead")
    assert house.state("hoarder", "d") is None
    too_many = "over its state limit: 4 of 3 keys"
    wait_for(lambda: [e for e in house.history("hoarder") if e.kind == "exited" and too_many in e.detail], "its end")
    assert {name: pid for name, pid in house.pids().items() if name in others} == others

"""A plugin's durable state: what commits when, and who wins."""

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

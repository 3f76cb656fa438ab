"""Each trigger fires a real call; and calls that come at once are decided at once."""

from datetime import UTC, datetime, timedelta

import pytest

from runnerd.control.record_messages import Run
from tests.support.scene import Scene, wait_for

pytestmark = pytest.mark.integration


def test_cron_fires_once_per_slot(house: Scene) -> None:
    """Slots of `every_seconds` are multiples since the epoch; each becomes exactly one call, soon after it is due."""
    began = datetime.now(UTC)
    runs = wait_for(
        lambda: [run for run in house.runs("ticker") if run.trigger == "cron" and run.due_at > began][4:], "five ticks"
    )

    due = [run.due_at for run in runs]
    assert len(set(due)) == len(due)
    assert all(at.timestamp() * 1000 % 200 < 0.001 for at in due)
    assert all(timedelta(0) <= run.fired_at - run.due_at < timedelta(seconds=1) for run in runs)
    assert {run.principal for run in runs} == {"schedule"}


def test_the_status_says_when_cron_fires_next(house: Scene) -> None:
    """The operator sees the next due time of a plugin with a schedule, and none for one without."""
    assert house.plugin("bystander").next_fire is None
    next_fire = house.plugin("ticker").next_fire
    assert next_fire is not None
    assert abs(next_fire - datetime.now(UTC)) < timedelta(seconds=1)


def test_a_notification_fires_with_its_topic_and_payload(house: Scene) -> None:
    """One pg_notify on a declared topic is one call, and its payload reaches the plugin unchanged."""
    house.announce("orders", {"do": "noop", "reason": "order 17 is too small — “£”"})

    run = _wait_event(house, "order 17 is too small — “£”")
    assert (run.trigger, run.topic, run.principal, run.outcome) == ("event", "orders", "pg:orders", "noop")


def test_a_notification_on_another_topic_fires_nobody(house: Scene) -> None:
    """Only declared topics are heard; a later one on a declared topic proves that the first would have come."""
    house.announce("elsewhere", {"do": "noop", "reason": "not for us"})
    house.announce("orders", {"do": "noop", "reason": "for us"})

    _wait_event(house, "for us")
    assert not [run for run in house.runs() if run.reason == "not for us"]


def test_a_manual_fire_names_who_asked(house: Scene) -> None:
    """The principal of a manual call is the caller's uid, as the kernel gives it."""
    fired = house.fire("bystander", do="noop", reason="by hand")

    run = house.run(fired.call_id)
    assert run.trigger == "manual"
    assert run.principal.startswith("uid:")


def test_two_notifications_at_once_are_decided_in_parallel(house: Scene) -> None:
    """There is no hidden mutex: two calls that wait for each other in their state meet."""
    meet = {"do": "meet", "room": "parallel", "seats": 2}
    house.announce("orders", meet, {**meet, "n": 2})  # PostgreSQL folds equal notifications of one transaction

    def met() -> list[Run]:
        return [run for run in house.runs("puppet") if run.reason == "met"]

    wait_for(lambda: met()[1:], "two calls that met")
    assert [run.outcome for run in met()] == ["noop", "noop"]
    first, second = sorted(run.decide_ms or 0 for run in met())
    assert 0 < first <= second < 5_000
    assert len({house.state("puppet", f"parallel:{seat}") for seat in (0, 1)}) == 2


def _wait_event(scene: Scene, reason: str) -> Run:
    return wait_for(
        lambda: next((run for run in scene.runs("puppet") if run.reason == reason), None),
        f"a call that says {reason!r}",
    )

"""When a trigger is due: intervals aligned to the epoch, expressions in wall time, and what daylight saving does."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.triggers import Cron, Event
from runnerd.triggers.schedule import ScheduleError, check, key_of, next_slot

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "UTC")
"""One hour, the other way round, half an hour, a zone that gave it up, and none."""

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  # see timezones


def slots(expression: str, zone: str, after: datetime, count: int) -> list[datetime]:
    """The next slots, in UTC."""
    following = next_slot(Cron(expression=expression, timezone=zone))
    found = []
    for _ in range(count):
        after = following(after)
        found.append(after)
    return found


def wall(moment: datetime, zone: str) -> str:
    """What the clock on the wall shows."""
    return moment.astimezone(ZoneInfo(zone)).strftime("%d %H:%M:%S")


# --- intervals -------------------------------------------------------------------------------------------------------


@given(MOMENTS, st.decimals(Decimal("0.05"), 86_400 * 366, places=3))
def test_interval_slots_are_multiples_since_the_epoch(moment: datetime, every_seconds: Decimal) -> None:
    """Strictly after the moment, at most one interval away, and the same whenever and wherever they are asked for."""
    following = next_slot(Cron(every_seconds=every_seconds))
    step = timedelta(microseconds=int(every_seconds * 1_000_000))
    slot = following(moment)
    assert (slot - EPOCH) % step == timedelta(0)
    assert moment < slot <= moment + step
    assert following(slot) == slot + step
    assert following(slot - timedelta(microseconds=1)) == slot


def test_interval_does_not_drift() -> None:
    """A tenth of a second is exact, a million times over."""
    following = next_slot(Cron(every_seconds=Decimal("0.1")))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(1_000):
        moment = following(moment)
    assert moment == datetime(2026, 1, 1, 0, 1, 40, tzinfo=UTC)


# --- expressions -----------------------------------------------------------------------------------------------------


def test_six_fields_have_the_seconds_first() -> None:
    """`10 30 9 * * *` is half past nine and ten seconds."""
    (slot,) = slots("10 30 9 * * *", "UTC", datetime(2026, 1, 1, tzinfo=UTC), 1)
    assert slot == datetime(2026, 1, 1, 9, 30, 10, tzinfo=UTC)


def test_slot_is_strictly_after_the_moment() -> None:
    """Also to the microsecond: a slot is never given twice."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert slots("0 12 * * *", "UTC", noon, 1) == [noon + timedelta(days=1)]
    assert slots("0 12 * * *", "UTC", noon - timedelta(microseconds=1), 1) == [noon]
    assert slots("0 12 * * *", "UTC", noon + timedelta(microseconds=1), 1) == [noon + timedelta(days=1)]


def test_time_in_the_skipped_hour_is_due_once_when_the_clock_has_jumped() -> None:
    """Half past two does not exist on that day; the job is neither lost nor run twice."""
    found = slots("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC), 3)
    assert [wall(slot, "Europe/Berlin") for slot in found] == ["28 02:30:00", "29 03:00:00", "30 02:30:00"]


def test_time_in_the_repeated_hour_is_due_in_its_first_run_only() -> None:
    """Half past two comes twice on that day."""
    found = slots("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert found == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)]


@pytest.mark.parametrize("day", [datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)])
def test_every_hour_means_every_hour_that_passes(day: datetime) -> None:
    """A plugin that looks every ten minutes is not silent for an hour, nor twice as eager, when clocks change."""
    found = slots("*/10 * * * *", "Europe/Berlin", day, 40)
    assert {after - before for before, after in pairwise(found)} == {timedelta(minutes=10)}


@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    minute=st.sampled_from([0, 15, 30, 59]),
    start=MOMENTS,
)
def test_daily_time_is_due_exactly_once_a_day_in_every_zone(zone: str, hour: int, minute: int, start: datetime) -> None:
    """Over 2020 to 2035, across every change of the clocks: each local date once, at that time or right after a gap."""
    found = slots(f"{minute} {hour} * * *", zone, start, 40)
    local = [slot.astimezone(ZoneInfo(zone)) for slot in found]
    assert [(after.date() - before.date()).days for before, after in pairwise(local)] == [1] * 39
    for slot in local:
        if (slot.hour, slot.minute) != (hour, minute):
            wanted = slot.replace(hour=hour, minute=minute, fold=0)
            does_exist = wanted.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(fold=0) == wanted
            assert not does_exist, f"{slot} instead of {wanted}"
            late = slot.replace(tzinfo=None) - wanted.replace(tzinfo=None)
            assert timedelta(0) < late <= timedelta(hours=1)


@settings(max_examples=150, deadline=None)
@given(
    expression=st.sampled_from(
        ["*/20 * * * * *", "0 * * * *", "*/7 3 * * *", "0 0 1 * *", "5 4 * * mon", "0 */3 * * *"]
    ),
    zone=st.sampled_from(ZONES),
    start=MOMENTS,
)
def test_slots_only_go_forward_and_do_not_depend_on_when_they_are_asked_for(
    expression: str, zone: str, start: datetime
) -> None:
    """A restart between two slots finds the same next one: identities of calls rest on that."""
    first, second = slots(expression, zone, start, 2)
    assert start < first < second
    middle = first + (second - first) / 2
    assert slots(expression, zone, middle, 1) == [second]
    assert slots(expression, zone, first - timedelta(microseconds=1), 1) == [first]
    assert first.tzinfo is UTC


@pytest.mark.parametrize(
    "trigger, part",
    [
        (Cron(expression="61 * * * *"), "out of range"),
        (Cron(expression="* * * *"), "4 fields"),
        (Cron(expression="* * * * * * 2030"), "7 fields"),
        (Cron(expression="@reboot"), "1 fields"),
        (Cron(expression="0 0 30 2 *"), "failed to find next date"),
        (Cron(expression="R R * * *"), "random"),
        (Cron(expression="H(0-5) * * * *"), "random"),
        (Cron(expression="no at all * * *"), "bad cron expression 'no at all * * *'"),
        (Cron(expression="* * * * *", timezone="Europe/Bielefeld"), "unknown time zone 'Europe/Bielefeld'"),
        (Cron(expression="* * * * *", timezone="../../etc/passwd"), "use an IANA name such as Europe/Berlin"),
        (Cron(expression="* * * * *", timezone="Europe"), "unknown time zone"),
    ],
)
def test_trigger_that_names_no_time_is_refused(trigger: Cron, part: str) -> None:
    """With what is allowed."""
    with pytest.raises(ScheduleError) as caught:
        check(trigger)
    assert part in str(caught.value)
    assert "use an IANA name" in str(caught.value) or "five fields" in str(caught.value)


@pytest.mark.parametrize(
    "trigger",
    [Cron(expression="0 12 * mar thu"), Cron(expression="0 0 l * *"), Cron(every_seconds=1), Event(topic="flow")],
)
def test_ordinary_trigger_passes(trigger: Cron | Event) -> None:
    """Names of days and months, the last of a month, intervals, events."""
    check(trigger)


@pytest.mark.parametrize(
    "trigger, key",
    [
        (Cron(every_seconds=10), "every 10 s"),
        (Cron(every_seconds=Decimal("10.0")), "every 10 s"),
        (Cron(every_seconds=0.25), "every 0.25 s"),
        (Cron(expression="0 9 * * *", timezone="Europe/Berlin"), "cron 0 9 * * * Europe/Berlin"),
    ],
)
def test_key_is_stable(trigger: Cron, key: str) -> None:
    """It names the cursor and the calls of former runs: it must not change with how a number is written."""
    assert key_of(trigger) == key

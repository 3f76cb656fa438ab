"""Every change of the clocks from 2020 to 2035 in seven zones, with zoneinfo as the judge, which croniter does not use.

An expression that names hours is about the wall clock: what falls into a skipped time is due once, at its end, and what
falls into a repeated time is due in its first run. One that says every hour is about the hours that pass.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from protocol.triggers import Cron
from runnerd.triggers.schedule import next_slot

ZONES = {
    "Europe/Berlin": 32,
    "America/New_York": 32,
    "Australia/Lord_Howe": 32,  # by half an hour
    "America/Santiago": 32,  # at midnight
    "Asia/Tehran": 6,  # at midnight, and given up in 2022
    "Africa/Casablanca": 34,  # twice a year beside the usual, for Ramadan
    "America/Sao_Paulo": 0,  # given up in 2019
}
"""With how many changes there are, so that none of them goes unseen."""

BEGIN, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
AROUND = 3 * HOUR


@cache
def changes(zone: ZoneInfo) -> list[datetime]:
    """The moments at which the offset to UTC changes."""
    found = []
    moment = BEGIN
    while moment < END:
        if moment.astimezone(zone).utcoffset() != (moment + HOUR).astimezone(zone).utcoffset():
            first = moment
            while first.astimezone(zone).utcoffset() == moment.astimezone(zone).utcoffset():
                first += MINUTE
            found.append(first)
        moment += HOUR
    return found


def slots(expression: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """Those after `begin`, until `end`."""
    after = next_slot(Cron(expression=expression, timezone=zone.key))
    found, slot = [], after(begin)
    while slot <= end:
        found.append(slot)
        slot = after(slot)
    return found


@lru_cache(maxsize=1)
def dues(zone: ZoneInfo, change: datetime) -> list[tuple[datetime, datetime]]:
    """Every minute of the wall clock around a change, and when it is due, by zoneinfo alone."""
    begin, end = change - AROUND, change + AROUND
    found = []
    wall = (begin - 2 * HOUR).astimezone(zone).replace(tzinfo=None, fold=0)
    last = (end + 2 * HOUR).astimezone(zone).replace(tzinfo=None, fold=0)
    while wall <= last:
        moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        does_exist = moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall
        found.append((wall, moment if does_exist else change))
        wall += MINUTE
    return found


def judged(wanted: Callable[[datetime], bool], zone: ZoneInfo, change: datetime) -> list[datetime]:
    """When wall times that are wanted are due."""
    begin, end = change - AROUND, change + AROUND
    return sorted({due for wall, due in dues(zone, change) if begin < due <= end and wanted(wall)})


def passing(wanted: Callable[[datetime], bool], zone: ZoneInfo, change: datetime) -> list[datetime]:
    """The minutes that pass at which the clock on the wall shows a time that is wanted; and the end of a skipped time,
    if one is in it, of an hour that is not skipped as a whole.
    """
    minutes = [change - AROUND + n * MINUTE for n in range(1, 2 * (AROUND // MINUTE) + 1)]
    found = [moment for moment in minutes if wanted(moment.astimezone(zone))]
    last, first = ((change - step).astimezone(zone).replace(tzinfo=None) for step in (MINUTE, 0 * MINUTE))
    skipped = [last + n * MINUTE for n in range(1, (first - last) // MINUTE)]
    if any(wanted(wall) and wall.hour in (last.hour, first.hour) for wall in skipped):
        found.append(change)
    return sorted(set(found))


@pytest.mark.parametrize("key", ZONES)
def test_times_of_the_wall_clock_at_every_change(key: str) -> None:
    """Single times, several in an hour, several hours, and days: as judged."""
    zone = ZoneInfo(key)
    found = changes(zone)
    assert len(found) == ZONES[key]
    for change in found:
        seen = {(change + n * 30 * MINUTE).astimezone(zone).hour for n in range(-4, 5)}
        for hour in sorted(seen | {((change - MINUTE).astimezone(zone).hour + 1) % 24}):  # the one that may be skipped
            for minutes, wanted in (
                ("0", {0}), ("15", {15}), ("30", {30}), ("59", {59}), ("*/20", {0, 20, 40}), ("10-12", {10, 11, 12}),
            ):  # fmt: skip

                def is_wanted(wall: datetime, hour: int = hour, wanted: set[int] = wanted) -> bool:
                    return wall.hour == hour and wall.minute in wanted

                expression = f"{minutes} {hour} * * *"
                assert slots(expression, zone, change - AROUND, change + AROUND) == judged(is_wanted, zone, change), (
                    f"{expression} around {change}"
                )
        even = judged(lambda wall: wall.hour % 2 == 0 and wall.minute == 5, zone, change)
        assert slots("5 */2 * * *", zone, change - AROUND, change + AROUND) == even, f"every two hours around {change}"
        first = judged(lambda wall: 0 <= wall.hour <= 3 and wall.minute == 30, zone, change)
        assert slots("0 30 0-3 * * *", zone, change - AROUND, change + AROUND) == first, f"a range around {change}"


@pytest.mark.parametrize("key", ZONES)
def test_every_hour_at_every_change(key: str) -> None:
    """Each time that the wall clock shows it: in both runs of what is repeated. An hour that is skipped in part is one
    that passes: what falls into that part is due once, at its end. It is the same however every hour is written.
    """
    zone = ZoneInfo(key)
    for change in changes(zone):
        for minutes, wanted in (("0", {0}), ("45", {45}), ("*/10", set(range(0, 60, 10))), ("*", set(range(60)))):

            def is_wanted(wall: datetime, wanted: set[int] = wanted) -> bool:
                return wall.minute in wanted

            expected = passing(is_wanted, zone, change)
            for hours in ("*", "*/1", "0-23") if minutes == "0" else ("*",):
                expression = f"{minutes} {hours} * * *"
                assert slots(expression, zone, change - AROUND, change + AROUND) == expected, (
                    f"{expression} around {change}"
                )


def test_no_hour_of_lord_howe_is_left_out() -> None:
    """Half an hour is skipped there, and with it the beginning of an hour: it is made up for at once."""
    zone = ZoneInfo("Australia/Lord_Howe")
    for change in changes(zone):
        if change.astimezone(zone).dst() == timedelta(0):
            continue  # it is autumn
        found = slots("0 * * * *", zone, change - AROUND, change + AROUND)
        assert change in found
        assert max(after - before for before, after in pairwise(found)) == HOUR

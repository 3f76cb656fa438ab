"""What becomes of slots that have passed: against a judge that lists them all."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.triggers import MAX_MADE_UP, Cron, Misfire
from runnerd.triggers.misfire import MAX_COUNTED, settle
from runnerd.triggers.schedule import Times, times_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICIES: tuple[Misfire, ...] = ("skip", "once", "all")


def times(trigger: Cron) -> Times:
    return times_of("alpha", "key", trigger)


def listed(its: Times, first: datetime, now: datetime) -> list[datetime]:
    """All slots from `first` on whose time to be fired has come."""
    found, slot = [], first
    while slot <= now:
        if its.fire_at(slot) <= now:
            found.append(slot)
        slot = its.after(slot)
    return found


@settings(max_examples=200)
@given(
    misfire=st.sampled_from(POLICIES),
    every_s=st.sampled_from([Decimal("0.05"), Decimal(1), Decimal(60), Decimal(3_600)]),
    jitter=st.sampled_from([Decimal(0), Decimal("0.5"), Decimal(2)]),
    slots=st.integers(0, MAX_COUNTED - 1),
    part=st.floats(0, 0.999),
    is_gap=st.booleans(),
)
def test_slots_of_a_gap_are_made_up_for_counted_or_still_to_come(
    misfire: Misfire, every_s: Decimal, jitter: Decimal, slots: int, part: float, is_gap: bool
) -> None:
    """Each is in exactly one of these; what is made up are the newest, oldest first."""
    its = times(Cron(every_seconds=every_s, jitter_s=jitter * every_s))
    step = timedelta(seconds=float(every_s))
    first = its.after(NOON)
    now = first + step * (slots - 1) + step * part
    passed = listed(its, first, now)
    settled = settle(misfire, its, first, now, is_gap=is_gap)
    assert len(settled.made) + settled.missed == len(passed)
    assert settled.following == (its.after(passed[-1]) if passed else first)
    assert its.fire_at(settled.following) > now
    match misfire:
        case "skip":
            assert list(settled.made) == ([] if is_gap else passed[:1])
        case "once":
            assert list(settled.made) == passed[-1:]
        case "all":
            assert list(settled.made) == passed[-MAX_MADE_UP:]


@pytest.mark.parametrize(
    "trigger, downtime",
    [
        (Cron(every_seconds=0.05), timedelta(days=3)),
        (Cron(every_seconds=1), timedelta(days=365)),
        (Cron(every_seconds=1, jitter_s=1), timedelta(days=30)),
        (Cron(expression="* * * * *"), timedelta(days=2)),
        (Cron(expression="* 9 1 * *"), timedelta(days=900)),
        (Cron(expression="*/2 * * * * *", timezone="Europe/Berlin"), timedelta(days=1)),
    ],
    ids=str,
)
def test_long_downtime_makes_up_for_the_newest_and_goes_on_at_once(trigger: Cron, downtime: timedelta) -> None:
    """More than is ever counted: the newest hundred, without a look at each of the others."""
    its = times(trigger)
    now = NOON + 0.4 * SECOND
    settled = settle("all", its, its.after(now - downtime), now, is_gap=True)
    assert len(settled.made) == MAX_MADE_UP
    assert settled.made == tuple(sorted(set(settled.made)))
    for before, after in zip(settled.made, [*settled.made[1:], settled.following], strict=True):
        assert its.after(before) == after, "none is left out"
    assert its.fire_at(settled.made[-1]) <= now < its.fire_at(settled.following)
    assert settled.missed == MAX_COUNTED - MAX_MADE_UP
    assert settle("once", its, its.after(now - downtime), now, is_gap=True).made == settled.made[-1:]
    assert settle("skip", its, its.after(now - downtime), now, is_gap=True).made == ()


@given(
    every_s=st.sampled_from([Decimal("0.05"), Decimal(1), Decimal(3_600)]),
    jitter_s=st.decimals(Decimal("0.001"), Decimal(86_400), places=3),
    plugin=st.sampled_from(["alpha", "beta"]),
    start=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_jitter_is_the_slots_own_and_ends_before_the_next_slot(
    every_s: Decimal, jitter_s: Decimal, plugin: str, start: datetime
) -> None:
    """The same whenever and in whichever process it is asked for; never so long that two slots change places."""
    trigger = Cron(every_seconds=every_s, jitter_s=jitter_s)
    its, again = times_of(plugin, "key", trigger), times_of(plugin, "key", trigger)
    slot = its.after(start)
    for _ in range(20):
        fire_at = its.fire_at(slot)
        assert slot <= fire_at < min(slot + timedelta(seconds=float(jitter_s)), its.after(slot))
        assert again.fire_at(slot) == fire_at
        slot = its.after(slot)


def test_jitter_uses_all_of_its_time_and_differs_from_plugin_to_plugin() -> None:
    """Two that are due at once are not called at once, day after day."""
    trigger = Cron(every_seconds=60, jitter_s=10)
    delays = {}
    for plugin in ("alpha", "beta"):
        its = times_of(plugin, "key", trigger)
        slots = [NOON + n * timedelta(minutes=1) for n in range(1_000)]
        delays[plugin] = [(its.fire_at(slot) - slot).total_seconds() for slot in slots]
        assert min(delays[plugin]) < 0.2
        assert max(delays[plugin]) > 9.8
        assert 4.5 < sum(delays[plugin]) / 1_000 < 5.5
    assert sum(abs(a - b) < 0.1 for a, b in zip(*delays.values(), strict=True)) < 60


def test_without_jitter_a_slot_is_fired_at_its_time() -> None:
    """Exactly."""
    its = times(Cron(every_seconds=1))
    assert its.fire_at(NOON) == NOON

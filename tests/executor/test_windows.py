"""Rolling sums against a naive reference: every amount in a list, added up anew at each question."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runnerd.executor.windows import DAY_S, HOUR_S, Measure, Meter, Windows

START = datetime(2026, 1, 1, tzinfo=UTC)
VAULT_HOUR = Meter(Measure.TRANSACTIONS, ("vault", "main"), HOUR_S)
VAULT_DAY = Meter(Measure.TRANSACTIONS, ("vault", "main"), DAY_S)
VALUE_DAY = Meter(Measure.VALUE, ("vault", "main"), DAY_S)
GAS_DAY = Meter(Measure.GAS, ("plugin", "alpha"), DAY_S)
METERS = (VAULT_HOUR, VAULT_DAY, VALUE_DAY, GAS_DAY)


@pytest.mark.parametrize("meter", [VAULT_HOUR, VAULT_DAY])
def test_an_amount_counts_until_it_is_as_old_as_the_window(meter: Meter) -> None:
    """To the microsecond: at exactly the window's length it is gone."""
    windows, length = Windows(), timedelta(seconds=meter.window_s)
    windows.put([meter], 1, 5, START)
    assert windows.total(meter, START + length - timedelta(microseconds=1)) == 5
    assert windows.total(meter, START + length) == 0


def test_what_is_given_back_after_it_was_forgotten_is_not_given_twice() -> None:
    """An intent that ends the next day leaves no room for more."""
    windows = Windows()
    windows.put([VALUE_DAY], 1, 100, START)
    windows.put([VALUE_DAY], 2, 30, START + timedelta(hours=20))
    assert windows.total(VALUE_DAY, START + timedelta(hours=25)) == 30
    windows.give_back(1, frozenset(Measure))
    windows.settle(Measure.VALUE, 1, 1_000)
    assert windows.total(VALUE_DAY, START + timedelta(hours=25)) == 30


def test_what_has_ended_and_is_forgotten_takes_no_memory() -> None:
    """A plugin that acts for years must not fill the supervisor."""
    windows = Windows()
    for call_id in range(1_000):
        windows.put(METERS, call_id, 1, START + timedelta(seconds=call_id))
    for meter in METERS:
        assert windows.total(meter, START + timedelta(days=2)) == 0
    assert windows._meters_of == {}
    assert [len(window._amounts) for window in windows._windows.values()] == [0] * len(METERS)


@dataclass(frozen=True)
class Entry:
    """What the reference keeps."""

    meter: Meter
    call_id: int
    amount: int
    at: datetime


amounts = st.integers(0, 1 << 256)
call_ids = st.integers(0, 6)
some_meters = st.lists(st.sampled_from(METERS), unique=True)


class AgainstReference(RuleBasedStateMachine):
    """Any order of what the shell may do, with time that goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = Windows()
        self.entries: list[Entry] = []
        self.now = START

    @rule(step=st.sampled_from([0, 1, 1_799, 1_800, 3_599, 3_600, 43_200, 86_399, 86_400]))
    def time_goes_on(self, step: int) -> None:
        """By steps that meet the ends of windows."""
        self.now += timedelta(seconds=step)
        self._forget()

    @rule(meters=some_meters, call_id=call_ids, amount=amounts)
    def put(self, meters: list[Meter], call_id: int, amount: int) -> None:
        """A call that has something there keeps its time."""
        self.windows.put(meters, call_id, amount, self.now)
        for meter in meters:
            known = [e for e in self.entries if (e.meter, e.call_id) == (meter, call_id)]
            self.entries = [e for e in self.entries if e not in known]
            self.entries.append(Entry(meter, call_id, amount, known[0].at if known else self.now))

    @rule(measure=st.sampled_from(Measure), call_id=call_ids, amount=amounts)
    def settle(self, measure: Measure, call_id: int, amount: int) -> None:
        """Gas that was paid in place of gas that was reserved."""
        self.windows.settle(measure, call_id, amount)
        self.entries = [
            replace(e, amount=amount) if (e.meter.measure, e.call_id) == (measure, call_id) else e for e in self.entries
        ]

    @rule(measures=st.frozensets(st.sampled_from(Measure)), call_id=call_ids)
    def give_back(self, measures: frozenset[Measure], call_id: int) -> None:
        """It ended without effect."""
        self.windows.give_back(call_id, measures)
        self.entries = [e for e in self.entries if e.call_id != call_id or e.meter.measure not in measures]

    @invariant()
    def sums_are_those_of_the_reference(self) -> None:
        """Of each meter, and beside each call."""
        for meter in METERS:
            mine = [e for e in self.entries if e.meter == meter]
            assert self.windows.total(meter, self.now) == sum(e.amount for e in mine)
            for call_id in range(7):
                beside = sum(e.amount for e in mine if e.call_id != call_id)
                assert self.windows.total(meter, self.now, beside=call_id) == beside

    def _forget(self) -> None:
        self.entries = [e for e in self.entries if e.at > self.now - timedelta(seconds=e.meter.window_s)]


TestAgainstReference = AgainstReference.TestCase


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 400)), max_size=30))
def test_no_hour_ever_holds_more_than_its_limit(requests: list[tuple[int, int]]) -> None:
    """Whoever approves only what fits never lets more than the limit through in any 3,600 seconds."""
    windows, now, limit = Windows(), START, 1_000
    approved: list[tuple[datetime, int]] = []
    for call_id, (pause_s, amount) in enumerate(requests):
        now += timedelta(seconds=pause_s)
        if windows.total(VAULT_HOUR, now) + amount <= limit:
            windows.put([VAULT_HOUR], call_id, amount, now)
            approved.append((now, amount))
    for start, _ in approved:
        end = start + timedelta(hours=1)
        assert sum(amount for at, amount in approved if start <= at < end) <= limit

"""When a metric calls: each crossing once, and not again before the value has come back by the hysteresis."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.read import Read
from protocol.triggers import Metric
from runnerd.triggers.threshold import Level, due_slot, is_due, judge, slot_after

SPOT = Read("spot")


def calls_of(trigger: Metric, values: list[int]) -> list[int]:
    """The values that called, one taken at each block."""
    level, called = Level(), []
    for number, value in enumerate(values):
        level, is_call = judge(trigger, level, value, number)
        called += [value] if is_call else []
    return called


@pytest.mark.parametrize(
    "trigger,values,called",
    [
        (Metric(read=SPOT, above=100), [99, 100, 101, 150, 101, 100, 102], [101, 102]),
        (Metric(read=SPOT, above=100, hysteresis=10), [101, 91, 105, 90, 105, 200], [101, 105]),
        (Metric(read=SPOT, below=100), [100, 99, 50, 100, 98], [99, 98]),
        (Metric(read=SPOT, below=100, hysteresis=10), [99, 109, 98, 110, 97], [99, 97]),
        (Metric(read=SPOT, above=-5), [-5, -4, -5, -6, 0], [-4, 0]),
        (Metric(read=SPOT, change_bps=100), [1_000, 1_009, 1_010, 1_019, 1_000, 999], [1_010, 999]),
        (Metric(read=SPOT, change_bps=100), [1_000, 980, 985, 970], [980, 970]),
        (Metric(read=SPOT, change_bps=100), [0, 0, 1, 1, 2], [1, 2]),
        (Metric(read=SPOT, change_bps=5_000), [-100, -149, -150, -75], [-150, -75]),
    ],
)  # fmt: skip
def test_which_values_call(trigger: Metric, values: list[int], called: list[int]) -> None:
    """In the order in which they come."""
    assert calls_of(trigger, values) == called


@given(st.lists(st.integers(-50, 50)), st.integers(-20, 20), st.integers(0, 10))
def test_between_two_calls_the_value_has_come_back(values: list[int], bound: int, hysteresis: int) -> None:
    """Each call is beyond the bound; between two of them some value is back by the hysteresis."""
    trigger = Metric(read=SPOT, above=bound, hysteresis=hysteresis)
    level, since = Level(), [bound - hysteresis]
    for number, value in enumerate(values):
        level, is_call = judge(trigger, level, value, number)
        if is_call:
            assert value > bound
            assert min(since) <= bound - hysteresis
            since = []
        elif value > bound:
            assert min(since, default=value) > bound - hysteresis, "it had come back, and did not call"
        since.append(value)


def test_every_blocks_is_passed_not_met() -> None:
    """Heads may jump over the multiple."""
    trigger = Metric(read=SPOT, above=0, every_blocks=10)
    level = Level(number=19)
    assert [number for number in (19, 20, 23, 41) if is_due(trigger, level, number)] == [20, 23, 41]
    assert is_due(trigger, Level(), 0)


def test_a_slot_is_due_once_and_only_the_newest() -> None:
    """Multiples since the epoch; a clock that is set back a little is waited for, by much it begins anew."""
    trigger, noon = Metric(read=SPOT, above=0, every_seconds=15), datetime(2026, 1, 1, 12, tzinfo=UTC)

    def due(level: Level, seconds: float) -> float | None:
        slot = due_slot(trigger, level, noon + timedelta(seconds=seconds))
        return None if slot is None else (slot - noon).total_seconds()

    assert [due(Level(), seconds) for seconds in (0, 14.999, 15)] == [0, 0, 15]
    taken = Level(slot=noon + timedelta(seconds=15))
    assert [due(taken, seconds) for seconds in (15, 29.9, 30, 100, -20, -46)] == [None, None, 30, 90, None, -60]
    assert slot_after(trigger, noon) == noon + timedelta(seconds=15)

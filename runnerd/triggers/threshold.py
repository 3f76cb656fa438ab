"""When a metric trigger takes its value, and calls: one that crosses a bound, or has changed by so much. Pure.

The state is kept over restarts, so that a crossing calls once. There is none before the first value: one that is beyond
the bound then calls, as if it had just crossed it; and a change is counted from that value on.
"""

from datetime import datetime, timedelta

import msgspec

from protocol.triggers import Cron, Metric
from runnerd.triggers.schedule import next_slot

WHOLE_BPS = 10_000
MAX_WAIT_AFTER_SETBACK_S = 60.0
"""As of cron: a clock that is set back by less is waited for, by more it begins anew."""


class Level(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of the value's past."""

    number: int = -1
    """The block at which it was taken last."""
    is_armed: bool = True
    """False after a call for a bound, until the value has come back by the hysteresis."""
    base: int | None = None
    """What a change is counted from: the first value, then that of the last call."""
    slot: datetime | None = None
    """The time for which it was taken last, of a trigger with `every_seconds`."""


def is_due(trigger: Metric, level: Level, number: int) -> bool:
    """Whether the value is to be taken at block `number`: a multiple of `every_blocks` has come."""
    return number // trigger.every_blocks > level.number // trigger.every_blocks


def due_slot(trigger: Metric, level: Level, now: datetime) -> datetime | None:
    """The time for which the value is to be taken at `now`: the newest that has come, if it was not taken for that.

    Of those that passed while nobody could take it only the newest counts: a value of then is not to be had any more.
    """
    slot = slot_after(trigger, now - interval_of(trigger))
    if level.slot is None or level.slot < slot:
        return slot
    return slot if (level.slot - now).total_seconds() > MAX_WAIT_AFTER_SETBACK_S else None


def slot_after(trigger: Metric, moment: datetime) -> datetime:
    """The next time for which the value is to be taken: multiples of `every_seconds` since the Unix epoch."""
    return next_slot(Cron(every_seconds=trigger.every_seconds))(moment)


def interval_of(trigger: Metric) -> timedelta:
    """`every_seconds`."""
    return timedelta(milliseconds=int((trigger.every_seconds or 0) * 1_000))


def judge(trigger: Metric, level: Level, value: int, number: int) -> tuple[Level, bool]:
    """What is known once it was `value` at block `number`, and whether that calls."""
    if trigger.change_bps is not None:
        base = level.base
        moved = base is not None and value != base
        is_call = moved and abs(value - (base or 0)) * WHOLE_BPS >= trigger.change_bps * abs(base or 0)
        return Level(number=number, base=value if is_call or base is None else base), is_call
    # Below a bound is above it in a mirror.
    sign, bound = (1, trigger.above) if trigger.above is not None else (-1, trigger.below)
    distance = sign * (value - (bound or 0))
    is_call = level.is_armed and distance > 0
    is_armed = distance <= -trigger.hysteresis or (level.is_armed and distance <= 0)
    return Level(number=number, is_armed=is_armed), is_call

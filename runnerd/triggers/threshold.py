"""When a metric trigger calls: for a value that crosses a bound, or that has changed by so much. Pure.

The state is kept over restarts, so that a crossing calls once. There is none before the first value: one that is beyond
the bound then calls, as if it had just crossed it; and a change is counted from that value on.
"""

import msgspec

from protocol.triggers import Metric

WHOLE_BPS = 10_000


class Level(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of the value's past."""

    number: int = -1
    """The block at which it was taken last."""
    is_armed: bool = True
    """False after a call for a bound, until the value has come back by the hysteresis."""
    base: int | None = None
    """What a change is counted from: the first value, then that of the last call."""


def is_due(trigger: Metric, level: Level, number: int) -> bool:
    """Whether the value is to be taken at block `number`: a multiple of `every_blocks` has come."""
    return number // trigger.every_blocks > level.number // trigger.every_blocks


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

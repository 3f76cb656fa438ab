"""Seconds between two times: exact, in one writing, and bounded. Triggers that come by the clock share it."""

from decimal import Decimal

MIN_INTERVAL_S = Decimal("0.05")
MAX_INTERVAL_S = Decimal(366 * 86_400)
INTERVAL_RULE = f"every_seconds must be {MIN_INTERVAL_S} to {MAX_INTERVAL_S}, in whole milliseconds"

MILLISECOND = Decimal("0.001")


def exact_interval(every_seconds: object) -> Decimal:
    """The exact interval, in its shortest writing: plugins give integers, floats or text, the wire gives text.

    Raises ValueError.
    """
    try:
        interval = Decimal(str(every_seconds))
        is_allowed = MIN_INTERVAL_S <= interval <= MAX_INTERVAL_S and interval == interval.quantize(MILLISECOND)
        shortest = interval.quantize(MILLISECOND).normalize() if is_allowed else None
    except ArithmeticError:  # not a number, or NaN: hostile text must not raise anything else (`Decimal` does)
        raise ValueError(INTERVAL_RULE) from None
    if shortest is None:
        raise ValueError(INTERVAL_RULE)
    return shortest if shortest % 1 else Decimal(int(shortest))

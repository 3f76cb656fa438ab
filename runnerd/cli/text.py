"""Amounts and times in the words of an operator. All functions are pure."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

GWEI: Final = Decimal(10**9)
ETHER: Final = Decimal(10**18)
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400
_KIB: Final = 1_024


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min`, `5 h 20 min`, `3 d 4 h`: two units at most, rounded down."""
    seconds = max(0.0, seconds)
    whole = int(seconds)
    if whole < 1:
        return f"{int(seconds * 10) / 10:g} s"
    if whole < 2 * _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    large, small, size, part = (
        (whole // _DAY_S, whole % _DAY_S // _HOUR_S, "d", "h")
        if whole >= _DAY_S
        else (whole // _HOUR_S, whole % _HOUR_S // _MINUTE_S, "h", "min")
    )
    return f"{large} {size} {small} {part}" if small else f"{large} {size}"


def milliseconds(amount: float) -> str:
    """`0.8 ms`, `12 ms`, `3.2 s`: three digits are all that one can compare at a glance."""
    return f"{amount / 1_000:.3g} s" if amount >= 1_000 else f"{amount:.2g} ms" if amount < 10 else f"{amount:.0f} ms"


def until(at: datetime, now: datetime) -> str:
    """`in 3 s`, or `now` when it is due."""
    seconds = (at - now).total_seconds()
    return f"in {duration(seconds)}" if seconds >= 0.1 else "now"


def clock_time(at: datetime, now: datetime) -> str:
    """UTC: `05:41:02` on the day of `now`, with the date on any other."""
    at = at.astimezone(UTC)
    return f"{at:%H:%M:%S}" if at.date() == now.astimezone(UTC).date() else f"{at:%Y-%m-%d %H:%M:%S}"


def mebibytes(size_bytes: int) -> str:
    """`3.1 MiB`, `1.2 GiB`."""
    mib = size_bytes / _KIB**2
    return f"{mib:.1f} MiB" if mib < _KIB else f"{mib / _KIB:.1f} GiB"


def gwei(amount_wei: int) -> str:
    """The amount in gwei, to six digits, without the unit."""
    return _number(Decimal(amount_wei) / GWEI)


def ether(amount_wei: int) -> str:
    """`0.05 ether`, `12 gwei`, `3 wei`: the unit in which the amount can be read."""
    if amount_wei == 0:
        return "0"
    if amount_wei >= 10**14:
        return f"{_number(Decimal(amount_wei) / ETHER)} ether"
    if amount_wei >= 10**6:
        return f"{gwei(amount_wei)} gwei"
    return f"{amount_wei} wei"


def exact_ether(amount_wei: int) -> str:
    """`1 ether (1,000,004,999,000,000,000 wei)`: for what is signed, since `ether` rounds."""
    readable = ether(amount_wei)
    return f"{readable} ({amount_wei:,} wei)" if " " in readable and not readable.endswith(" wei") else readable


def _number(amount: Decimal) -> str:
    """Whole digits in full with separators, six significant ones at least, no exponent."""
    digits = max(0, 5 - amount.adjusted()) if amount else 0
    text = f"{amount:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

"""When a cron trigger is due: a pure function of the trigger and a moment. UTC in and out; time zones stay inside.

`every_seconds` slots are multiples since the Unix epoch, so they do not drift and are the same after a restart. All
plugins of one interval are due at once then, unless the operator spreads them.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from croniter.croniter import CroniterError

from protocol.triggers import Cron, Trigger

NextSlot: TypeAlias = Callable[[datetime], datetime]
"""The first slot strictly after a moment."""


@dataclass(frozen=True, slots=True)
class Times:
    """The slots of one trigger of one plugin, and when each is fired: at its time, or later by its jitter."""

    after: NextSlot
    fire_at: Callable[[datetime], datetime]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
WITH_SECONDS = 6
_RANDOM = re.compile(r"[rh](\(|/|$)", re.IGNORECASE)
"""croniter's `R` and `H` pick another time whenever they are asked."""


class ScheduleError(ValueError):
    """The trigger names no time: bad expression or unknown time zone. The text says which and what is allowed; `key` is
    the trigger's key.
    """

    def __init__(self, key: str, text: str) -> None:
        self.key = key
        super().__init__(text)


def key_of(trigger: Cron) -> str:
    """The stable name of a trigger, for its cursor and its calls' identities."""
    if trigger.every_seconds is not None:
        return f"every {trigger.every_seconds.normalize():f} s"
    return f"cron {trigger.expression} {trigger.timezone}"


def check(trigger: Trigger) -> None:
    """Raises ScheduleError when a cron trigger names no time."""
    if isinstance(trigger, Cron):
        next_slot(trigger)


def next_slot(trigger: Cron, phase: timedelta = timedelta(0)) -> NextSlot:
    """The slots of `trigger`, each later by `phase`. Raises ScheduleError."""
    if trigger.every_seconds is not None:
        after = _interval(trigger.every_seconds)
    else:
        after = _expression(trigger.expression or "", trigger.timezone)
    return (lambda moment: after(moment - phase) + phase) if phase else after


def times_of(plugin: str, trigger_key: str, trigger: Cron, spread_s: float = 0.0) -> Times:
    """All of a trigger, as one plugin has it. Raises ScheduleError."""
    after = next_slot(trigger, phase_of(plugin, trigger_key, spread_s))
    longest = timedelta(seconds=float(trigger.jitter_s))
    if not longest:
        return Times(after, _itself)

    def fire_at(slot: datetime) -> datetime:
        # Never as late as the next slot: each is fired in its turn, and at most one waits.
        return slot + part_of(f"{plugin}\0{trigger_key}\0{slot.isoformat()}", min(longest, after(slot) - slot))

    return Times(after, fire_at)


def _itself(slot: datetime) -> datetime:
    return slot


def phase_of(plugin: str, trigger_key: str, spread_s: float) -> timedelta:
    """How much later than its trigger says `plugin` is called: always the same part of `spread_s`, in microseconds.

    From its name alone: it stays over restarts, and does not depend on which other plugins there are.
    """
    return part_of(f"{plugin}\0{trigger_key}", timedelta(seconds=spread_s))


def part_of(name: str, whole: timedelta) -> timedelta:
    """A part of `whole`, less than all of it, that `name` alone decides: as good as random, and always the same."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return timedelta(microseconds=int.from_bytes(digest) * (whole // _MICRO) >> 64)


def _interval(every_seconds: Decimal) -> NextSlot:
    step = int(every_seconds * 1_000_000)

    def after(moment: datetime) -> datetime:
        elapsed = (moment - _EPOCH) // _MICRO
        return _EPOCH + timedelta(microseconds=(elapsed // step + 1) * step)

    return after


def _expression(expression: str, timezone: str) -> NextSlot:
    """Wall time in `timezone`. What falls into the hour that spring skips is due once, when the clock has jumped.

    The hour that autumn repeats has its slots in the first run only, unless the expression says every hour (`*`).
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        text = f"unknown time zone {timezone!r}; use an IANA name such as Europe/Berlin or UTC"
        raise ScheduleError("timezone", text) from None
    columns = expression.split()
    is_second_first = len(columns) == WITH_SECONDS
    is_every_hour = columns[-4:-3] == ["*"]
    try:
        if len(columns) not in (WITH_SECONDS - 1, WITH_SECONDS) or any(map(_RANDOM.match, columns)):
            raise ValueError(f"{len(columns)} fields, or a random one")
        # Asking for a slot as well: "30 February" is well formed, and never comes.
        croniter(expression, datetime(2026, 1, 1, tzinfo=zone), second_at_beginning=is_second_first).get_next()
    except (CroniterError, ValueError) as error:
        raise ScheduleError(
            "expression",
            f"bad cron expression {expression!r}: {error}; five fields (minute hour day month weekday), "
            "or six with seconds first",
        ) from None

    def after(moment: datetime) -> datetime:
        iterator = croniter(expression, moment.astimezone(zone), second_at_beginning=is_second_first, ret_type=datetime)
        while True:
            slot: datetime = iterator.get_next()
            due = slot.astimezone(UTC)
            # croniter fires in both runs of the hour that autumn repeats.
            if due > moment and (is_every_hour or not _is_repeat(slot, zone)):
                return due

    return after


def _is_repeat(slot: datetime, zone: ZoneInfo) -> bool:
    """Whether this wall time happened already, before the clock was set back."""
    first = slot.replace(tzinfo=zone, fold=0)
    return slot.astimezone(UTC) > first.astimezone(UTC)

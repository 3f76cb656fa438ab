"""When a cron trigger is due: a pure function of the trigger and a moment. UTC in and out; time zones stay inside.

`every_seconds` slots are multiples since the Unix epoch, so they do not drift and are the same after a restart. All
plugins of one interval are due at once then, unless the operator spreads them.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
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
    """The slots of one trigger of one plugin, and when each is fired: at its time, or later by the plugin's `phase` and
    the slot's jitter. Its time alone names a slot: what is changed in when it is fired makes it no other one.
    """

    after: NextSlot
    fire_at: Callable[[datetime], datetime]
    phase: timedelta = timedelta(0)

    def coming(self, moment: datetime) -> datetime:
        """The first slot that is fired after `moment`, jitter apart."""
        return self.after(moment - self.phase)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO, _SECOND, _DAY = timedelta(microseconds=1), timedelta(seconds=1), timedelta(days=1)
WITH_SECONDS = 6
HOUR = 1
"""Its place among the fields as croniter has them: seconds come last there."""
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


def next_slot(trigger: Cron) -> NextSlot:
    """The slots of `trigger`. Raises ScheduleError."""
    if trigger.every_seconds is not None:
        return _interval(trigger.every_seconds)
    return _expression(trigger.expression or "", trigger.timezone)


def times_of(plugin: str, trigger_key: str, trigger: Cron, spread_s: float = 0.0) -> Times:
    """All of a trigger, as one plugin has it. Raises ScheduleError."""
    after, phase = next_slot(trigger), phase_of(plugin, trigger_key, spread_s)
    longest = timedelta(seconds=float(trigger.jitter_s))

    def fire_at(slot: datetime) -> datetime:
        if not longest:
            return slot + phase
        # Never as late as the next slot: each is fired in its turn.
        jitter = part_of(f"{plugin}\0{trigger_key}\0{slot.isoformat()}", min(longest, after(slot) - slot))
        return slot + phase + jitter

    return Times(after, fire_at, phase)


def phase_of(plugin: str, trigger_key: str, spread_s: float) -> timedelta:
    """How much later than its slots `plugin` is called: always the same part of `spread_s`, in microseconds.

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

    The hour that autumn repeats has its slots in the first run only, unless the expression says every hour (`*`, or
    what comes to the same). That one has none in an hour that spring skips as a whole: no such hour passes.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        text = f"unknown time zone {timezone!r}; use an IANA name such as Europe/Berlin or UTC"
        raise ScheduleError("timezone", text) from None
    columns = expression.split()
    is_second_first = len(columns) == WITH_SECONDS
    try:
        if len(columns) not in (WITH_SECONDS - 1, WITH_SECONDS) or any(map(_RANDOM.match, columns)):
            raise ValueError(f"{len(columns)} fields, or a random one")
        # Asking for a slot as well: "30 February" is well formed, and never comes.
        croniter(expression, datetime(2026, 1, 1, tzinfo=zone), second_at_beginning=is_second_first).get_next()
        fields, _ = croniter.expand(expression, second_at_beginning=is_second_first)
    except (CroniterError, ValueError) as error:
        raise ScheduleError(
            "expression",
            f"bad cron expression {expression!r}: {error}; five fields (minute hour day month weekday), "
            "or six with seconds first",
        ) from None

    is_every_hour = {"*"} == set(fields[HOUR]) or set(range(24)) <= set(fields[HOUR])

    def walk(begin: datetime) -> Iterator[datetime]:
        return iter(croniter(expression, begin, second_at_beginning=is_second_first, ret_type=datetime))

    def after(moment: datetime) -> datetime:
        # croniter fires in both runs of the hour that autumn repeats.
        slots = (slot for slot in walk(moment.astimezone(zone)) if is_every_hour or not _is_repeat(slot, zone))
        due = next(due for due in (slot.astimezone(UTC) for slot in slots) if due > moment)
        if not is_every_hour or _is_even(moment, due, zone):
            return due
        # And, of every hour, croniter leaves out what falls into a skipped time.
        wall = next(walk(moment.astimezone(zone).replace(tzinfo=None)))
        gap_end = _gap_end(wall, zone)
        return min(due, gap_end) if gap_end is not None else due

    return after


def _is_even(moment: datetime, due: datetime, zone: ZoneInfo) -> bool:
    """Whether no time is skipped between the two: nobody changes the clocks twice in a day."""
    return due - moment < _DAY and moment.astimezone(zone).utcoffset() == due.astimezone(zone).utcoffset()


def _gap_end(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """When the clocks are done with skipping this wall time, if they skip it, but not all of its hour."""
    before, after = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    if before.astimezone(zone).utcoffset() == after.astimezone(zone).utcoffset() or before >= after:
        return None
    # PEP 495: a wall time that does not exist, read by the offset from after the change, is a moment before it.
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        is_before = middle.astimezone(zone).utcoffset() == before.astimezone(zone).utcoffset()
        before, after = (middle, after) if is_before else (before, middle)
    end = after.replace(microsecond=0)
    hours = {moment.astimezone(zone).replace(tzinfo=None).hour for moment in (end - _SECOND, end)}
    return end if wall.hour in hours else None


def _is_repeat(slot: datetime, zone: ZoneInfo) -> bool:
    """Whether this wall time happened already, before the clock was set back."""
    first = slot.replace(tzinfo=zone, fold=0)
    return slot.astimezone(UTC) > first.astimezone(UTC)

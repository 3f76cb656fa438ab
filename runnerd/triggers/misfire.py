"""What becomes of slots whose time has come, or has long passed: a pure function of schedule, policy and moment.

`cron` asks at each turn, and when a plugin is heard of after a downtime or is out of quarantine.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from protocol.triggers import MAX_MADE_UP, Misfire
from runnerd.triggers.schedule import Times

MAX_COUNTED: Final = 1_000
"""After a long downtime the exact number of missed slots is of no use, and counting holds the loop."""

_FIRST_SPAN: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Settled:
    """What to fire, oldest first; how many slots were missed; and the first one whose time has not come."""

    made: tuple[datetime, ...]
    missed: int
    following: datetime


def settle(misfire: Misfire, times: Times, first: datetime, now: datetime, *, is_gap: bool) -> Settled:
    """Of the slot `first` and those after it that were to be fired until `now`.

    `is_gap`: nobody could have fired any of them. Otherwise the first has just come, and is fired though it is late.
    """
    passed, following = _passed(times, first, now, MAX_COUNTED)
    newest = passed[-MAX_MADE_UP:]
    if len(passed) == MAX_COUNTED and times.fire_at(following) <= now:
        newest = _newest(times, following, now, MAX_MADE_UP)
        following = times.after(newest[-1])
    made = {"skip": [] if is_gap else passed[:1], "once": newest[-1:], "all": newest}[misfire]
    return Settled(tuple(made), len(passed) - len(made), following)


def _passed(times: Times, first: datetime, now: datetime, most: int) -> tuple[list[datetime], datetime]:
    """The slots from `first` on that were to be fired until `now`, `most` of them; and the one behind them."""
    found: list[datetime] = []
    slot = first
    while len(found) < most and times.fire_at(slot) <= now:
        found.append(slot)
        slot = times.after(slot)
    return found, slot


def _newest(times: Times, first: datetime, now: datetime, count: int) -> list[datetime]:
    """The last `count` slots from `first` on that were to be fired until `now`, or fewer if there are not so many.

    Looked for in a span before `now` that doubles until it holds enough, and halves again when it holds far too many.
    """
    most = 2 * count
    few, much, span = timedelta(0), None, _FIRST_SPAN
    while True:
        begin = max(first, times.coming(now - span))
        found, _ = _passed(times, begin, now, most + 1)
        if len(found) > most:
            much = span
        elif len(found) >= count or begin == first:
            return found[-count:]
        else:
            few = span
        span = span * 2 if much is None else few + (much - few) / 2

"""What the cron producer keeps of each trigger, and what it fires at once. Values only; `cron` moves them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from protocol.messages import TriggerKind
from protocol.triggers import Cron
from runnerd.store.calls import NewCall
from runnerd.triggers.schedule import Times

MAX_GROUP: Final = 128
"""Slots in one commit, but for those of one trigger, which are never parted: they have one cursor. When a thousand are
due at once, the first are decided while the last are committed."""


@dataclass(order=True, slots=True)
class Entry:
    """One trigger of one plugin in the heap, by when it is fired next."""

    fire_at: datetime
    slot: datetime = field(compare=False)
    plugin: str = field(compare=False)
    key: str = field(compare=False)
    times: Times = field(compare=False)
    trigger: Cron = field(compare=False)
    call_deadline: timedelta = field(compare=False)
    skipped: int = field(default=0, compare=False)
    """Slots in a row that passed while the plugin was quarantined, and are not made up for."""
    unfired: datetime | None = field(default=None, compare=False)
    """The first of the slots before `slot` that are to be made up for. The cursor in the ledger is before it."""
    is_forgotten: bool = field(default=False, compare=False)
    """It is in the heap still, and is dropped when it comes to the top: nobody looks through the heap for it."""

    @property
    def has_gaps(self) -> bool:
        """Whether slots that pass are made up for."""
        return self.trigger.misfire != "skip"

    def go_on(self, times: Times, trigger: Cron, call_deadline: timedelta, now: datetime) -> None:
        """The same trigger was declared in another way: its next slot stays its next, and what is due is due still."""
        self.times, self.trigger, self.call_deadline = times, trigger, call_deadline
        self.move_to(self.slot)
        if self.unfired is not None:
            self.fire_at = now

    def move_to(self, slot: datetime) -> None:
        """`slot` is its next."""
        self.slot, self.fire_at = slot, self.times.fire_at(slot)


@dataclass(frozen=True, slots=True)
class Due:
    """Slots of one trigger that are fired now, together with its cursor."""

    entry: Entry
    slots: tuple[datetime, ...]
    is_made_up: bool


def in_groups(due: Sequence[Due]) -> Iterator[list[Due]]:
    """Each for one commit."""
    group: list[Due] = []
    size = 0
    for one in due:
        if group and size + len(one.slots) > MAX_GROUP:
            yield group
            group, size = [], 0
        group.append(one)
        size += len(one.slots)
    if group:
        yield group


def call_of(due: Due, slot: datetime, now: datetime) -> NewCall:
    """Named by its slot, whenever it is fired: a second one of the same slot is impossible."""
    entry = due.entry
    return NewCall(
        plugin=entry.plugin,
        trigger=TriggerKind.CRON,
        identity=f"{entry.key} @ {slot.isoformat()}",
        principal="schedule",
        due_at=slot,
        fired_at=now,
        deadline_at=now + entry.call_deadline,
        source=entry.key,
        job=entry.trigger.job,
        overlap=entry.trigger.overlap,
        is_owed=due.is_made_up,
    )

"""Fires cron triggers: one heap of due times for all plugins, one alarm for the earliest of them.

A slot is a JobCall with an identity of its own, committed with the trigger's cursor: it can neither be lost by a crash
between the two nor fire twice. Slots that passed while nobody could fire them, or while their plugin was quarantined,
are counted, not replayed.
"""

import asyncio
import heapq
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from protocol.messages import TriggerKind
from protocol.triggers import Cron, Trigger
from runnerd.clock import Clock
from runnerd.log import fields
from runnerd.services.metrics import Metrics
from runnerd.store import calls
from runnerd.store.calls import NewCall
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.triggers.alarm import Alarm
from runnerd.triggers.cursors import Cursors
from runnerd.triggers.errors import ProducerBroken
from runnerd.triggers.producer import Submit, Terms
from runnerd.triggers.schedule import NextSlot, ScheduleError, next_slot, phase_of
from runnerd.triggers.source import source_of

logger = logging.getLogger("runnerd.cron")

AFTER_FAILURE_S = 1.0
MAX_WAIT_AFTER_SETBACK_S = 60.0
"""A clock that is set back by less has drifted: each slot waits until the clock is where it was, and none comes twice.
By more, it was wrong and is right now: waiting an hour or a day for it would leave the plugins without any tick."""
MAX_COUNTED = 1_000
"""After a long downtime the exact number of missed slots is of no use, and counting holds the loop."""
MAX_GROUP = 128
"""Slots in one commit. When a thousand are due at once, the first are decided while the last are committed."""


@dataclass(order=True, slots=True)
class _Entry:
    due_at: datetime
    plugin: str = field(compare=False)
    key: str = field(compare=False)
    after: NextSlot = field(compare=False)
    trigger: Cron = field(compare=False)
    call_deadline: timedelta = field(compare=False)
    skipped: int = field(default=0, compare=False)
    """Slots in a row that passed while the plugin was quarantined."""
    is_forgotten: bool = field(default=False, compare=False)
    """It is in the heap still, and is dropped when it comes to the top: nobody looks through the heap for it."""


@dataclass(slots=True)
class _Declared:
    """What a plugin has declared, and its entries in the heap."""

    triggers: dict[str, Cron]
    spread_s: float
    entries: list[_Entry] = field(default_factory=list)


class CronProducer:
    """A Producer that owns the heap."""

    name = "cron"

    def __init__(self, router: Submit, store: Ledger, metrics: Metrics, clock: Clock, alarm: Alarm) -> None:
        self._router = router
        self._cursors = Cursors(store)
        self._metrics = metrics
        self._clock = clock
        self._alarm = alarm
        self._heap: list[_Entry] = []
        self._forgotten = 0
        self._declared: dict[str, _Declared] = {}
        self._latest = datetime.min.replace(tzinfo=UTC)

    def serves(self, trigger: Trigger) -> bool:
        """All that is due at a time."""
        return isinstance(trigger, Cron)

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        """Schedule exactly these triggers for `plugin`. Raises ProducerBroken for the first that names no time.

        `terms.spread_s`: each slot comes later by a part of this that is the plugin's own (`schedule.phase_of`).
        """
        crons = {source_of(trigger): trigger for trigger in triggers if isinstance(trigger, Cron)}
        spread_s = terms.spread_s
        declared = _Declared(crons, spread_s)
        before = self._declared.get(plugin)
        if before is not None and (before.triggers, before.spread_s) == (declared.triggers, spread_s):
            for entry in before.entries:
                entry.call_deadline = terms.call_deadline
            return
        try:
            slots = {key: next_slot(trigger, phase_of(plugin, key, spread_s)) for key, trigger in crons.items()}
        except ScheduleError as error:
            raise ProducerBroken(str(error)) from error
        self.forget(plugin)
        self._declared[plugin] = declared
        now = self._clock.now()
        for key, after in slots.items():
            await self._report_gap(plugin, key, after, now)
        if self._declared.get(plugin) is not declared:  # declared anew, or forgotten, while the ledger was asked
            return
        for key, after in slots.items():
            entry = _Entry(after(now), plugin, key, after, crons[key], terms.call_deadline)
            declared.entries.append(entry)
            heapq.heappush(self._heap, entry)
        self._alarm.ring()

    def forget(self, plugin: str) -> None:
        """Fire nothing for `plugin` any more."""
        declared = self._declared.pop(plugin, None)
        for entry in declared.entries if declared is not None else ():
            entry.is_forgotten = True
            self._forgotten += 1
        if self._forgotten > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if not entry.is_forgotten]
            heapq.heapify(self._heap)
            self._forgotten = 0

    def next_due(self, plugin: str) -> datetime | None:
        """When `plugin` is called next."""
        declared = self._declared.get(plugin)
        return min((entry.due_at for entry in declared.entries), default=None) if declared is not None else None

    @property
    def trouble(self) -> str | None:
        """Nothing can keep it: time comes by itself."""
        return None

    def progress(self) -> str:
        """Of no plugin in particular."""
        return f"{len(self._heap) - self._forgotten} schedules"

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self._turn()
                except Exception:  # a defect of ours, or of one trigger's schedule: the others must go on
                    logger.exception("cron goes on after a failure", extra=fields("cron_failed"))
                    await asyncio.sleep(AFTER_FAILURE_S)
        finally:
            self._alarm.close()

    async def _turn(self) -> None:
        """Fire what is due, or wait until something is."""
        now = self._clock.now()
        if (self._latest - now).total_seconds() > MAX_WAIT_AFTER_SETBACK_S:
            self._begin_anew(now)
        self._latest = now
        due = self._take_due(now)
        if due:
            for start in range(0, len(due), MAX_GROUP):
                group = due[start : start + MAX_GROUP]
                try:
                    await self._fire(group)
                except StoreError as error:
                    logger.error("slots are lost: %s", error, extra=fields("cron_slots_lost", slots=len(group)))
            return
        await self._alarm.wait(self._heap[0].due_at if self._heap else None)

    def _begin_anew(self, now: datetime) -> None:
        """The clock was set back: every trigger's next slot is the next from now. The ledger knows those that fired."""
        logger.warning(
            "the clock was set back by %.0f s: schedules begin anew", (self._latest - now).total_seconds(),
            extra=fields("clock_set_back", seconds=round((self._latest - now).total_seconds())),
        )  # fmt: skip
        for entry in self._heap:
            entry.due_at = min(entry.due_at, entry.after(now))
        heapq.heapify(self._heap)

    def _take_due(self, now: datetime) -> list[_Entry]:
        """Pop what is due and push its next slot, which is always in the future: a backlog never builds up."""
        due = []
        while self._heap and (self._heap[0].is_forgotten or self._heap[0].due_at <= now):
            entry = self._heap[0]
            if entry.is_forgotten:
                heapq.heappop(self._heap)
                self._forgotten -= 1
                continue
            if self._router.is_quarantined(entry.plugin):
                # A call of each would be a row in the ledger that says what the plugin's state says already.
                entry.skipped += 1
                self._metrics.missed(entry.plugin, 1)
            else:
                if entry.skipped:
                    self._report_missed(entry.plugin, entry.key, entry.skipped)
                    entry.skipped = 0
                due.append(replace(entry))
            following = entry.after(entry.due_at)
            if following <= now:
                skipped = self._slots_until(entry.after, following, now)
                self._missed(entry.plugin, entry.key, skipped)
                following = entry.after(now)
            entry.due_at = following
            heapq.heapreplace(self._heap, entry)
        return due

    async def _fire(self, due: list[_Entry]) -> None:
        now = self._clock.now()
        new_calls = [
            NewCall(
                plugin=entry.plugin,
                trigger=TriggerKind.CRON,
                identity=f"{entry.key} @ {entry.due_at.isoformat()}",
                principal="schedule",
                due_at=entry.due_at,
                fired_at=now,
                deadline_at=now + entry.call_deadline,
                source=entry.key,
                job=entry.trigger.job,
                overlap=entry.trigger.overlap,
            )
            for entry in due
        ]
        await self._router.submit(
            new_calls, *(calls.move_cursor(entry.plugin, entry.key, entry.due_at) for entry in due)
        )

    async def _report_gap(self, plugin: str, key: str, after: NextSlot, now: datetime) -> None:
        try:
            last = await self._cursors.fetch(plugin, key)
        except StoreError as error:
            logger.warning("missed slots are not counted: %s", error, extra=fields("cron_gap_unknown", plugin=plugin))
            return
        if last is not None:
            missed = self._slots_until(after, after(last), now)
            if missed:
                self._missed(plugin, key, missed)

    def _slots_until(self, after: NextSlot, first: datetime, now: datetime) -> int:
        count = 0
        while first <= now and count < MAX_COUNTED:
            count += 1
            first = after(first)
        return count

    def _missed(self, plugin: str, key: str, slots: int) -> None:
        self._metrics.missed(plugin, slots)
        self._report_missed(plugin, key, slots)

    def _report_missed(self, plugin: str, key: str, slots: int) -> None:
        logger.warning(
            "%d slots of %s passed while nothing could fire them", slots, key,
            extra=fields("cron_slots_missed", plugin=plugin, trigger=key, slots=slots),
        )  # fmt: skip

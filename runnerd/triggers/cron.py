"""Fires cron triggers: one heap of due times for all plugins, one alarm for the earliest of them.

A slot is a JobCall with an identity of its own, committed with the trigger's cursor: it can neither be lost by a crash
between the two nor fire twice. What becomes of slots that passed while nobody could fire them, or while their plugin
was quarantined, the trigger's policy says: `misfire` is the pure core of that, this the shell around it.
"""

import asyncio
import heapq
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from protocol.triggers import Cron, Trigger
from runnerd.clock import Clock
from runnerd.log import fields
from runnerd.services.metrics import Metrics
from runnerd.store import calls
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.triggers.alarm import Alarm
from runnerd.triggers.cursors import Cursors
from runnerd.triggers.due import Due, Entry, call_of, in_groups
from runnerd.triggers.errors import ProducerBroken
from runnerd.triggers.misfire import settle
from runnerd.triggers.producer import Submit, Terms
from runnerd.triggers.schedule import ScheduleError, times_of
from runnerd.triggers.source import source_of

logger = logging.getLogger("runnerd.cron")

AFTER_FAILURE_S = 1.0
MAX_WAIT_AFTER_SETBACK_S = 60.0
"""A clock that is set back by less has drifted: each slot waits until the clock is where it was, and none comes twice.
By more, it was wrong and is right now: waiting an hour or a day for it would leave the plugins without any tick."""


@dataclass(slots=True)
class _Declared:
    """What a plugin has declared, and its entries in the heap."""

    triggers: dict[str, Cron]
    spread_s: float
    entries: list[Entry] = field(default_factory=list)


class CronProducer:
    """A Producer that owns the heap."""

    name = "cron"

    def __init__(self, router: Submit, store: Ledger, metrics: Metrics, clock: Clock, alarm: Alarm) -> None:
        self._router = router
        self._cursors = Cursors(store)
        self._metrics = metrics
        self._clock = clock
        self._alarm = alarm
        self._heap: list[Entry] = []
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
            self._make_up(before.entries)
            return
        try:
            times = {key: times_of(plugin, key, trigger, spread_s) for key, trigger in crons.items()}
        except ScheduleError as error:
            raise ProducerBroken(str(error)) from error
        self.forget(plugin)
        self._declared[plugin] = declared
        now = self._clock.now()
        entries = [
            await self._open(Entry(now, now, plugin, key, times[key], trigger, terms.call_deadline), declared)
            for key, trigger in crons.items()
        ]
        if self._declared.get(plugin) is not declared:  # declared anew, or forgotten, while the ledger was asked
            return
        for entry in entries:
            declared.entries.append(entry)
            heapq.heappush(self._heap, entry)
        self._alarm.ring()

    async def _open(self, entry: Entry, declared: _Declared) -> Entry:
        """With its next slot, seen from the moment it was declared at; and what it has to make up for."""
        now = entry.fire_at
        last = await self._fetch_cursor(entry, declared)
        if self._declared.get(entry.plugin) is not declared:
            return entry
        if last is None:
            entry.move_to(entry.times.after(now))
            if entry.has_gaps:  # a downtime before its first slot is one as well
                await self._router.submit([], calls.move_cursor(entry.plugin, entry.key, now))
            return entry
        first = entry.times.after(min(last, now))  # later than now, if the clock was set back meanwhile
        settled = settle(entry.trigger.misfire, entry.times, first, now, is_gap=True)
        entry.move_to(settled.following)
        if settled.made:
            entry.unfired, entry.fire_at = first, now
        elif settled.missed:
            self._missed(entry, settled.missed)
        return entry

    def _make_up(self, entries: Sequence[Entry]) -> None:
        """At once, and not at their next slot: that may be a day away."""
        late = [entry for entry in entries if entry.unfired is not None]
        for entry in late:
            entry.fire_at = self._clock.now()
        if late:
            heapq.heapify(self._heap)
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
        return min((entry.fire_at for entry in declared.entries), default=None) if declared is not None else None

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
        for group in in_groups(due):
            await self._fire(group)
        if not due:
            await self._alarm.wait(self._heap[0].fire_at if self._heap else None)

    def _begin_anew(self, now: datetime) -> None:
        """The clock was set back: every trigger's next slot is the next from now. The ledger knows those that fired."""
        logger.warning(
            "the clock was set back by %.0f s: schedules begin anew", (self._latest - now).total_seconds(),
            extra=fields("clock_set_back", seconds=round((self._latest - now).total_seconds())),
        )  # fmt: skip
        for entry in self._heap:
            entry.move_to(min(entry.slot, entry.times.after(now)))
            if entry.unfired is not None and entry.unfired > now:
                entry.unfired = None
        heapq.heapify(self._heap)

    def _take_due(self, now: datetime) -> list[Due]:
        """Pop what is due and push its next slot, which is always in the future: a backlog never builds up."""
        due = []
        while self._heap and (self._heap[0].is_forgotten or self._heap[0].fire_at <= now):
            entry = self._heap[0]
            if entry.is_forgotten:
                heapq.heappop(self._heap)
                self._forgotten -= 1
                continue
            if self._router.is_quarantined(entry.plugin):
                self._pass_by(entry, now)
            elif (taken := self._take(entry, now)).slots:
                due.append(taken)
            heapq.heapreplace(self._heap, entry)
        return due

    def _take(self, entry: Entry, now: datetime) -> Due:
        first = entry.unfired or entry.slot
        settled = settle(entry.trigger.misfire, entry.times, first, now, is_gap=False)
        if settled.missed:
            self._metrics.missed(entry.plugin, settled.missed)
        if entry.skipped or settled.missed:
            self._report_missed(entry, entry.skipped + settled.missed)
        is_made_up = entry.unfired is not None or len(settled.made) > 1
        entry.skipped = 0
        # Until they are stored; then it is None again.
        entry.unfired = first if entry.has_gaps and settled.made else None
        entry.move_to(settled.following)
        return Due(entry, settled.made, is_made_up)

    def _pass_by(self, entry: Entry, now: datetime) -> None:
        """A call of each would be a row in the ledger that says what the plugin's state says already."""
        settled = settle("skip", entry.times, entry.slot, now, is_gap=True)
        if not entry.has_gaps:
            entry.skipped += settled.missed
            self._metrics.missed(entry.plugin, settled.missed)
        elif entry.unfired is None:
            entry.unfired = entry.slot
        entry.move_to(settled.following)

    async def _fire(self, group: Sequence[Due]) -> None:
        now = self._clock.now()
        new_calls = [call_of(due, slot, now) for due in group for slot in due.slots]
        cursors = [calls.move_cursor(due.entry.plugin, due.entry.key, due.slots[-1]) for due in group]
        try:
            await self._router.submit(new_calls, *cursors)
        except StoreError as error:
            lost = sum(len(due.slots) for due in group if not due.entry.has_gaps)
            logger.error("%d slots are lost: %s", lost, error, extra=fields("cron_slots_lost", slots=lost))
        else:
            for due in group:
                due.entry.unfired = None

    async def _fetch_cursor(self, entry: Entry, declared: _Declared) -> datetime | None:
        while True:
            try:
                return await self._cursors.fetch(entry.plugin, entry.key)
            except StoreError as error:
                logger.warning(
                    "missed slots are not known: %s", error, extra=fields("cron_gap_unknown", plugin=entry.plugin)
                )
            # Who makes up for them has to know; to who only counts them, the next slot is worth more.
            if not entry.has_gaps or self._declared.get(entry.plugin) is not declared:
                return None
            await asyncio.sleep(AFTER_FAILURE_S)

    def _missed(self, entry: Entry, slots: int) -> None:
        self._metrics.missed(entry.plugin, slots)
        self._report_missed(entry, slots)

    def _report_missed(self, entry: Entry, slots: int) -> None:
        logger.warning(
            "%d slots of %s passed while nothing could fire them", slots, entry.key,
            extra=fields("cron_slots_missed", plugin=entry.plugin, trigger=entry.key, slots=slots),
        )  # fmt: skip

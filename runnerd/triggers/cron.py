"""Fires cron triggers: one heap of due times for all plugins, one alarm for the earliest of them.

A slot is a JobCall with an identity of its own, committed with the trigger's cursor: it can neither be lost by a crash
between the two nor fire twice. What becomes of slots that passed while nobody could fire them, or while their plugin
was quarantined, the trigger's policy says: `misfire` is the pure core of that, this the shell around it.
"""

import asyncio
import heapq
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from protocol.triggers import Cron, Trigger
from runnerd.clock import Clock
from runnerd.log import fields
from runnerd.services.metrics import Metrics
from runnerd.store import cursors
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.triggers.alarm import Alarm
from runnerd.triggers.cursors import Cursors
from runnerd.triggers.due import Due, Entry, call_of, in_groups
from runnerd.triggers.errors import ProducerBroken
from runnerd.triggers.misfire import settle
from runnerd.triggers.producer import Submit, Terms
from runnerd.triggers.schedule import ScheduleError, Times, times_of
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

        `terms.spread_s`: each slot is fired later by a part of this that is the plugin's own (`schedule.phase_of`).
        Slots of a trigger that is not among them any more are nothing to make up for, should it come back.
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
        self._declared[plugin] = declared
        now = self._clock.now()
        new = self._carry_on(before, declared, times, terms.call_deadline)
        entries = [Entry(now, now, plugin, key, times[key], crons[key], terms.call_deadline) for key in new]
        if before is not None and before.triggers.keys() - crons.keys():
            self._cursors.drop(plugin, crons.keys())
        last = await self._fetch_cursors(plugin, declared)
        if self._declared.get(plugin) is not declared:  # declared anew, or forgotten, while the ledger was asked
            return
        if last is None or last.keys() - crons.keys():
            self._cursors.drop(plugin, crons.keys())
        for entry in entries:
            await self._open(entry, last.get(entry.key) if last is not None else None)
        if self._declared.get(plugin) is not declared:
            return
        for entry in entries:
            declared.entries.append(entry)
            heapq.heappush(self._heap, entry)
        self._alarm.ring()

    def _carry_on(
        self, before: _Declared | None, declared: _Declared, times: Mapping[str, Times], call_deadline: timedelta
    ) -> list[str]:
        """Let the entries go on whose triggers stay, and forget the others. Returns the keys of triggers without one.

        From the ledger alone nobody could tell a slot that was passed over from one whose moment the change has moved.
        """
        former = {entry.key: entry for entry in before.entries} if before is not None else {}
        for key, trigger in declared.triggers.items():
            if key in former and former[key].trigger.misfire == trigger.misfire:
                entry = former.pop(key)
                entry.go_on(times[key], trigger, call_deadline, self._clock.now())
                declared.entries.append(entry)
        self._discard(list(former.values()))
        if declared.entries:
            heapq.heapify(self._heap)
            self._alarm.ring()
        kept = {entry.key for entry in declared.entries}
        return [key for key in declared.triggers if key not in kept]

    async def _open(self, entry: Entry, last: datetime | None) -> None:
        """With its next slot, seen from the moment it was declared at; and what it has to make up for since `last`."""
        now = entry.fire_at
        if last is None:
            entry.move_to(entry.times.coming(now))
            if entry.has_gaps:  # a downtime before its first slot is one as well
                await self._router.submit([], cursors.move(entry.plugin, entry.key, now - entry.times.phase))
            return
        first = entry.times.after(min(last, now))  # later than now, if the clock was set back meanwhile
        settled = settle(entry.trigger.misfire, entry.times, first, now, is_gap=True)
        entry.move_to(settled.following)
        if settled.made:
            entry.unfired, entry.fire_at = first, now
        elif settled.missed:
            self._missed(entry, settled.missed)

    def _make_up(self, entries: Sequence[Entry]) -> None:
        """At once, and not at their next slot: that may be a day away."""
        late = [entry for entry in entries if entry.unfired is not None]
        for entry in late:
            entry.fire_at = self._clock.now()
        if late:
            heapq.heapify(self._heap)
            self._alarm.ring()

    def forget(self, plugin: str) -> None:
        """Fire nothing for `plugin` any more. What it misses until it is back is a gap, as in a downtime."""
        declared = self._declared.pop(plugin, None)
        self._discard(declared.entries if declared is not None else ())

    def retire(self, plugin: str) -> None:
        """See Retiring: what it misses until it is back is no gap."""
        self.forget(plugin)
        self._cursors.drop(plugin)

    def _discard(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
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
            entry.move_to(min(entry.slot, entry.times.coming(now)))
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
        # Its cursor may have been dropped since they were taken from the heap.
        group = [due for due in group if self._is_declared(due.entry)]
        if not group:
            return
        now = self._clock.now()
        new_calls = [call_of(due, slot, now) for due in group for slot in due.slots]
        moves = [cursors.move(due.entry.plugin, due.entry.key, due.slots[-1]) for due in group]
        try:
            await self._router.submit(new_calls, *moves)
        except StoreError as error:
            lost = sum(len(due.slots) for due in group if not due.entry.has_gaps)
            logger.error("%d slots are lost: %s", lost, error, extra=fields("cron_slots_lost", slots=lost))
        else:
            for due in group:
                due.entry.unfired = None

    def _is_declared(self, entry: Entry) -> bool:
        declared = self._declared.get(entry.plugin)
        return declared is not None and entry.key in declared.triggers

    async def _fetch_cursors(self, plugin: str, declared: _Declared) -> Mapping[str, datetime] | None:
        """Of all triggers that the ledger has of `plugin`; None if they are not known."""
        while True:
            try:
                return await self._cursors.fetch(plugin)
            except StoreError as error:
                logger.warning("missed slots are not known: %s", error, extra=fields("cron_gap_unknown", plugin=plugin))
            # Who makes up for them has to know; to who only counts them, the next slot is worth more.
            has_gaps = any(trigger.misfire != "skip" for trigger in declared.triggers.values())
            if not has_gaps or self._declared.get(plugin) is not declared:
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

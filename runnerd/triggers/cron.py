"""Fires cron triggers: one heap of due times for all plugins, one timer for the earliest of them.

A slot is a JobCall with an identity of its own, committed with the trigger's cursor: it can neither be lost by a crash
between the two nor fire twice. Slots that passed while nobody could fire them, or while their plugin was quarantined,
are counted, not replayed.
"""

import asyncio
import heapq
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from protocol.messages import TriggerKind
from protocol.triggers import Cron
from runnerd.clock import Clock
from runnerd.log import fields
from runnerd.services.metrics import Metrics
from runnerd.store import calls
from runnerd.store.calls import NewCall
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement
from runnerd.triggers.schedule import NextSlot, key_of, next_slot

logger = logging.getLogger("runnerd.cron")

MAX_SLEEP_S = 30.0
"""The wall clock may be set while we sleep: look at it at least this often."""
AFTER_FAILURE_S = 1.0
MAX_WAIT_AFTER_SETBACK_S = 60.0
"""A clock that is set back by less has drifted: each slot waits until the clock is where it was, and none comes twice.
By more, it was wrong and is right now: waiting an hour or a day for it would leave the plugins without any tick."""
MAX_COUNTED = 1_000
"""After a long downtime the exact number of missed slots is of no use, and counting holds the loop."""


@dataclass(order=True, slots=True)
class _Entry:
    due_at: datetime
    plugin: str = field(compare=False)
    key: str = field(compare=False)
    after: NextSlot = field(compare=False)
    call_deadline: timedelta = field(compare=False)
    skipped: int = field(default=0, compare=False)
    """Slots in a row that passed while the plugin was quarantined."""


class Submit(Protocol):
    """What the producer asks of the router."""

    async def submit(self, new_calls: Sequence[NewCall], *cursors: Statement) -> object:
        """Commit the calls together with the cursors, and hand them on."""

    def is_quarantined(self, plugin: str) -> bool:
        """Whether a call of `plugin` would end at once, because nothing runs it until it is mended."""


class CronProducer:
    """Owns the heap. `declare` replaces a plugin's triggers, `forget` removes them."""

    def __init__(self, router: Submit, store: Ledger, metrics: Metrics, clock: Clock) -> None:
        self._router = router
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._heap: list[_Entry] = []
        self._keys: dict[str, dict[str, Cron]] = {}
        self._changed = asyncio.Event()
        self._latest = datetime.min.replace(tzinfo=UTC)

    async def declare(self, plugin: str, triggers: list[Cron], call_deadline_s: float) -> None:
        """Schedule exactly these triggers for `plugin`. Raises ScheduleError for the first that names no time."""
        wanted = {key_of(trigger): trigger for trigger in triggers}
        if self._keys.get(plugin) == wanted:
            for entry in self._heap:
                if entry.plugin == plugin:
                    entry.call_deadline = timedelta(seconds=call_deadline_s)
            return
        slots = {key: next_slot(trigger) for key, trigger in wanted.items()}
        self.forget(plugin)
        self._keys[plugin] = wanted
        now = self._clock.now()
        for key, after in slots.items():
            await self._report_gap(plugin, key, after, now)
        if self._keys.get(plugin) is not wanted:  # declared anew, or forgotten, while the ledger was asked
            return
        for key, after in slots.items():
            entry = _Entry(after(now), plugin, key, after, timedelta(seconds=call_deadline_s))
            heapq.heappush(self._heap, entry)
        self._changed.set()

    def forget(self, plugin: str) -> None:
        """Fire nothing for `plugin` any more."""
        self._keys.pop(plugin, None)
        self._heap = [entry for entry in self._heap if entry.plugin != plugin]
        heapq.heapify(self._heap)
        self._changed.set()

    def next_due(self, plugin: str) -> datetime | None:
        """When `plugin` is called next."""
        return min((entry.due_at for entry in self._heap if entry.plugin == plugin), default=None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._turn()
            except Exception:  # a defect of ours, or of one trigger's schedule: the others must go on
                logger.exception("cron goes on after a failure", extra=fields("cron_failed"))
                await asyncio.sleep(AFTER_FAILURE_S)

    async def _turn(self) -> None:
        """Fire what is due, or wait until something is."""
        self._changed.clear()
        now = self._clock.now()
        if (self._latest - now).total_seconds() > MAX_WAIT_AFTER_SETBACK_S:
            self._begin_anew(now)
        self._latest = now
        due = self._take_due(now)
        if due:
            try:
                await self._fire(due, now)
            except StoreError as error:
                logger.error("slots are lost: %s", error, extra=fields("cron_slots_lost", slots=len(due)))
            return
        wait_s = MAX_SLEEP_S
        if self._heap:
            wait_s = min(wait_s, (self._heap[0].due_at - now).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(wait_s, 0)):
                await self._changed.wait()

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
        while self._heap and self._heap[0].due_at <= now:
            entry = self._heap[0]
            if self._router.is_quarantined(entry.plugin):
                # A call of each would be a row in the ledger that says what the plugin's state says already.
                entry.skipped += 1
                self._metrics.missed(entry.plugin, 1)
            else:
                if entry.skipped:
                    self._report_missed(entry.plugin, entry.key, entry.skipped)
                    entry.skipped = 0
                due.append(_Entry(entry.due_at, entry.plugin, entry.key, entry.after, entry.call_deadline))
            following = entry.after(entry.due_at)
            if following <= now:
                skipped = self._slots_until(entry.after, following, now)
                self._missed(entry.plugin, entry.key, skipped)
                following = entry.after(now)
            entry.due_at = following
            heapq.heapreplace(self._heap, entry)
        return due

    async def _fire(self, due: list[_Entry], now: datetime) -> None:
        new_calls = [
            NewCall(
                plugin=entry.plugin,
                trigger=TriggerKind.CRON,
                identity=f"{entry.key} @ {entry.due_at.isoformat()}",
                principal="schedule",
                due_at=entry.due_at,
                fired_at=now,
                deadline_at=now + entry.call_deadline,
            )
            for entry in due
        ]
        await self._router.submit(
            new_calls, *(calls.move_cursor(entry.plugin, entry.key, entry.due_at) for entry in due)
        )

    async def _report_gap(self, plugin: str, key: str, after: NextSlot, now: datetime) -> None:
        try:
            rows = await self._store.fetch(calls.cursor_of(plugin, key))
        except StoreError as error:
            logger.warning("missed slots are not counted: %s", error, extra=fields("cron_gap_unknown", plugin=plugin))
            return
        if rows:
            missed = self._slots_until(after, after(rows[0]["due_at"]), now)
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

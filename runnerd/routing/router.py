"""From a producer to the plugins' queues: JobCalls are committed first, with the producer's cursor, then offered.

One that would be decided at once may be with its worker while it is committed; what comes of it waits for that.
Which calls come of one beside itself is `routes`, and which limits hold for it `layers`.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeAlias

from protocol.messages import TriggerKind
from runnerd.clock import Clock
from runnerd.crash_points import reached
from runnerd.log import fields
from runnerd.routing.results import Results
from runnerd.routing.routes import Routes
from runnerd.services.metrics import Metrics
from runnerd.store import calls
from runnerd.store.call_ids import CallIds
from runnerd.store.calls import JobCall, JobOutcome, NewCall
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.supervisor.ahead import Ahead
from runnerd.supervisor.host import PluginHost
from runnerd.supervisor.machine import Phase

logger = logging.getLogger("runnerd.router")

REPORT_REFUSED_S = 10.0
"""Between two lines about one plugin."""

Lane: TypeAlias = tuple[str, str, str]
"""A plugin, one of its triggers, and the job that this one calls."""


def lane_of(call: NewCall | JobCall) -> Lane:
    return call.plugin, call.source, call.job


class Router:
    """Knows the hosts by name. Adding and removing hosts is the app's."""

    def __init__(
        self, store: Store, results: Results, metrics: Metrics, clock: Clock, routes: Routes | None = None
    ) -> None:
        self.hosts: dict[str, PluginHost] = {}
        self.routes = routes or Routes()
        self._store = store
        self._results = results
        self._metrics = metrics
        self._clock = clock
        self.is_draining = False
        self._ids = CallIds(store)
        self._left_over: list[JobCall] = []
        self._has_recovered = False
        self._coming: Counter[Lane] = Counter()
        """Calls that are being stored."""
        self._refused: Counter[str] = Counter()
        self._silent_until: dict[str, float] = {}
        self._copied_at: datetime | None = None

    async def load(self) -> None:
        """Read what a former process left undecided. Before anything can submit: afterwards ours would be among it."""
        await self._ids.fill()
        self._left_over = [calls.from_row(row) for row in await self._store.fetch(calls.queued())]

    async def submit(self, new_calls: Sequence[NewCall], *cursors: Statement) -> list[JobCall]:
        """Commit the calls and their copies for `always` routes together with the producer's cursors; hand them on.

        Returns those that are new, without the copies: one whose identity stands in the ledger already is dropped
        without a word, and so is the second of two with one. What is not to be made beside an older call, and what a
        trigger wants beyond its plugin's bounds, is counted and dropped before it costs a commit;
        the cursors are moved.
        """
        originals = self._wanted([self.addressed(call) for call in _distinct(new_calls)])
        new_calls = [*originals, *self._wanted(self._copies(originals))]
        if not new_calls and not cursors:
            return []
        self._coming.update(lane_of(call) for call in new_calls)
        aheads: dict[int, Ahead] = {}
        try:
            reached("call.storing")
            named = list(zip(new_calls, self._ids.take(len(new_calls)), strict=True))
            stored = self._store.submit(*(calls.insert(call, call_id) for call, call_id in named), *cursors)
            aheads.update(self._offer_ahead(named[: len(originals)]))
            results = await stored
            reached("call.stored")
            by_call = zip(new_calls, results[: len(new_calls)], strict=True)
            accepted: list[JobCall] = []
            copied: list[JobCall] = []
            for number, (new, rows) in enumerate(by_call):
                if not rows:
                    continue
                call = calls.inserted(new, rows[0])
                (accepted if number < len(originals) else copied).append(call)
                self._metrics.called(call.plugin, call.trigger.value)
                host = self.hosts.get(call.plugin)
                if host is not None and not self.is_draining:  # else it stays queued in the ledger, for the next start
                    if call.overlap != "parallel":
                        self._offer_left_over(call.plugin)  # it has to wait for an older one that is among these
                    ahead = aheads.pop(call.id, None)
                    if ahead is None or not ahead.settle(is_stored=True):
                        host.offer(call, is_owed=new.is_owed)
        finally:
            for ahead in aheads.values():
                ahead.settle(is_stored=False)
            self._coming -= Counter(lane_of(call) for call in new_calls)
        # Only now: if the ledger refuses one of these, the others are with their plugins.
        await self._finish_orphans([*accepted, *copied])
        return accepted

    def _offer_ahead(self, named: "Sequence[tuple[NewCall, int | None]]") -> "Iterator[tuple[int, Ahead]]":
        """Give calls to their workers while they are stored (ADR 0032): to decide is no act."""
        for new, call_id in named:
            host = self.hosts.get(new.plugin)
            if call_id is None or host is None or not new.is_fresh or new.overlap != "parallel" or self.is_draining:
                continue
            if not self._has_recovered or any(left.plugin == new.plugin for left in self._left_over):
                continue
            ahead = host.offer_ahead(calls.to_call(new, call_id))
            if ahead is not None:
                yield call_id, ahead

    def addressed(self, call: NewCall) -> NewCall:
        """The call with the deadline that its layers give it; for the fallback, if its plugin or job is not there."""
        host = self.hosts.get(call.plugin)
        is_known = host is not None and (host.declared is None or call.job in host.declared.jobs)
        fallback = self.fallen_back(call) if not is_known else None
        return fallback or self._within_deadline(call, is_own=True)

    def fallen_back(self, call: NewCall) -> NewCall | None:
        """The call for the fallback that comes of one that nobody takes; None if there is no fallback for it."""
        fallback = self.routes.otherwise(call)
        if fallback is None:
            return None
        logger.info(
            "nobody takes a call of %s: it is for %s", call.plugin or call.topic, fallback.plugin,
            extra=fields("call_fell_back", plugin=fallback.plugin, job=fallback.job, identity=fallback.identity),
        )  # fmt: skip
        return self._within_deadline(fallback, is_own=False)

    def _within_deadline(self, call: NewCall, *, is_own: bool) -> NewCall:
        """`is_own`: the producer has given it the deadline of its plugin; one of another job may be tighter."""
        host = self.hosts.get(call.plugin)
        limit_s = host.layers.effective(call.plugin, call.job).call_deadline_s if host is not None else None
        if limit_s is None:
            return call
        deadline_at = call.fired_at + timedelta(seconds=limit_s)
        return replace(call, deadline_at=deadline_at) if deadline_at < call.deadline_at or not is_own else call

    def _copies(self, originals: Sequence[NewCall]) -> list[NewCall]:
        """Each with a moment of its own, by which `calls.insert` knows its row again: two producers may see one event,
        and the second one's copy must not find the first one's."""
        copies = []
        for copy in self.routes.copies(originals, self.hosts.keys()):
            after = self._copied_at + timedelta(microseconds=1) if self._copied_at is not None else copy.fired_at
            self._copied_at = max(copy.fired_at, after)
            copies.append(self._within_deadline(replace(copy, fired_at=self._copied_at), is_own=False))
        return copies

    def _wanted(self, new_calls: Sequence[NewCall]) -> list[NewCall]:
        """Without those that their trigger's overlap policy, or their plugin's bounds, keep from being made."""
        taken: list[NewCall] = []
        coming: Counter[str] = Counter()
        lanes: set[Lane] = set()
        for call in new_calls:
            if call.overlap == "skip" and (lane_of(call) in lanes or self._is_open(call)):
                self._metrics.skipped(call.plugin, call.trigger.value)
                continue
            host = self.hosts.get(call.plugin)
            # An operator who fires gets his answer in any case.
            is_bounded = host is not None and call.trigger is not TriggerKind.MANUAL and not self.is_draining
            refusal = host.refusal(call, coming[call.plugin]) if host is not None and is_bounded else None
            if refusal is None or call.is_owed:
                coming[call.plugin] += 1
                lanes.add(lane_of(call))
                taken.append(call)
            else:
                self._refuse(call, refusal)
        return taken

    def _is_open(self, call: NewCall) -> bool:
        """Whether an older call of the same trigger is not decided: being stored, with its plugin, or left over."""
        lane, host = lane_of(call), self.hosts.get(call.plugin)
        is_stored = host is not None and host.is_open(call)
        return is_stored or self._coming[lane] > 0 or any(lane_of(left) == lane for left in self._left_over)

    def _refuse(self, call: NewCall, reason: str) -> None:
        self._metrics.refused(call.plugin, call.trigger.value)
        if call.trigger is TriggerKind.CRON:
            self._metrics.missed(call.plugin, 1)
        self._refused[call.plugin] += 1
        now = self._clock.monotonic()
        if now >= self._silent_until.get(call.plugin, now):
            self._silent_until[call.plugin] = now + REPORT_REFUSED_S
            count = self._refused.pop(call.plugin)
            logger.warning(
                "%d calls of %s were not taken: %s", count, call.plugin, reason,
                extra=fields("calls_refused", plugin=call.plugin, calls=count),
            )  # fmt: skip

    def room(self, plugin: str, jobs: Collection[str] = ()) -> int:
        """How many calls of these jobs a producer may make now that leaves the others where they are until then.

        None before what a former run left is with its plugins: that is older.
        """
        host = self.hosts.get(plugin)
        return host.room(jobs) if host is not None and self._has_recovered and not self.is_draining else 0

    def is_quarantined(self, plugin: str) -> bool:
        """Whether a call of `plugin` would end at once, because nothing runs it until it is mended."""
        host = self.hosts.get(plugin)
        return host is not None and host.state.phase is Phase.QUARANTINED

    async def recover(self) -> int:
        """Offer what `load` found, oldest first, however much it is: it was accepted. Returns how many."""
        count = len(self._left_over)
        for name in self.hosts:
            self._offer_left_over(name)
        orphans, self._left_over = self._left_over, []
        self._has_recovered = True
        await self._finish_orphans(orphans)
        if count:
            logger.info("%d calls of a former run go on", count, extra=fields("calls_recovered", calls=count))
        return count

    def _offer_left_over(self, plugin: str) -> None:
        if its := [call for call in self._left_over if call.plugin == plugin]:
            self._left_over = [call for call in self._left_over if call.plugin != plugin]
            self.hosts[plugin].offer_again(its)

    async def _finish_orphans(self, found: Sequence[JobCall]) -> None:
        for call in [call for call in found if call.plugin not in self.hosts]:
            await self._results.finish(call, JobOutcome.FAILED, f"no plugin {call.plugin!r} is configured")


def _distinct(new_calls: Sequence[NewCall]) -> list[NewCall]:
    """Of several with one identity the first: in one commit the second would find the first one's row, as if it had
    come from a commit whose answer was lost."""
    first: dict[tuple[str, str], NewCall] = {}
    for call in new_calls:
        first.setdefault((call.plugin, call.identity), call)
    return list(first.values())

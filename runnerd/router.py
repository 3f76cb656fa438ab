"""From a producer to a plugin's queue: a JobCall is committed first, with the producer's cursor, then offered."""

import logging
from collections import Counter
from collections.abc import Sequence

from protocol.messages import TriggerKind
from runnerd.clock import Clock
from runnerd.crash_points import reached
from runnerd.log import fields
from runnerd.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store import calls
from runnerd.store.calls import JobCall, JobOutcome, NewCall
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.supervisor.host import PluginHost
from runnerd.supervisor.machine import Phase

logger = logging.getLogger("runnerd.router")

REPORT_REFUSED_S = 10.0
"""Between two lines about one plugin."""


class Router:
    """Knows the hosts by name. Adding and removing hosts is the app's."""

    def __init__(self, store: Store, results: Results, metrics: Metrics, clock: Clock) -> None:
        self.hosts: dict[str, PluginHost] = {}
        self._store = store
        self._results = results
        self._metrics = metrics
        self._clock = clock
        self.is_draining = False
        self._left_over: list[JobCall] = []
        self._refused: Counter[str] = Counter()
        self._silent_until: dict[str, float] = {}

    async def load(self) -> None:
        """Read what a former process left undecided. Before anything can submit: afterwards ours would be among it."""
        self._left_over = [calls.from_row(row) for row in await self._store.fetch(calls.queued())]

    async def submit(self, new_calls: Sequence[NewCall], *cursors: Statement) -> list[JobCall]:
        """Commit the calls together with the producer's cursors, and hand them on.

        Returns those that are new: one whose identity stands in the ledger already is dropped without a word. What a
        trigger wants beyond its plugin's bounds is counted and dropped before it costs a commit.
        """
        new_calls = self._within_bounds(new_calls)
        if not new_calls and not cursors:
            return []
        reached("call.storing")
        results = await self._store.commit(*(calls.insert(call) for call in new_calls), *cursors)
        reached("call.stored")
        by_call = zip(new_calls, results[: len(new_calls)], strict=True)
        accepted = [calls.inserted(call, row) for call, rows in by_call for row in rows]
        for call in accepted:
            self._metrics.called(call.plugin, call.trigger.value)
            host = self.hosts.get(call.plugin)
            if host is not None and not self.is_draining:  # else it stays queued in the ledger, for the next start
                host.offer(call)
        # Only now: if the ledger refuses one of these, the others are with their plugins.
        await self._finish_orphans(accepted)
        return accepted

    def _within_bounds(self, new_calls: Sequence[NewCall]) -> list[NewCall]:
        taken: list[NewCall] = []
        coming: Counter[str] = Counter()
        for call in new_calls:
            host = self.hosts.get(call.plugin)
            # An operator who fires gets his answer in any case.
            is_bounded = host is not None and call.trigger is not TriggerKind.MANUAL and not self.is_draining
            refusal = host.refusal(coming[call.plugin]) if host is not None and is_bounded else None
            if refusal is None:
                coming[call.plugin] += 1
                taken.append(call)
            else:
                self._refuse(call, refusal)
        return taken

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

    def is_quarantined(self, plugin: str) -> bool:
        """Whether a call of `plugin` would end at once, because nothing runs it until it is mended."""
        host = self.hosts.get(plugin)
        return host is not None and host.state.phase is Phase.QUARANTINED

    def room(self, plugin: str) -> int:
        """How many calls `submit` takes of `plugin` now, if nobody waits in between; none while nothing runs it."""
        host = self.hosts.get(plugin)
        if host is None or self.is_draining or self.is_quarantined(plugin):
            return 0
        return host.room()

    async def recover(self) -> int:
        """Offer what `load` found, oldest first, however much it is: it was accepted. Returns how many."""
        found, self._left_over = self._left_over, []
        for name, host in self.hosts.items():
            host.offer_again([call for call in found if call.plugin == name])
        await self._finish_orphans(found)
        if found:
            logger.info("%d calls of a former run go on", len(found), extra=fields("calls_recovered", calls=len(found)))
        return len(found)

    async def _finish_orphans(self, found: Sequence[JobCall]) -> None:
        for call in [call for call in found if call.plugin not in self.hosts]:
            await self._results.finish(call, JobOutcome.FAILED, f"no plugin {call.plugin!r} is configured")

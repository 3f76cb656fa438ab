"""From a producer to a plugin's queue: a JobCall is committed first, with the producer's cursor, then offered."""

import logging
from collections.abc import Sequence

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

    async def load(self) -> None:
        """Read what a former process left undecided. Before anything can submit: afterwards ours would be among it."""
        self._left_over = [calls.from_row(row) for row in await self._store.fetch(calls.queued())]

    async def submit(self, new_calls: Sequence[NewCall], *cursors: Statement) -> list[JobCall]:
        """Commit the calls together with the producer's cursors, and hand them on.

        Returns those that are new: one whose identity stands in the ledger already is dropped without a word.
        """
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

    def is_quarantined(self, plugin: str) -> bool:
        """Whether a call of `plugin` would end at once, because nothing runs it until it is mended."""
        host = self.hosts.get(plugin)
        return host is not None and host.state.phase is Phase.QUARANTINED

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

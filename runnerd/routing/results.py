"""The end of every JobCall: one JobResult, committed once, then given to whoever waits for it."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from runnerd.clock import Clock
from runnerd.crash_points import reached
from runnerd.log import fields
from runnerd.routing.rehearsed import Rehearsed
from runnerd.store import audit, calls
from runnerd.store.audit import Record
from runnerd.store.calls import JobCall, JobOutcome, JobResult
from runnerd.store.ledger import Ledger, Rows
from runnerd.store.statement import Statement

logger = logging.getLogger("runnerd.results")


@dataclass(frozen=True, slots=True)
class Last:
    """A plugin's newest outcome, for the status table."""

    outcome: str
    reason: str
    finished_at: datetime


class Results:
    """Commits outcomes and tells consumers. Consumers are called in the loop and must not block."""

    def __init__(self, store: Ledger, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._consumers: list[Callable[[JobResult], None]] = []
        self._waiting: dict[int, list[asyncio.Future[JobResult]]] = {}
        self.last: dict[str, Last] = {}

    def add_consumer(self, consumer: Callable[[JobResult], None]) -> None:
        """Call `consumer` with every JobResult after it was committed."""
        self._consumers.append(consumer)

    async def load(self, plugins: list[str]) -> None:
        """The newest outcomes from a former run."""
        for row in await self._store.fetch(calls.last_results(plugins)):
            self.last[row["plugin"]] = Last(row["outcome"], row["reason"], row["finished_at"])

    async def finish(
        self,
        call: JobCall,
        outcome: JobOutcome,
        reason: str,
        *together_with: Statement,
        transaction: str | None = None,
        records: Sequence[Record] = (),
    ) -> JobResult:
        """Commit the outcome, in one transaction with `together_with`, and publish it. Raises StoreError.

        `records` go into the audit trail before the outcome's own. Between publishing and the caller nothing runs.
        A dry run has nothing to commit: its end is `tell`'s.
        """
        if call.is_dry_run:
            assert not together_with, f"dry run {call.id} was about to be stored"
            return self.tell(call, outcome, reason)
        result, statements = self._prepare(call, outcome, reason, together_with, transaction, records)
        await self._store.commit(*statements)
        self._publish(result)
        return result

    def finish_soon(
        self,
        call: JobCall,
        outcome: JobOutcome,
        reason: str,
        *together_with: Statement,
        records: Sequence[Record] = (),
    ) -> "asyncio.Future[JobResult]":
        """The same without a task, and whatever becomes of the caller: cancelling the future changes nothing.

        It has the error if nothing could be committed.
        """
        result, statements = self._prepare(call, outcome, reason, together_with, None, records)
        told: asyncio.Future[JobResult] = asyncio.get_running_loop().create_future()
        stored = self._store.submit(*statements)
        stored.add_done_callback(lambda stored: self._on_stored(stored, result, told))
        return told

    def tell(self, call: JobCall, outcome: JobOutcome, reason: str, rehearsed: Rehearsed | None = None) -> JobResult:
        """End a dry run: told to whoever waits for it, and to nobody else."""
        result = JobResult(
            call=call, outcome=outcome, reason=reason, finished_at=self._clock.now(), rehearsed=rehearsed
        )
        logger.info(
            "dry run %d of %s: %s (%s)", call.id, call.plugin, outcome, reason,
            extra=fields("dry_run_finished", plugin=call.plugin, call=call.id, outcome=outcome.value),
        )  # fmt: skip
        self._answer(result)
        return result

    def _prepare(
        self,
        call: JobCall,
        outcome: JobOutcome,
        reason: str,
        together_with: Sequence[Statement],
        transaction: str | None,
        records: Sequence[Record],
    ) -> tuple[JobResult, Sequence[Statement]]:
        at = self._clock.now()
        denied = [audit.denial(call, reason, at)] if outcome is JobOutcome.DENIED else []
        trail = audit.append(*records, *denied, audit.result(call, outcome, reason, transaction, at))
        reached("finish.storing")
        result = JobResult(call=call, outcome=outcome, reason=reason, finished_at=at, transaction=transaction)
        return result, (*together_with, trail, calls.finish(call.id, outcome, reason, at))

    def _on_stored(
        self, stored: "asyncio.Future[list[Rows]]", result: JobResult, told: "asyncio.Future[JobResult]"
    ) -> None:
        if stored.cancelled():  # by nobody but a loop that ends
            told.cancel()
            return
        error = stored.exception()
        if error is None:
            self._publish(result)
        if told.done():
            return
        if error is None:
            told.set_result(result)
        else:
            told.set_exception(error)

    def _publish(self, result: JobResult) -> None:
        call, outcome, reason = result.call, result.outcome, result.reason
        reached("finish.stored")
        level = logging.INFO if outcome in (JobOutcome.ACTED, JobOutcome.NOOP) else logging.WARNING
        logger.log(
            level, "call %d of %s: %s (%s)", call.id, call.plugin, outcome, reason,
            extra=fields("call_finished", plugin=call.plugin, job=call.job, call=call.id, outcome=outcome.value,
                         tx=result.transaction),
        )  # fmt: skip
        self.last[call.plugin] = Last(outcome.value, reason, result.finished_at)
        for consumer in self._consumers:
            try:
                consumer(result)
            except Exception:  # what listens must not keep the result from who waits for it
                logger.exception("a consumer failed", extra=fields("consumer_failed", call=call.id))
        self._answer(result)

    def _answer(self, result: JobResult) -> None:
        for waiter in self._waiting.pop(result.call.id, []):
            if not waiter.done():
                waiter.set_result(result)

    async def wait_for(self, call_id: int, timeout_s: float) -> JobResult | None:
        """The result of a call, or None when it did not come in time. One that is told already does not come again."""
        with self.expecting(call_id) as waiter:
            try:
                async with asyncio.timeout(timeout_s):
                    return await waiter
            except TimeoutError:
                return None

    @contextmanager
    def expecting(self, call_id: int) -> "Iterator[asyncio.Future[JobResult]]":
        """Done when the call's result is told, from now on. For whoever must look into the ledger after he listens."""
        waiter: asyncio.Future[JobResult] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(call_id, []).append(waiter)
        try:
            yield waiter
        finally:
            waiters = self._waiting.get(call_id, [])
            if waiter in waiters:
                waiters.remove(waiter)
            if not waiters:
                self._waiting.pop(call_id, None)

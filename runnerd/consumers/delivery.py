"""Brings results to consumers. The ledger is the queue: a slow one costs nobody else anything, and no memory.

A result is the consumer's when its cursor has moved beyond it. A crash between the two brings it again.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from runnerd.clock import Clock
from runnerd.consumers.consumer import Consumer, ConsumerRefused, ConsumerUnavailable
from runnerd.log import fields
from runnerd.store import calls, deliveries
from runnerd.store.calls import JobOutcome, JobResult
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger, Rows
from runnerd.store.statement import Statement
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.consumers")

MAX_GROUP: Final = 100
"""Results that are read at once, and heard of again after a crash."""
LOOK_EVERY_S: Final = 30.0
"""The doorbell may be missed: then the ledger is looked at after this long."""
RETRY_S: Final = (0.5, 60.0)
GIVE_UP_AFTER: Final = 12
"""Attempts, over about six minutes."""
CONSUME_DEADLINE_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """One consumer, as `status` shows it. `trouble`: why the oldest result is not handed over yet."""

    name: str
    trouble: str | None


class Delivery:
    """One consumer's."""

    def __init__(self, consumer: Consumer, store: Ledger, clock: Clock) -> None:
        self._consumer = consumer
        self._store = store
        self._clock = clock
        self._rung = asyncio.Event()
        self.trouble: str | None = None
        self.cursor: int | None = None
        """The number of the last result that is certainly heard of; None until the ledger has told."""

    @property
    def name(self) -> str:
        """The consumer's."""
        return self._consumer.name

    def ring(self) -> None:
        """There is a new result."""
        self._rung.set()

    async def run(self) -> None:
        """Until cancelled."""
        cursor = self.cursor = await self._open()
        while True:
            self._rung.clear()
            rows = await self._next(cursor)
            for row in rows:
                await self._deliver(row)
                cursor = row["result_no"]
            if rows:
                await self._commit(deliveries.move_cursor(self.name, cursor, self._clock.now()))
                self.cursor = cursor
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._rung.wait()

    async def close(self) -> None:
        """Give back the consumer's connections."""
        await self._consumer.close()

    async def _open(self) -> int:
        ((row,),) = await self._commit(deliveries.open_cursor(self.name, self._clock.now()))
        cursor: int = row["result_no"]
        return cursor

    async def _next(self, cursor: int) -> Rows:
        delay_s, longest_s = RETRY_S
        while True:
            try:
                return await self._store.fetch(deliveries.results_after(cursor, MAX_GROUP))
            except StoreError as error:
                self.trouble = f"the ledger cannot be read: {error}"
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)

    async def _deliver(self, row: dict[str, object]) -> None:
        """Hand it over, however long that takes, or give it up."""
        result = _result_of(row)
        if not self._consumer.wants(result):
            return
        delay_s, longest_s = RETRY_S
        reason = ""
        for attempt in range(1, GIVE_UP_AFTER + 1):
            try:
                async with asyncio.timeout(CONSUME_DEADLINE_S):
                    await self._consumer.consume(result)
            except ConsumerRefused as refusal:
                await self._bury(row, attempt, str(refusal))
                return
            except TimeoutError:
                reason = f"no answer within {CONSUME_DEADLINE_S:g} s"
            except ConsumerUnavailable as error:
                reason = str(error)
            except Exception as error:  # a defect of ours, or of a third party
                reason = f"internal error: {type(error).__name__}: {error}"
                logger.exception("a consumer has a defect", extra=fields("delivery_failed", consumer=self.name))
            else:
                self.trouble = None
                return
            self.trouble = f"call {result.call.id}, attempt {attempt}: {reason}"
            if attempt < GIVE_UP_AFTER:
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)
        await self._bury(row, GIVE_UP_AFTER, reason)

    async def _bury(self, row: dict[str, object], attempts: int, reason: str) -> None:
        number = row["result_no"]
        assert isinstance(number, int)
        logger.error(
            "%s does not hear of call %s: %s", self.name, row["id"], reason,
            extra=fields("dead_letter", consumer=self.name, call=row["id"], attempts=attempts),
        )  # fmt: skip
        now = self._clock.now()
        await self._commit(
            deliveries.bury(self.name, number, attempts, reason, now), deliveries.move_cursor(self.name, number, now)
        )
        self.trouble = None

    async def _commit(self, *statements: Statement) -> list[Rows]:
        """Waits for a ledger that is away, as every commit does. Raises StoreError when it is closed."""
        return await self._store.commit(*statements)


class Deliveries:
    """All consumers'. `ring` belongs to Results: it is called in the loop with each result, and only wakes."""

    def __init__(self, consumers: Sequence[Consumer], store: Ledger, clock: Clock) -> None:
        self._all = [Delivery(consumer, store, clock) for consumer in consumers]
        self._tasks = Tasks()

    def start(self) -> None:
        """Each in a task of its own."""
        for delivery in self._all:
            self._tasks.spawn(delivery.run(), f"consumer:{delivery.name}")

    def ring(self, _: JobResult) -> None:
        """There is a new result."""
        for delivery in self._all:
            delivery.ring()

    async def close(self) -> None:
        """What is not delivered yet is, after the next start."""
        await self._tasks.cancel()
        for delivery in self._all:
            await delivery.close()

    def view(self) -> list[DeliveryView]:
        """For `status`."""
        return [DeliveryView(name=delivery.name, trouble=delivery.trouble) for delivery in self._all]


def _result_of(row: dict[str, object]) -> JobResult:
    return JobResult(
        call=calls.from_row(row),
        outcome=JobOutcome(str(row["outcome"])),
        reason=str(row["reason"]),
        finished_at=row["finished_at"],  # type: ignore[arg-type]  # timestamptz
        transaction=row["transaction"],  # type: ignore[arg-type]  # text or null
    )

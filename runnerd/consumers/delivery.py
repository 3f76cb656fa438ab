"""Brings results to one consumer. The ledger is the queue: a slow one costs nobody else anything, and no memory.

A result is the consumer's when its cursor has moved beyond it. A crash between the two brings it again. All consumers
together are `consumers`.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from psycopg.rows import DictRow

from runnerd.clock import Clock
from runnerd.consumers.consumer import Consumer, ConsumerNotReady, ConsumerRefused, ConsumerUnavailable
from runnerd.consumers.selection import EVERYTHING, Selection
from runnerd.errors import explain
from runnerd.log import fields
from runnerd.store import calls, deliveries
from runnerd.store.calls import JobOutcome, JobResult
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger, Rows
from runnerd.store.statement import Statement
from runnerd.text import printable

logger = logging.getLogger("runnerd.consumers")

MAX_GROUP: Final = 100
"""Results that are read at once, and heard of again after a crash."""
LOOK_EVERY_S: Final = 30.0
"""The doorbell may be missed: then the ledger is looked at after this long."""
RETRY_S: Final = (0.5, 60.0)
NOT_READY_S: Final = 0.5
GIVE_UP_AFTER: Final = 12
"""Attempts, over about six minutes."""
CONSUME_DEADLINE_S: Final = 30.0
MAX_REASON: Final = 500


class Delivery:
    """One consumer's. `on_attempt` is told of each: True if the result was heard."""

    def __init__(
        self,
        consumer: Consumer,
        store: Ledger,
        clock: Clock,
        selection: Selection = EVERYTHING,
        on_attempt: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._consumer = consumer
        self._store = store
        self._clock = clock
        self._selection = selection
        self._on_attempt = on_attempt
        self._rung = asyncio.Event()
        self._is_wanted = True
        """There may be dead letters that an operator wants handed over."""
        self.trouble: str | None = None
        """Why the oldest result is not handed over yet."""
        self.cursor: int | None = None
        """The number of the last result that is certainly heard of; None until the ledger has told."""
        self._heard: int = 0
        """The number of the last one that was handed over. The cursor follows."""

    @property
    def name(self) -> str:
        """The consumer's."""
        return self._consumer.name

    def ring(self) -> None:
        """There is a new result."""
        self._rung.set()

    def ring_for_wanted(self) -> None:
        """An operator wants dead letters handed over."""
        self._is_wanted = True
        self._rung.set()

    async def run(self) -> None:
        """Until cancelled. Raises StoreError."""
        try:
            self.cursor = self._heard = await self._open()
            while True:
                self._rung.clear()
                await self._hand_over_wanted()
                if not await self._hand_over_next():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_EVERY_S):
                            await self._rung.wait()
        except asyncio.CancelledError:
            if self.cursor is not None and self._heard > self.cursor:
                # Nothing comes again after a stop in order: the ledger makes this commit before it closes.
                moved = self._store.submit(self._move())
                moved.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def close(self) -> None:
        """Give back the consumer's connections."""
        await self._consumer.close()

    async def _open(self) -> int:
        ((row,),) = await self._store.commit(deliveries.open_cursor(self.name, self._clock.now()))
        cursor: int = row["result_no"]
        return cursor

    async def _hand_over_next(self) -> bool:
        """The next group. False if there was none."""
        rows = await self._fetch(deliveries.results_after(self._heard, MAX_GROUP))
        for row in rows:
            await self._deliver(row)
            self._heard = row["result_no"]
        if rows:
            await self._store.commit(self._move())
            self.cursor = self._heard
        return bool(rows)

    def _move(self) -> Statement:
        return deliveries.move_cursor(self.name, self._heard, self._clock.now())

    async def _fetch(self, statement: Statement) -> Rows:
        delay_s, longest_s = RETRY_S
        rows: Rows | None = None
        while True:
            try:
                rows = await self._store.fetch(statement)
            except StoreError as error:
                self.trouble = f"the ledger cannot be read: {error}"
            # asyncio.wait_for of Python 3.11, with which psycopg_pool waits for a reader, may swallow it (gh-86296).
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError
            if rows is not None:
                self.trouble = None
                return rows
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, longest_s)

    async def _deliver(self, row: DictRow) -> None:
        """Hand it over, however long that takes, or give it up."""
        result = _result_of(row)
        if not self._selection.includes(result):
            return
        delay_s, longest_s = RETRY_S
        attempts = 0
        while True:
            try:
                reason = await self._attempt(result)
            except ConsumerNotReady as error:
                self.trouble = f"call {result.call.id} waits: {error}"
                await asyncio.sleep(NOT_READY_S)
                continue
            except ConsumerRefused as refusal:
                await self._bury(row, attempts + 1, str(refusal))
                return
            if reason is None:
                self.trouble = None
                return
            attempts += 1
            if attempts == GIVE_UP_AFTER:
                await self._bury(row, attempts, reason)
                return
            self.trouble = f"call {result.call.id}, attempt {attempts}: {reason}"
            if attempts == 1:
                logger.warning(
                    "%s has not heard of call %d, and is told again: %s", self.name, result.call.id, reason,
                    extra=fields("delivery_retried", consumer=self.name, call=result.call.id),
                )  # fmt: skip
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, longest_s)

    async def _attempt(self, result: JobResult) -> str | None:
        """Hand it over once, if it is wanted: None, or why that is worth another try.

        Raises ConsumerRefused, ConsumerNotReady.
        """
        try:
            if not self._consumer.wants(result):
                return None
            async with asyncio.timeout(CONSUME_DEADLINE_S):
                await self._consumer.consume(result)
        except ConsumerNotReady:
            raise
        except ConsumerRefused:
            self._on_attempt(False)
            raise
        except TimeoutError:
            reason = f"no answer within {CONSUME_DEADLINE_S:g} s"
        except ConsumerUnavailable as error:
            reason = printable(str(error))[:MAX_REASON]
        except Exception as error:  # a defect of ours, or of a third party
            reason = printable(explain(error))[:MAX_REASON]
            logger.exception("a consumer has a defect", extra=fields("delivery_failed", consumer=self.name))
        else:
            self._on_attempt(True)
            return None
        self._on_attempt(False)
        return reason

    async def _bury(self, row: DictRow, attempts: int, reason: str) -> None:
        logger.error(
            "%s does not hear of call %s: %s", self.name, row["id"], printable(reason),
            extra=fields("dead_letter", consumer=self.name, call=row["id"], attempts=attempts),
        )  # fmt: skip
        number, now = row["result_no"], self._clock.now()
        await self._store.commit(
            deliveries.bury(self.name, number, attempts, reason[:MAX_REASON], now),
            deliveries.move_cursor(self.name, number, now),
        )
        self.trouble = None

    async def _hand_over_wanted(self) -> None:
        """The dead letters that an operator wants handed over: one attempt each, then they are dead again."""
        if not self._is_wanted:
            return
        self._is_wanted = False
        while rows := await self._fetch(deliveries.wanted(self.name, MAX_GROUP)):
            for row in rows:
                try:
                    reason = await self._attempt(_result_of(row))
                except (ConsumerNotReady, ConsumerRefused) as error:
                    reason = str(error)
                if reason is None:
                    await self._store.commit(deliveries.unbury(self.name, row["result_no"]))
                else:
                    await self._bury(row, row["letter_attempts"] + 1, reason)


def _result_of(row: DictRow) -> JobResult:
    return JobResult(
        call=calls.from_row(row),
        outcome=JobOutcome(row["outcome"]),
        reason=row["reason"],
        finished_at=row["finished_at"],
        transaction=row["transaction"],
    )

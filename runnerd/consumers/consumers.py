"""All consumers: each is brought its results in a task of its own, and what keeps one from them is in `status`.

Results ring here and wait for nobody. A task that fails is begun again from its cursor; the others go on.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from runnerd.clock import Clock
from runnerd.consumers.consumer import Consumer
from runnerd.consumers.delivery import RETRY_S, Delivery
from runnerd.consumers.selection import EVERYTHING, Selection
from runnerd.errors import explain
from runnerd.log import fields
from runnerd.services.metrics import Metrics
from runnerd.store import deliveries
from runnerd.store.calls import JobResult
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.tasks import Tasks, within

logger = logging.getLogger("runnerd.consumers")

COUNT_EVERY_S: Final = 2.0
"""How old the numbers in `status` may be."""
CLOSE_DEADLINE_S: Final = 5.0
CALM_S: Final = 60.0
"""Who ran for so long has recovered: its next wait is the first again."""


@dataclass(slots=True)
class _Kept:
    kind: str
    delivery: Delivery
    defect: str | None = None
    waiting: int = 0
    dead: int = 0
    moved_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerView:
    """One consumer, as `status` shows it. `waiting`: results that it has not heard of, `dead`: that were given up."""

    name: str
    kind: str
    waiting: int
    dead: int
    moved_at: datetime | None
    trouble: str | None


class Consumers:
    """The consumers by name, as one Service. `add` before it runs; `ring` belongs to Results."""

    name = "consumers"

    def __init__(self, store: Ledger, metrics: Metrics, clock: Clock) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._tasks = Tasks()
        self._is_stale = True
        """Something has happened since the results were counted."""

    def add(self, consumer: Consumer, kind: str, selection: Selection = EVERYTHING) -> None:
        """Raises ValueError when there is one of this name."""
        if consumer.name in self._kept:
            raise ValueError(f"there is a consumer {consumer.name!r} already")
        on_attempt = partial(self._on_attempt, consumer.name)
        delivery = Delivery(consumer, self._store, self._clock, selection, on_attempt)
        self._kept[consumer.name] = _Kept(kind, delivery)
        self._metrics.consumer_counted(consumer.name, waiting=0, dead=0)

    async def start(self) -> None:
        """There is nothing to wait for: the ledger keeps what comes."""

    async def run(self) -> None:
        """Each in a task of its own, until cancelled."""
        try:
            for name, kept in self._kept.items():
                self._tasks.spawn(self._run(kept), f"consumer:{name}")
            await self._count()
        finally:
            await self._tasks.cancel()

    def ring(self, _: JobResult) -> None:
        """There is a new result."""
        self._is_stale = True
        for kept in self._kept.values():
            kept.delivery.ring()

    def ring_for_wanted(self, name: str) -> None:
        """An operator wants dead letters of this one handed over."""
        self._is_stale = True
        self._kept[name].delivery.ring_for_wanted()

    async def stop(self) -> None:
        """Give back what they hold. What is not delivered yet is, after the next start."""
        await asyncio.gather(*(self._close(name, kept.delivery) for name, kept in self._kept.items()))

    @property
    def trouble(self) -> str | None:
        """Each has its own, among `problems`."""
        return None

    @property
    def names(self) -> list[str]:
        """The configured ones."""
        return list(self._kept)

    def view(self) -> list[ConsumerView]:
        """For `status`. The numbers are as old as COUNT_EVERY_S at most."""
        return [
            ConsumerView(
                name=name,
                kind=kept.kind,
                waiting=kept.waiting,
                dead=kept.dead,
                moved_at=kept.moved_at,
                trouble=kept.defect or kept.delivery.trouble,
            )
            for name, kept in self._kept.items()
        ]

    def problems(self) -> list[str]:
        """What an operator should know."""
        found = []
        for one in self.view():
            if one.trouble is not None:
                found.append(f"consumer {one.name}: {one.trouble}")
            if one.dead:
                many = f"{one.dead} results were" if one.dead > 1 else "a result was"
                found.append(f"consumer {one.name}: {many} given up; see runnerctl consumers dead {one.name}")
        return found

    async def count(self) -> None:
        """Look how far each one is. Raises StoreError."""
        self._is_stale = False
        for row in await self._store.fetch(deliveries.waiting()):
            kept = self._kept.get(row["consumer"])
            if kept is not None:
                kept.waiting, kept.dead, kept.moved_at = row["waiting"], row["dead"], row["moved_at"]
                self._metrics.consumer_counted(row["consumer"], waiting=kept.waiting, dead=kept.dead)

    async def _count(self) -> None:
        while True:
            if self._is_stale or any(kept.waiting or kept.dead for kept in self._kept.values()):
                with suppress(StoreError):  # while it is away the numbers are those of before
                    await self.count()
            await asyncio.sleep(COUNT_EVERY_S)

    async def _run(self, kept: _Kept) -> None:
        """Until cancelled, whatever fails."""
        loop = asyncio.get_running_loop()
        delay_s, longest_s = RETRY_S
        while True:
            began, kept.defect = loop.time(), None
            try:
                await kept.delivery.run()
            except Exception as error:
                delay_s = RETRY_S[0] if loop.time() - began >= CALM_S else delay_s
                is_expected = isinstance(error, StoreError)
                kept.defect = explain(error)
                logger.error(
                    "consumer %s begins again in %g s: %s", kept.delivery.name, delay_s, kept.defect,
                    exc_info=None if is_expected else error,
                    extra=fields("consumer_restarted", consumer=kept.delivery.name, delay_s=delay_s),
                )  # fmt: skip
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)

    async def _close(self, name: str, delivery: Delivery) -> None:
        try:
            await within(CLOSE_DEADLINE_S, delivery.close(), f"consumer-close:{name}")
        except Exception:  # of a third party as well: the stop goes on
            logger.exception("consumer %s does not close", name, extra=fields("consumer_not_closed", consumer=name))

    def _on_attempt(self, name: str, is_heard: bool) -> None:
        self._is_stale = True
        self._metrics.attempted(name, is_heard=is_heard)

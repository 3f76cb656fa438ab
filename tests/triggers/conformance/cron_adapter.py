"""Cron in the conformance suite: time itself causes the stimuli, and goes on while nobody listens."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

from protocol.triggers import Cron, Trigger
from runnerd.triggers.alarm import TimerAlarm
from runnerd.triggers.cron import CronProducer
from runnerd.triggers.producer import Producer
from runnerd.triggers.schedule import next_slot
from tests.triggers.conformance.adapter import Parts, Seen, Source

FIVE_A_SECOND = Cron(every_seconds=0.2, misfire="all")


class Slots:
    """The slots that pass from now on."""

    params: Mapping[str, str] = {}  # none

    async def cause(self, count: int) -> list[str]:
        after, slot, names = next_slot(FIVE_A_SECOND), datetime.now(UTC), []
        for _ in range(count):
            slot = after(slot)
            names.append(slot.isoformat())
            await asyncio.sleep(max(0.0, (slot - datetime.now(UTC)).total_seconds()))
        return names

    async def repeat(self) -> None:
        """Each twin fires every slot already."""

    def name_of(self, seen: Seen) -> str:
        return seen.due_at


@asynccontextmanager
async def _slots() -> AsyncIterator[Source]:
    yield Slots()


class CronAdapter:
    """See `adapter.Adapter`."""

    name = "cron"
    keeps = True
    is_bounded = True
    twins = 2
    flood = 12
    take_s = 0.8

    def prepare(self) -> None:
        """Nothing."""

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        return _slots()

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        return [FIVE_A_SECOND]

    def build(self, parts: Parts) -> Producer:
        return CronProducer(parts.router, parts.store, parts.metrics, parts.clock, TimerAlarm())

    def is_listening(self, producer: Producer) -> bool:
        return True  # it was declared


ADAPTER = CronAdapter()

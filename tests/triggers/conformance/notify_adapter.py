"""Plain notifications in the conformance suite: what is announced while nobody listens is gone, and only that."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count

import psycopg

from protocol.triggers import Event, Trigger
from runnerd.triggers.events import EventProducer
from runnerd.triggers.producer import Producer
from tests.triggers.conformance.adapter import Parts, Seen, Source

TOPIC = "flow"


class Announcer:
    """Notifies in transactions of their own, with a number."""

    params: Mapping[str, str] = {}  # none

    def __init__(self, connection: "psycopg.AsyncConnection[tuple[object, ...]]") -> None:
        self._connection = connection
        self._numbers = count(1)

    async def cause(self, count: int) -> list[str]:
        names = [str(next(self._numbers)) for _ in range(count)]
        for name in names:
            await self._connection.execute("select pg_notify(%s, %s)", (TOPIC, name))
        return names

    async def repeat(self) -> None:
        """The listening connection is cut, and made anew."""
        (former,) = await self._listeners()
        await self._connection.execute("select pg_terminate_backend(%s)", (former,))
        while await self._listeners() in ([], [former]):  # noqa: ASYNC110  # another server's: it tells nobody
            await asyncio.sleep(0.01)

    async def _listeners(self) -> list[object]:
        """The servers of connections that have listened, and done nothing else since than ask whether they live."""
        cursor = await self._connection.execute(
            "select pid from pg_stat_activity where datname = current_database() and query ~* '^(listen|select 1$)'"
        )
        return [pid for (pid,) in await cursor.fetchall()]

    def name_of(self, seen: Seen) -> str:
        return seen.payload


@asynccontextmanager
async def _announcer(dsn: str) -> AsyncIterator[Source]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield Announcer(connection)


class NotifyAdapter:
    """See `adapter.Adapter`."""

    name = "notify"
    keeps = False
    is_bounded = True
    twins = 1
    flood = 300
    take_s = 0.01

    def prepare(self) -> None:
        """Nothing."""

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        return _announcer(dsn)

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        return [Event(topic=TOPIC)]

    def build(self, parts: Parts) -> Producer:
        return EventProducer(parts.dsn, parts.router, parts.clock)

    def is_listening(self, producer: Producer) -> bool:
        assert isinstance(producer, EventProducer)
        return TOPIC in producer._listening


ADAPTER = NotifyAdapter()

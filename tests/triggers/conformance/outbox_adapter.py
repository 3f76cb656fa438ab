"""The outbox in the conformance suite: in a database of its own, whose rows wait for whoever comes back."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from protocol.triggers import Event, Trigger
from runnerd.triggers.outbox import OutboxProducer
from runnerd.triggers.producer import Producer
from tests.support.outbox_bench import outbox_sql
from tests.triggers.conformance.adapter import Parts, Seen, Source

TOPIC = "flow"


class Publisher:
    """Publishes in transactions of their own, with a number."""

    def __init__(self, connection: "psycopg.AsyncConnection[tuple[object, ...]]", dsn: str) -> None:
        self.params: Mapping[str, str] = {"event_dsn": dsn}
        self._connection = connection
        self._numbers = count(1)

    async def cause(self, count: int) -> list[str]:
        names = [str(next(self._numbers)) for _ in range(count)]
        for name in names:
            await self._connection.execute("select runnerd_outbox.publish(%s, %s)", (TOPIC, name))
        return names

    async def repeat(self) -> None:
        """The doorbell rings for nothing, and all connections are cut: everything is looked at anew."""
        await self._connection.execute("select pg_notify('runnerd_outbox', %s)", (TOPIC,))
        cut = (
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        cursor = await self._connection.execute(cut)
        assert cursor.rowcount > 0

    def name_of(self, seen: Seen) -> str:
        return seen.payload


@asynccontextmanager
async def _publisher(dsn: str) -> AsyncIterator[Source]:
    name = f"{conninfo_to_dict(dsn)['dbname']}_events"
    event_dsn = make_conninfo(dsn, dbname=name)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as owner:
        await owner.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            async with await psycopg.AsyncConnection.connect(event_dsn, autocommit=True) as connection:
                await connection.execute(outbox_sql().encode())
                yield Publisher(connection, event_dsn)
        finally:
            await owner.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


class OutboxAdapter:
    """See `adapter.Adapter`."""

    name = "outbox"
    keeps = True
    is_bounded = False
    twins = 2
    flood = 300
    take_s = 0.01

    def prepare(self) -> None:
        """Nothing."""

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        return _publisher(dsn)

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        return [Event(topic=TOPIC, mode="outbox")]

    def build(self, parts: Parts) -> Producer:
        return OutboxProducer(parts.params["event_dsn"], parts.router, parts.store, parts.metrics, parts.clock)

    def is_listening(self, producer: Producer) -> bool:
        assert isinstance(producer, OutboxProducer)
        return producer.is_connected and all(one.position is not None for one in producer._followers.values())


ADAPTER = OutboxAdapter()

"""The connection to an outbox: its doorbell, and the questions that are asked of its table. Knows no plugin.

Made by the outbox producer, which runs again with a new one when this one breaks. Nothing is written through it.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, LiteralString, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from protocol.limits import MAX_PAYLOAD_LENGTH
from runnerd.triggers.outbox_position import Head

ANSWER_DEADLINE_S: Final = 4.0
"""A silent connection is cut off after this; with the producer's probe every 3 s it is noticed in less than 10."""
MAX_ROWS: Final = 256
MAX_BYTES: Final = 4 << 20
"""Of the payloads of one answer, but for its first row."""
MAX_INLINE_BYTES: Final = MAX_PAYLOAD_LENGTH * 4
"""More cannot be a payload that a call carries: UTF-8 takes at most four bytes for a character."""
MAX_EXAMINED_BYTES: Final = 16 << 20

_HEAD: Final = """
select a.id::text as outbox, case when s.is_called then s.last_value else 0 end as given,
       coalesce((select max(id) from runnerd_outbox.events), 0) as newest
from runnerd_outbox.about a, runnerd_outbox.event_ids s
"""
_ENCODING: Final = "case getdatabaseencoding() when 'SQL_ASCII' then 'SQL_ASCII' else 'UTF8' end"
"""Texts come as bytes: a database in SQL_ASCII holds any, which the server would refuse to send as text, and one event
must not stop all others."""
_READ: Final = f"""
select id, convert_to(key, {_ENCODING}) as key, created_at, size, found,
       case when size <= %(inline)s then convert_to(payload, {_ENCODING}) end as payload
from (
    select id, key, created_at, payload, octet_length(payload) as size, count(*) over () as found,
           sum(least(octet_length(payload), %(inline)s)) over (order by id) as together
    from (
        select id, key, created_at, payload from runnerd_outbox.events
        where topic = %(topic)s and id > %(after)s order by id limit %(rows)s
    ) as next
) as counted
where together - least(size, %(inline)s) < %(bytes)s
order by id
"""  # noqa: S608  # of what stands above
_PAYLOAD: Final = f"""
select convert_to(payload, {_ENCODING}) as payload from runnerd_outbox.events
where id = %(id)s and octet_length(payload) <= %(most)s
"""  # noqa: S608  # of what stands above
_LAG: Final = """
select asked.n, count(e.id) as events, min(e.created_at) as since
from unnest(%(topics)s::text[], %(after)s::bigint[]) with ordinality as asked (topic, after, n)
left join runnerd_outbox.events e on e.topic = asked.topic and e.id > asked.after
group by asked.n order by asked.n
"""

Connection: TypeAlias = AsyncConnection[DictRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An event. `payload` is None if it has more bytes (`size`) than any call carries."""

    id: int
    key: str | None
    payload: str | None
    size: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How many events stand behind a position, and when the first of them was created."""

    events: int
    since: datetime | None


class OutboxLink:
    """Open for the length of `open_link`. One question at a time."""

    def __init__(self, connection: Connection, fd: int, wake: asyncio.Event) -> None:
        self._connection = connection
        self._fd = fd
        self._wake = wake
        self._rung: set[str] = set()
        self._is_broken = False
        connection.add_notify_handler(lambda notification: self._hear(notification.payload))

    async def fetch_head(self) -> Head:
        """Raises psycopg.Error, as all do: the link is of no use then."""
        rows = await self._fetch(_HEAD, {})
        if not rows:
            raise psycopg.DatabaseError("runnerd_outbox.about is empty: install the outbox again")
        return Head(**rows[0])

    async def fetch_rows(self, topic: str, after: int) -> tuple[Sequence[Row], bool]:
        """The next events of a topic in order; and whether there are no more behind them."""
        parameters = {
            "topic": topic, "after": after, "rows": MAX_ROWS, "bytes": MAX_BYTES, "inline": MAX_INLINE_BYTES,
        }  # fmt: skip
        found = await self._fetch(_READ, parameters)
        rows = [
            Row(id=row["id"], key=_text(row["key"]), payload=_text(row["payload"]), size=row["size"],
                created_at=row["created_at"].astimezone(UTC))
            for row in found
        ]  # fmt: skip
        return rows, not rows or len(rows) == found[0]["found"] < MAX_ROWS

    async def fetch_payload(self, event_id: int) -> str | None:
        """The whole of a large one; None if it is larger than anybody should examine, or gone."""
        rows = await self._fetch(_PAYLOAD, {"id": event_id, "most": MAX_EXAMINED_BYTES})
        return _text(rows[0]["payload"]) if rows else None

    async def fetch_created_at(self, event_id: int) -> datetime | None:
        """When an event was created; None if it is not there."""
        rows = await self._fetch("select created_at from runnerd_outbox.events where id = %(id)s", {"id": event_id})
        return rows[0]["created_at"].astimezone(UTC) if rows else None

    async def fetch_lags(self, places: Sequence[tuple[str, int]]) -> list[Lag]:
        """For each topic and id: what stands behind it."""
        rows = await self._fetch(_LAG, {"topics": [topic for topic, _ in places], "after": [id_ for _, id_ in places]})
        return [Lag(events=row["events"], since=row["since"] and row["since"].astimezone(UTC)) for row in rows]

    def take_rung(self) -> set[str]:
        """The topics that were announced since the last time. Raises psycopg.OperationalError if the link broke."""
        if self._is_broken:
            raise psycopg.OperationalError("the connection was closed")
        rung, self._rung = self._rung, set()
        return rung

    async def _fetch(self, query: LiteralString, parameters: Mapping[str, Any]) -> list[DictRow]:
        loop = asyncio.get_running_loop()
        # psycopg waits on the same socket itself while it executes.
        loop.remove_reader(self._fd)
        # Cancelling would make psycopg ask the server to cancel, and wait for that: a silent one is cut off instead.
        deadline = loop.call_later(ANSWER_DEADLINE_S, self._cut)
        try:
            cursor = await self._connection.execute(query, parameters, binary=True)
            rows = await cursor.fetchall()
        finally:
            deadline.cancel()
            if not self._connection.closed:
                self.listen()
        self._drain()  # what came right behind the answer is read already, and wakes nobody
        return rows

    def listen(self) -> None:
        """Hear the doorbell."""
        asyncio.get_running_loop().add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        try:
            self._connection.pgconn.consume_input()
        except psycopg.Error:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._is_broken = True
            self._wake.set()
            return
        self._drain()

    def _drain(self) -> None:
        while (notification := self._connection.pgconn.notifies()) is not None:
            self._hear(notification.extra.decode(errors="replace"))

    def _hear(self, topic: str) -> None:
        self._rung.add(topic)
        self._wake.set()

    def _cut(self) -> None:
        with socket.socket(fileno=os.dup(self._fd)) as connected, suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)


def _text(data: bytes | None) -> str | None:
    return data.decode("utf-8", errors="replace") if data is not None else None


@asynccontextmanager
async def open_link(dsn: str, wake: asyncio.Event) -> AsyncIterator[OutboxLink]:
    """Connect and listen; `wake` is set whenever `take_rung` has something to say."""
    connection = await AsyncConnection.connect(
        dsn,
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=5,
        client_encoding="utf8",
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=2,
    )
    async with connection:
        loop = asyncio.get_running_loop()
        # Of our own: libpq closes its one when the connection breaks, and the next who opens something gets its number.
        fd = os.dup(connection.fileno())
        link = OutboxLink(connection, fd, wake)
        deadline = loop.call_later(ANSWER_DEADLINE_S, link._cut)
        try:
            await connection.execute("listen runnerd_outbox")
            deadline.cancel()
            link.listen()
            yield link
        finally:
            deadline.cancel()
            loop.remove_reader(fd)
            os.close(fd)

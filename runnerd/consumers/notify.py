"""Announces each result with pg_notify, in the database of events: an indexer that listens sees what came of its own.

A notification is lossless only while somebody listens. Who must not miss one reads `job_calls` by `result_no`.
"""

from collections.abc import Callable

import psycopg
from psycopg import AsyncConnection

from runnerd.consumers.consumer import ConsumerNotReady, ConsumerUnavailable
from runnerd.consumers.message import message_of
from runnerd.store.calls import JobResult
from runnerd.store.reason import connect_reason

MAX_BYTES = 7_999
"""What PostgreSQL takes."""


class NotifyConsumer:
    """A Consumer with a connection of its own."""

    def __init__(self, name: str, dsn: str, channel: str, find_echo: Callable[[], str | None] = lambda: None) -> None:
        """`find_echo`: why what is announced now would come back as a call."""
        self.name = name
        self._dsn = dsn
        self._channel = channel
        self._find_echo = find_echo
        self._connection: AsyncConnection[tuple[object, ...]] | None = None

    def wants(self, result: JobResult) -> bool:
        """All."""
        return True

    async def consume(self, result: JobResult) -> None:
        """Announce it; a message that is too long, by the id of its call alone. It waits while it would come back."""
        echo = self._find_echo()
        if echo is not None:
            raise ConsumerNotReady(echo)
        text = message_of(result)
        if len(text.encode()) > MAX_BYTES:
            text = f'{{"id":{result.call.id},"is_cut":true}}'
        try:
            connection = await self._connected()
            await connection.execute("select pg_notify(%s, %s)", (self._channel, text))
        except psycopg.Error as error:
            await self.close()
            raise ConsumerUnavailable(connect_reason(error)) from error

    async def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> AsyncConnection[tuple[object, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=5)
        return self._connection

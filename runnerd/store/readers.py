"""The connections that queries run on, beside the writer's own: a pool, made anew when the database was away."""

from typing import Any, Final, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from runnerd.store.errors import StoreUnavailable
from runnerd.store.ledger import Rows
from runnerd.store.reason import connect_reason
from runnerd.store.statement import Statement
from runnerd.tasks import Tasks

READERS: Final = 4
CONNECT_TIMEOUT_S: Final = 5
SOCKET: Final[dict[str, Any]] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A connection that is only half there is noticed in seconds, not in hours. Unix sockets ignore these."""

Pool: TypeAlias = AsyncConnectionPool[AsyncConnection[DictRow]]


class Readers:
    """Used by `store`, which opens, renews and closes it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool = _make_pool(dsn)
        self._closing = Tasks()

    async def open(self) -> None:
        """Raises psycopg.Error when the database cannot be reached."""
        await self._pool.open(wait=True, timeout=CONNECT_TIMEOUT_S * 2)

    async def renew(self) -> None:
        """The database is back. A pool whose connections failed waits longer and longer before it tries again: as long
        as the database was away."""
        former, self._pool = self._pool, _make_pool(self._dsn)
        await self._pool.open()
        self._closing.spawn(former.close(), "store:readers")

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()
        await self._closing.finish(CONNECT_TIMEOUT_S)

    async def fetch(self, statement: Statement) -> Rows:
        """The rows of one query. Raises StoreUnavailable."""
        stale = 0
        while True:
            connection: AsyncConnection[DictRow] | None = None
            pool = self._pool
            try:
                async with pool.connection(timeout=CONNECT_TIMEOUT_S) as connection:
                    cursor = await connection.execute(statement.sql, statement.parameters)
                    return await cursor.fetchall()
            except psycopg.Error as error:
                if pool is not self._pool:
                    continue
                # The pool learns only by use that its connections died with the server: each of them may fail once.
                if connection is None or not connection.closed or stale == READERS:
                    raise StoreUnavailable(connect_reason(error)) from error
                stale += 1


def _make_pool(dsn: str) -> Pool:
    return AsyncConnectionPool(
        dsn,
        connection_class=AsyncConnection[DictRow],
        kwargs={"autocommit": True, "row_factory": dict_row, "connect_timeout": CONNECT_TIMEOUT_S, **SOCKET},
        min_size=1,
        max_size=READERS,
        open=False,
        name="readers",
    )

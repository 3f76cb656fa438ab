"""What the rest of runnerd asks of the ledger: to commit and to fetch. `store.Store` is the real one."""

import asyncio
from typing import Protocol, TypeAlias

from psycopg.rows import DictRow

from runnerd.store.statement import Statement

Rows: TypeAlias = list[DictRow]


class Ledger(Protocol):
    """Where everything durable is written and read."""

    async def commit(self, *statements: Statement, is_idempotent: bool = True) -> list[Rows]:
        """Run `statements` in one durable transaction; the rows of each. See `Store.commit`."""

    def submit(self, *statements: Statement, is_idempotent: bool = True) -> "asyncio.Future[list[Rows]]":
        """`commit` for who goes on meanwhile. Cancelling the future changes nothing: the commit is made."""

    async def fetch(self, statement: Statement) -> Rows:
        """The rows of one query. Raises StoreUnavailable."""

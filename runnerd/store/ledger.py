"""What the rest of runnerd asks of the ledger: two verbs. `store.Store` is the real one."""

from typing import Protocol, TypeAlias

from psycopg.rows import DictRow

from runnerd.store.statement import Statement

Rows: TypeAlias = list[DictRow]


class Ledger(Protocol):
    """Where everything durable is written and read."""

    async def commit(self, *statements: Statement, is_idempotent: bool = True) -> list[Rows]:
        """Run `statements` in one durable transaction; the rows of each. See `Store.commit`."""

    async def fetch(self, statement: Statement) -> Rows:
        """The rows of one query. Raises StoreUnavailable."""

"""Numbered migrations, each in its own transaction, and the advisory lock that keeps a second runnerd out.

`migrations/NNNN_name.sql` run in order, once; an applied file that has changed since is refused.
"""

import asyncio
import hashlib
import logging
from importlib import resources

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from runnerd.log import fields
from runnerd.store.errors import DatabaseInUse, MigrationRefused

logger = logging.getLogger(__name__)

LOCK_KEY = 0x72756E6E65726420  # "runnerd " as a 64-bit number
LOCK_PATIENCE_S = 5.0
"""At the start: who holds it then is most likely another runnerd."""

_TABLE = """
create table if not exists migrations (
    number integer primary key, name text not null, sha256 text not null, applied_at timestamptz not null default now())
"""


async def lock_database(connection: AsyncConnection[DictRow], patience_s: float | None = None) -> None:
    """Hold the database for this process for as long as `connection` lives.

    Two supervisors on one ledger would sign the same nonces. Waits a little (`patience_s`, else LOCK_PATIENCE_S):
    after a crash PostgreSQL may need a moment to notice that the old connection is gone. Raises DatabaseInUse.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (LOCK_PATIENCE_S if patience_s is None else patience_s)
    is_told = False
    while True:
        cursor = await connection.execute("select pg_try_advisory_lock(%s) as is_ours", (LOCK_KEY,))
        row = await cursor.fetchone()
        if row is not None and row["is_ours"]:
            return
        if loop.time() > deadline:
            raise DatabaseInUse
        if not is_told:
            is_told = True
            logger.warning("the database is locked by another session", extra=fields("store_locked"))
        await asyncio.sleep(0.05)


async def migrate(connection: AsyncConnection[DictRow]) -> None:
    """Bring the schema up to this release. Raises MigrationRefused when the database is not ours to change."""
    await connection.execute(_TABLE)
    cursor = await connection.execute("select number, name, sha256 from migrations")
    applied = {row["number"]: row for row in await cursor.fetchall()}
    known = _migrations()
    newer = sorted(set(applied) - {number for number, _, _ in known})
    if newer:
        raise MigrationRefused(f"it was written by a newer runnerd (migration {newer[-1]} is unknown here)")
    for number, name, text in known:
        digest = hashlib.sha256(text.encode()).hexdigest()
        if number in applied:
            if applied[number]["sha256"] != digest:
                raise MigrationRefused(f"migration {name} was changed after it had been applied")
            continue
        async with connection.transaction():
            await connection.execute(text.encode())
            await connection.execute(
                "insert into migrations (number, name, sha256) values (%s, %s, %s)", (number, name, digest)
            )
        logger.info("schema migrated", extra=fields("store_migrated", migration=name))


def _migrations() -> list[tuple[int, str, str]]:
    folder = resources.files("runnerd.store") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [(int(file.name[:4]), file.name, file.read_text("utf-8")) for file in files]

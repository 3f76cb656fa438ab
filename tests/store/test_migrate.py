"""Migrations: each once, in order, never changed afterwards; and the lock that keeps a second runnerd out."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from runnerd.store import migrate as module
from runnerd.store.errors import DatabaseInUse, MigrationRefused
from runnerd.store.migrate import lock_database, migrate
from tests.support.aio import run_async

Work = Callable[[AsyncConnection[DictRow]], Coroutine[Any, Any, None]]
KNOWN = module._migrations()


def connected(dsn: str, work: Work) -> None:
    """Run `work` on a connection of its own."""

    async def scenario() -> None:
        async with await AsyncConnection.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
            await work(connection)

    run_async(scenario())


def tables(dsn: str) -> set[str]:
    """The tables in the public schema."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
    return {row[0] for row in rows}


def test_empty_database_gets_the_whole_schema_and_a_second_run_changes_nothing(database: str) -> None:
    """Numbers count from 1 without a gap, and each is recorded with its hash."""

    async def work(connection: AsyncConnection[DictRow]) -> None:
        await migrate(connection)
        cursor = await connection.execute("select number, name, applied_at from migrations order by number")
        first = await cursor.fetchall()
        await migrate(connection)
        cursor = await connection.execute("select number, name, applied_at from migrations order by number")
        assert await cursor.fetchall() == first
        assert [row["number"] for row in first] == list(range(1, len(KNOWN) + 1))

    connected(database, work)
    assert {"job_calls", "decisions", "plugin_state", "trigger_cursors", "wallets", "intents", "attempts"} <= tables(
        database
    )


def test_migration_that_was_changed_after_it_was_applied_is_refused(database: str) -> None:
    """The database is not what this release believes it to be."""

    async def work(connection: AsyncConnection[DictRow]) -> None:
        await migrate(connection)
        await connection.execute("update migrations set sha256 = 'other' where number = 1")
        with pytest.raises(
            MigrationRefused, match=r"migration 0001_initial\.sql was changed after it had been applied"
        ):
            await migrate(connection)

    connected(database, work)


def test_database_of_a_newer_release_is_refused(database: str) -> None:
    """Going back needs the release that wrote it, or a backup; nothing is changed."""

    async def work(connection: AsyncConnection[DictRow]) -> None:
        await migrate(connection)
        await connection.execute("insert into migrations (number, name, sha256) values (9001, 'future', 'x')")
        with pytest.raises(MigrationRefused, match=r"newer runnerd \(migration 9001 is unknown here\)"):
            await migrate(connection)

    connected(database, work)


def test_migration_that_fails_leaves_nothing_of_itself(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one transaction: the ones before stand, and it is tried again at the next start."""
    broken = (len(KNOWN) + 1, "broken.sql", "create table half (x int); select 1 / 0;")
    monkeypatch.setattr(module, "_migrations", lambda: [*KNOWN, broken])

    async def work(connection: AsyncConnection[DictRow]) -> None:
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                await migrate(connection)
        mended = (broken[0], broken[1], "create table half (x int)")
        monkeypatch.setattr(module, "_migrations", lambda: [*KNOWN, mended])
        await migrate(connection)

    connected(database, work)
    assert "half" in tables(database)


def test_lock_is_held_as_long_as_its_connection_lives(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one is refused; when the first is gone, even without a goodbye, it is free."""
    monkeypatch.setattr(module, "LOCK_PATIENCE_S", 0.1)

    async def work(first: AsyncConnection[DictRow]) -> None:
        await lock_database(first)
        async with await AsyncConnection.connect(database, autocommit=True, row_factory=dict_row) as second:
            with pytest.raises(DatabaseInUse):
                await lock_database(second)
            await second.execute("select pg_terminate_backend(%s)", (first.info.backend_pid,))
            await lock_database(second)

    connected(database, work)


def test_lock_waits_a_moment_for_a_connection_that_is_just_ending(database: str) -> None:
    """After a crash PostgreSQL may need a little while to notice."""

    async def work(first: AsyncConnection[DictRow]) -> None:
        await lock_database(first)
        async with await AsyncConnection.connect(database, autocommit=True, row_factory=dict_row) as second:
            locking = asyncio.get_running_loop().create_task(lock_database(second))
            await asyncio.sleep(0.12)
            assert not locking.done()
            await first.close()
            await asyncio.wait_for(locking, 5)

    connected(database, work)

"""The door to PostgreSQL: one writer with group commit, a few readers, migrations, and the lock that keeps us alone.

A commit is all-or-nothing and durable when the await returns. Commits that arrive while one is under way share the
next transaction, so the disk is asked once for many. Knows no table; the modules beside it build the statements.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from runnerd.crash_points import reached
from runnerd.log import fields
from runnerd.store.errors import CommitRefused, StateOverLimit, StoreUnavailable
from runnerd.store.ledger import Rows
from runnerd.store.migrate import lock_database, migrate
from runnerd.store.plan import empty_answers, plan
from runnerd.store.readers import CONNECT_TIMEOUT_S, SOCKET, Readers
from runnerd.store.reason import connect_reason, first_line
from runnerd.store.statement import Statement
from runnerd.tasks import end

logger = logging.getLogger(__name__)

Connection: TypeAlias = AsyncConnection[DictRow]

MAX_GROUP = 256
"""Commits in one transaction: bounds the latency of the first and the work that is repeated if one is refused."""
RECONNECT_S = (0.05, 2.0)
CLOSE_PATIENCE_S = 10.0
"""How long `close` lets waiting commits try: a database that is away must not keep a process that was told to stop."""
_KEEPALIVE: Final = """
select set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
       set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '10000', false)
"""
"""The same at the server's end: without it our dead session keeps the lock for the server's own two hours."""
LOST_LOCK_PATIENCE_S = 30.0
"""After a lost connection the lock's holder is most likely our own dead session: the server needs some 11 s to see."""
_LIMITS: Final = """
select set_config('lock_timeout', '5s', false), set_config('statement_timeout', '30s', false),
       set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false)
"""
"""An administrator's lock, or a disk that hangs, shows as `store_stuck`, not as silence; what waits is tried again.
And what is written is found by its key: a plan that was made while a table was small must not read it all later."""
_PASSING: Final = ("25006", "40", "53", "55", "57", "58")
"""SQLSTATEs, or their classes, that say nothing about the statement: a full disk, a standby, a cancelled query …"""


OVER_LIMIT: Final = "RD001"
"""The SQLSTATE with which `keep_state_within` refuses (migration 6)."""


@dataclass(frozen=True, slots=True)
class _Commit:
    statements: Sequence[Statement]
    done: "asyncio.Future[list[Rows]]"
    is_idempotent: bool


class Store:
    """Opened once, by the app. `dsn` is a libpq connection string; it may hold a password and is never logged."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pending: list[_Commit] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closed = False
        self._writer: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._readers = Readers(dsn)
        self.is_connected = False

    async def open(self) -> None:
        """Connect, take the database's lock, migrate. Raises StoreUnavailable or DatabaseInUse."""
        try:
            self._writer = await self._connect()
            await migrate(self._writer)
            await self._writer.execute(_LIMITS)  # only now: a migration may take its time
            await self._readers.open()
        except psycopg.Error as error:
            raise StoreUnavailable(connect_reason(error)) from None
        self._task = asyncio.get_running_loop().create_task(self._write(), name="store:writer")

    async def run_until_failed(self) -> None:
        """Wait for the writer's end, which means that another runnerd has taken the database. Raises DatabaseInUse."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """Let waiting commits finish, then disconnect. Commits that still wait, and later ones: StoreUnavailable."""
        if self._task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_PATIENCE_S):
                    await self._idle.wait()
            await end([self._task])
        await self._readers.close()
        if self._writer is not None:
            await self._writer.close()

    async def commit(self, *statements: Statement, is_idempotent: bool = True) -> list[Rows]:
        """Run `statements` in one durable transaction; the rows of each. All or none.

        Waits as long as the database is away; it is run even if the caller is cancelled meanwhile. Raises CommitRefused
        when a constraint forbids it, and StoreUnavailable for a commit that is not idempotent when the connection broke
        and the outcome is unknown.
        """
        return await self.submit(*statements, is_idempotent=is_idempotent)

    def submit(self, *statements: Statement, is_idempotent: bool = True) -> "asyncio.Future[list[Rows]]":
        """`commit` without a task of its own: done when that would return, with its rows or its error."""
        if self._is_closed:
            raise StoreUnavailable("the ledger is closed")
        commit = _Commit(statements, asyncio.get_running_loop().create_future(), is_idempotent)
        self._pending.append(commit)
        self._idle.clear()
        self._wake.set()
        return commit.done

    async def fetch(self, statement: Statement) -> Rows:
        """The rows of one query, on a reader. Raises StoreUnavailable."""
        return await self._readers.fetch(statement)

    # --- the writer --------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._pending:
                    group = self._pending[:MAX_GROUP]
                    await self._commit_group(group)
                    # Removed only now: `close` waits for what stands here.
                    del self._pending[: len(group)]
                self._idle.set()
        finally:
            # Nobody may wait for a writer that is gone.
            self._is_closed, self.is_connected = True, False
            for commit in self._pending:
                _settle_error(commit, StoreUnavailable("the ledger was closed before this was committed"))
            self._pending.clear()
            self._idle.set()

    async def _commit_group(self, group: Sequence[_Commit]) -> None:
        """Until each has its rows or its error, in order. First all together; if that is refused, in halves: a plugin
        whose commits are refused again and again must not cost the others a transaction each."""
        waiting = list(group)
        size = len(waiting)
        stuck_by = None
        delay_s, longest_s = RECONNECT_S
        while waiting:
            if self._writer is None or self._writer.closed:
                await self._reconnect()
            batch = waiting[:size]
            try:
                reached("store.committing")
                results = await self._run(batch)
            except Exception as error:
                if self._writer is None or self._writer.closed:
                    self._on_lost_connection(batch, error)
                    waiting = [commit for commit in waiting if commit.is_idempotent or commit not in batch]
                elif isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_PASSING):
                    reason = first_line(error)
                    if reason != stuck_by:
                        logger.error("the database cannot commit now: %s", reason,
                                     extra=fields("store_stuck", reason=reason))  # fmt: skip
                        stuck_by = reason
                    self.is_connected = False
                    await asyncio.sleep(delay_s)
                    delay_s = min(delay_s * 2, longest_s)
                elif len(batch) == 1:  # nothing of it stands, and nothing ever will
                    _settle_error(batch[0], _refusal(error))
                    waiting = waiting[1:]
                    size = len(waiting)
                else:  # one of them is refused and took the others with it
                    size = len(batch) // 2
            else:
                reached("store.committed")
                self.is_connected = True
                for commit, rows in zip(batch, results, strict=True):
                    if not commit.done.done():
                        commit.done.set_result(rows)
                waiting = waiting[len(batch) :]
                size = len(waiting)

    async def _run(self, group: Sequence[_Commit]) -> list[list[Rows]]:
        connection = self._writer
        assert connection is not None
        commits = [commit.statements for commit in group]
        steps, answers = plan(commits), empty_answers(commits)
        if len(steps) == 1:  # one statement is a transaction of its own
            (step,) = steps
            step.give(await _rows_of(await connection.execute(step.sql, step.parameters, prepare=True)), answers)
            return answers
        try:
            async with connection.pipeline():
                # Not left to the pipeline, which is a transaction too: leaving it after an error of ours, or when this
                # is cancelled, would commit what was sent until then.
                await connection.execute("begin")
                cursors = [await connection.execute(step.sql, step.parameters, prepare=True) for step in steps]
                await connection.execute("commit")
        except Exception:
            try:
                await connection.rollback()
            except psycopg.Error:
                await connection.close()
            raise
        for step, cursor in zip(steps, cursors, strict=True):
            step.give(await _rows_of(cursor), answers)
        return answers

    def _on_lost_connection(self, batch: Sequence[_Commit], error: Exception) -> None:
        """Whether the commit took place cannot be known. What is idempotent is run again, the rest is told so."""
        reason = first_line(error)
        logger.error("the database is not reachable: %s", reason, extra=fields("store_lost", reason=reason))
        self.is_connected = False
        for commit in batch:
            if not commit.is_idempotent:
                _settle_error(commit, StoreUnavailable("the connection broke while this was committed"))

    async def _reconnect(self) -> None:
        delay_s, longest_s = RECONNECT_S
        told = None
        while True:
            if self._writer is not None:
                await self._writer.close()
            try:
                self._writer = await self._connect(LOST_LOCK_PATIENCE_S)
                await self._writer.execute(_LIMITS)
            except (psycopg.Error, StoreUnavailable) as error:
                reason = connect_reason(error)
                if reason != told:  # not at each trial: an outage may be long
                    logger.warning("no database yet: %s", reason, extra=fields("store_reconnecting", reason=reason))
                    told = reason
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)
            else:
                await self._readers.renew()
                logger.info("the database is back", extra=fields("store_connected"))
                return

    async def _connect(self, patience_s: float | None = None) -> Connection:
        connection = await AsyncConnection.connect(
            self._dsn, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_TIMEOUT_S, **SOCKET
        )
        try:
            await connection.execute(_KEEPALIVE)
            await lock_database(connection, patience_s)
        except BaseException:
            await connection.close()
            raise
        self.is_connected = True
        return connection


async def _rows_of(cursor: psycopg.AsyncCursor[DictRow]) -> Rows:
    return await cursor.fetchall() if cursor.description else []


def _refusal(error: Exception) -> CommitRefused:
    is_over = isinstance(error, psycopg.Error) and error.sqlstate == OVER_LIMIT
    return StateOverLimit(first_line(error)) if is_over else CommitRefused(first_line(error))


def _settle_error(commit: _Commit, error: Exception) -> None:
    if not commit.done.done():
        commit.done.set_exception(error)


__all__ = ["Rows", "Store"]

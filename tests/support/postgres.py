"""One embedded PostgreSQL for the whole test session, and a fresh database for each test that asks.

Fixtures: `postgres` (the session's server), `database` (DSN of an empty database of this test alone) and
`ledger_dsn` (the same, with runnerd's schema). The server lives in a process of its own, started at the first use.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from runnerd.store.migrate import migrate
from tests.support.short_dir import make_short_dir

REPOSITORY = Path(__file__).resolve().parents[2]
READY_DEADLINE_S = 120.0
STOP_DEADLINE_S = 30.0
TEMPLATE = "ledger_template"


@dataclass(slots=True)
class PostgresServer:
    """A running server. `dsn` reaches its main database."""

    dsn: str
    _numbers: Iterator[int] = field(default_factory=count)
    _has_template: bool = False

    def create_database(self, *, is_migrated: bool = False) -> str:
        """A new database, empty or with runnerd's schema; return its DSN."""
        name = f"test_{next(self._numbers)}"
        if is_migrated and not self._has_template:
            self._make_template()
        template = TEMPLATE if is_migrated else "template1"
        self._execute(f"create database {name} template {template}")
        return self.dsn_of(name)

    def drop_database(self, dsn: str) -> None:
        """Remove a database, cutting off who still uses it."""
        self._execute(f"drop database {psycopg.conninfo.conninfo_to_dict(dsn)['dbname']} with (force)")

    def dsn_of(self, database: str) -> str:
        """The DSN of another database of this server."""
        return make_conninfo(self.dsn, dbname=database)

    def _make_template(self) -> None:
        self._execute(f"create database {TEMPLATE}")
        asyncio.run(_migrate(self.dsn_of(TEMPLATE)))
        self._has_template = True

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def host_postgres(data_dir: Path, runtime_dir: Path) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """Run a cluster in a process of its own: yields the process and its report. Ends both afterwards."""
    command = [sys.executable, "-m", "tests.support.postgres_host", str(data_dir), str(runtime_dir)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield process, json.loads(line) if line else {"error": "no report"}
        finally:
            try:
                process.communicate(timeout=STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's server. Tests share it; each takes a database of its own."""
    with make_short_dir(in_memory=True) as base, host_postgres(base / "data", base / "run") as (_, report):
        server = PostgresServer(report["dsn"])
        # A power cut during the tests loses nothing that matters; syncing each commit would make them slower.
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """DSN of an empty database of this test alone."""
    dsn = postgres.create_database()
    yield dsn
    postgres.drop_database(dsn)


@pytest.fixture
def ledger_dsn(postgres: PostgresServer) -> Iterator[str]:
    """DSN of a database of this test alone, with runnerd's schema."""
    dsn = postgres.create_database(is_migrated=True)
    yield dsn
    postgres.drop_database(dsn)


async def _migrate(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        await migrate(connection)

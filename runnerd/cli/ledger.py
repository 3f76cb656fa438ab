"""The ledger for commands that read it themselves, with or without a running daemon: one read-only transaction.

Without a DSN the embedded database is used where it runs, and else started for as long as the command takes.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
import psycopg

from runnerd.cli.exits import CliError, ExitCode
from runnerd.config.model import Config
from runnerd.store.embedded import EmbeddedPostgres
from runnerd.store.embedded.server import Deadlines
from runnerd.store.reason import connect_reason

CONNECT_TIMEOUT_S: Final = 5
LOCK_S: Final = 2.0
"""Who holds the embedded database's lock and takes no connection is a daemon that starts or stops just now."""


@contextmanager
def read_ledger(config: Config) -> Iterator[psycopg.Connection[Any]]:
    """A connection that sees one moment of the ledger and can change nothing. Raises CliError."""
    if config.database.dsn is not None:
        connection = _connect(config.database.dsn)
        with _closing(connection):
            yield connection
        return
    embedded = EmbeddedPostgres(config.data_dir, config.runtime_dir, Deadlines(lock_s=LOCK_S))
    try:
        connection = _connect(embedded.dsn)
    except CliError:
        with _started(embedded, config) as dsn, _closing(_connect(dsn)) as started:
            yield started
    else:
        with _closing(connection):
            yield connection


@contextmanager
def _closing(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    try:
        yield connection
    except psycopg.Error as error:
        raise CliError(f"the ledger cannot be read: {connect_reason(error)}") from error
    finally:
        connection.close()


def _connect(dsn: str) -> psycopg.Connection[Any]:
    try:
        connection = psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S, application_name="runnerctl")
    except psycopg.Error as error:
        raise CliError(f"the ledger: {connect_reason(error)}", ExitCode.DOWN) from error
    connection.read_only = True
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return connection


@contextmanager
def _started(embedded: EmbeddedPostgres, config: Config) -> Iterator[str]:
    """The embedded database, running for the length of the block. A ledger that is not there is not made."""
    data_dir = config.data_dir
    if data_dir.exists() and not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        raise CliError(f"{data_dir} belongs to another user: run this as the user of runnerd")
    if not (data_dir / "postgres").exists():
        raise CliError(f"there is no ledger in {data_dir} yet: start runnerd once", ExitCode.DOWN)
    click.echo("runnerd is not running: its database is started for this command", err=True)
    with asyncio.Runner() as runner:
        dsn = runner.run(embedded.start())
        try:
            yield dsn
        finally:
            runner.run(embedded.stop())

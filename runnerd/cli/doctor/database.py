"""The ledger's database: reachable, and new enough; or, without a DSN, PostgreSQL binaries that can be started here.

Never prints a DSN: it may hold a password. Starts nothing.
"""

from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from runnerd.cli.doctor.finding import Finding, bad, good, weak
from runnerd.config.model import Config
from runnerd.store.embedded.account import find_barrier, get_account
from runnerd.store.embedded.binaries import choose, find_binaries
from runnerd.store.errors import StoreError

CONNECT_TIMEOUT_S: Final = 5
OLDEST_TESTED: Final = 15


def examine_database(config: Config) -> list[Finding]:
    """One finding for the ledger, one for the database of events if it is another."""
    database = config.database
    found = [_reachable("ledger", database.dsn) if database.dsn is not None else _embedded(config.data_dir)]
    if database.event_dsn is not None:
        found.append(_reachable("events", database.event_dsn))
    return found


def _reachable(subject: str, dsn: str) -> Finding:
    key = "database.dsn" if subject == "ledger" else "database.event_dsn"
    try:
        parameters = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # its text repeats the string
        return bad(subject, f"{key} is not a connection string", remedy="write postgresql://USER@HOST:PORT/DATABASE")
    place = f"{parameters.get('dbname', 'default database')} on {parameters.get('host', 'the local socket')}"
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            version = connection.info.server_version // 10_000
    except psycopg.Error as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return bad(subject, f"{place}: {reason}", cost="runnerd does not start", remedy=f"check the server and {key}")
    if version < OLDEST_TESTED:
        return weak(subject, f"{place}: PostgreSQL {version}", cost=f"not tested before {OLDEST_TESTED}")
    return good(subject, f"{place}: PostgreSQL {version}")


def _embedded(data_dir: Path) -> Finding:
    cluster = data_dir / "postgres"
    try:
        account = get_account()
        version_file = cluster / "PG_VERSION"
        made_by = int(version_file.read_text("ascii").strip()) if version_file.exists() else None
        binaries = choose(find_binaries(), made_by)
        barrier = None if binaries.wheel is not None else find_barrier(binaries.directory, account)
    except StoreError as error:
        return bad("embedded", str(error), cost="runnerd does not start")
    except (OSError, ValueError) as error:
        return bad("embedded", f"{cluster}: {error}", cost="runnerd may not start")
    if barrier is not None:
        return bad("embedded", f"{account.name} cannot pass {barrier}", remedy=f"run: chmod o+x {barrier}")
    state = "its cluster is there" if made_by is not None else "made at the first start"
    return good("embedded", f"PostgreSQL {binaries.version} in {binaries.directory}, {state}")

"""The campaign's own PostgreSQL: a cluster that is restarted when it dies, behind a relay that can cut and fall silent.

Lives in a thread with a loop of its own, so that the campaign itself can be plain sequential code.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from runnerd.store.embedded import EmbeddedPostgres
from tests.support.pg_proxy import PgProxy

T = TypeVar("T")
DEADLINE_S = 60.0
POLL_S = 0.02


class Database:
    """`dsn` reaches it directly (campaign and checker), `daemon_dsn` through the relay."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="campaign-database")
        self._thread.start()
        self._server = EmbeddedPostgres(directory / "pg", directory / "pgrun")
        self.dsn = self._run(self._server.start())
        # A restart of the server loses nothing the kernel has: only a power cut would, and none is played here.
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
        self._keeping = asyncio.run_coroutine_threadsafe(self._server.keep(), self._loop)
        relay = directory / "relay"
        relay.mkdir()
        self._relay = PgProxy(self.dsn, relay)
        self._run(self._relay.open())
        self.daemon_dsn = self._relay.dsn

    def close(self) -> None:
        """End the cluster, the relay and the thread."""
        self._keeping.cancel()
        with suppress(asyncio.CancelledError):
            self._run(_settled(self._keeping))
        self._run(self._relay.close())
        self._run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def end_sessions(self) -> None:
        """An administrator ends every session of the daemon."""
        with psycopg.connect(self.dsn, autocommit=True, connect_timeout=10) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )

    def lose_answers(self, seconds: float) -> None:
        """Commits take place and nobody is told; then the connections break."""
        self._call(self._relay.keep_answers)
        time.sleep(seconds)
        self._call(self._relay.hang_up)
        self._call(self._relay.speak_again)

    def fall_silent(self, seconds: float) -> None:
        """Nothing goes through for a while, then all of it."""
        self._call(self._relay.fall_silent)
        time.sleep(seconds)
        self._call(self._relay.speak_again)

    def restart(self, how: str) -> None:
        """The server ends, by a signal of that name, and comes back."""
        before = self._postmaster()
        os.kill(before, signal.Signals[how])
        self.wait_ready(other_than=before)

    def wait_ready(self, other_than: int = 0) -> None:
        """Until it takes connections, as another process if one is named."""
        until = time.monotonic() + DEADLINE_S
        while True:
            with suppress(psycopg.Error, FileNotFoundError, ValueError, IndexError):
                if self._postmaster() != other_than:
                    psycopg.connect(self.dsn, connect_timeout=5).close()
                    return
            assert time.monotonic() < until, "the campaign's database does not come back"
            time.sleep(POLL_S)

    def _postmaster(self) -> int:
        return int((self._directory / "pg/postgres/postmaster.pid").read_text().splitlines()[0])

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S * 2)

    def _call(self, action: Any) -> None:
        async def call() -> None:
            action()

        self._run(call())


async def _settled(future: "Any") -> None:
    await asyncio.wait([asyncio.wrap_future(future)])


@contextmanager
def campaign_database(directory: Path) -> Iterator[Database]:
    """A cluster for the length of the block."""
    with ExitStack() as stack:
        database = Database(directory)
        stack.callback(database.close)
        yield database

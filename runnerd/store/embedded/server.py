"""The life of the embedded cluster: make it once, start it, wait until it is ready, stop it.

postgres is a direct child that ends with runnerd, however runnerd ends. Every process of the cluster inherits the
locked files: who gets the locks knows that nothing of an earlier server is left, whatever became of it.
Made by `app`, which uses the DSN that `start` returns like any other.
"""

import asyncio
import logging
import os
import shutil
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from runnerd.log import fields
from runnerd.store.embedded import settings
from runnerd.store.embedded.account import Account, get_account, let_pass, validate_reachable, warn_if_shared
from runnerd.store.embedded.binaries import Binaries, choose, find_binaries, make_reachable
from runnerd.store.embedded.files import POLL_S, in_thread, lock, make_private, read_small, read_status, rename_durably
from runnerd.store.embedded.log_file import LogFile
from runnerd.store.embedded.process import Program
from runnerd.store.errors import ClusterInUse, ClusterRefused, PostgresNotStarted, SocketPathTooLong, StoreError

logger = logging.getLogger(__name__)

ROLE = "runnerd"
DATABASE = "runnerd"
MAX_SOCKET_PATH = 107
RETRY_S = (0.1, 10.0)
STOP = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""Fast shutdown: rolls back what is open and writes a checkpoint. Then the immediate one, which recovery mends."""
ABORT = STOP[1:]
INITDB = (
    "--auth=trust",
    "--encoding=UTF8",
    "--no-locale",
    "--data-checksums",
    "--no-instructions",
    f"--username={ROLE}",
)
"""Trust, because no other user gets to the socket: it is 0700 in a 0700 directory, and there is no network listener.
See `warn_if_shared` for the one account that is not ours alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds. `lock_s`: for a server that is shutting down; `start_s`: includes recovery after a kill."""

    lock_s: float = 15.0
    initdb_s: float = 120.0
    start_s: float = 60.0


class EmbeddedPostgres:
    """A private PostgreSQL cluster in `data_dir`, reached through a socket in `runtime_dir`; both belong to runnerd."""

    def __init__(self, data_dir: Path, runtime_dir: Path, deadlines: Deadlines | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._runtime_dir = runtime_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._sockets = self._runtime_dir / "postgres"
        self._config_file = self._data_dir / "postgres.conf"
        self._deadlines = deadlines or Deadlines()
        self._log = LogFile(self._data_dir / "postgres.log")
        self._server: Program | None = None

    async def start(self) -> str:
        """Start the server, the first time after making the cluster; return its DSN when it takes connections.

        Raises a StoreError that says what to do. Whatever it raises, no process is left.
        """
        if self._server is not None and not self._server.has_exited:
            raise RuntimeError("it is running already")
        try:
            return await self._start()
        except BaseException:
            if self._server is not None:
                await self._server.end(ABORT)
            self._log.close()
            raise

    async def _start(self) -> str:
        began = asyncio.get_running_loop().time()
        _validate_socket_path(self._socket())
        self._data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        account = get_account()
        warn_if_shared(account)
        with ExitStack() as stack:
            locks = await self._lock(stack)
            binaries = await in_thread(partial(self._prepare, account))
            if not self._cluster.exists():
                await self._make_cluster(binaries, account, locks)
            command = (binaries.directory / "postgres", "-D", self._cluster, f"--config-file={self._config_file}")
            self._server = await Program.start(command, account, self._log, locks)
        await self._until_ready(self._server)
        await self._ensure_database()
        took_s = round(asyncio.get_running_loop().time() - began, 3)
        logger.info(
            "embedded PostgreSQL %s is ready in %s s, running as %s",
            *(binaries.version, took_s, account.name),
            extra=fields("postgres_ready", pid=self._server.pid),
        )
        return self._dsn(DATABASE)

    async def stop(self) -> None:
        """Shut down in order; harder if that takes too long. Does nothing if it does not run."""
        if self._server is not None:
            await self._server.end(STOP)
            self._server = None
        self._log.close()

    async def keep(self) -> None:
        """Until cancelled: whenever the server ends by itself, start it again. Cancel this before `stop`."""
        while self._server is not None:
            code = await self._server.wait()
            logger.error("embedded PostgreSQL ended", extra=fields("postgres_ended", code=code, tail=self._log.tail()))
            delay_s, longest_s = RETRY_S
            while self._server.has_exited:
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)
                try:
                    await self.start()
                except (StoreError, OSError) as error:
                    logger.error("embedded PostgreSQL: %s", error, extra=fields("postgres_not_started"))

    async def _lock(self, stack: ExitStack) -> tuple[int, ...]:
        """Wait until nothing of an earlier server is left, in either directory. Raises ClusterInUse."""
        locks = []
        for path in (self._data_dir / "postgres.lock", self._runtime_dir / "postgres-socket.lock"):
            try:
                held = await lock(path, self._deadlines.lock_s)
            except TimeoutError:
                raise ClusterInUse(path.parent, read_status(self._cluster)[0]) from None
            # Ours is closed when the server has inherited it: then the server's processes alone hold the lock.
            stack.callback(os.close, held)
            locks.append(held)
        return tuple(locks)

    def _prepare(self, account: Account) -> Binaries:
        """Everything that is done with files before a program runs. Blocks: called in a thread, under the locks."""
        major = read_small(self._cluster / "PG_VERSION").strip()
        if self._cluster.exists() and not major.isdigit():
            raise ClusterRefused(f"{self._cluster} is not a PostgreSQL cluster: move it, or choose another data_dir")
        binaries = choose(find_binaries(), int(major) if major else None)
        for ours in (self._data_dir, self._runtime_dir):
            let_pass(ours, account)
            validate_reachable(ours, account)
        binaries = make_reachable(binaries, account, self._data_dir)
        owner = self._cluster.stat().st_uid if major else account.uid
        if owner != account.uid:
            raise ClusterRefused(
                f"{self._cluster} belongs to uid {owner}, PostgreSQL would run as {account.name}: "
                f"run runnerd as the same user as before, or: chown -R {account.uid}:{account.gid} {self._cluster}"
            )
        make_private(self._sockets, account)
        # Their writer is gone, but its pid may be another process's by now: PostgreSQL would refuse to start.
        for stale in (self._cluster / "postmaster.pid", self._socket(), Path(f"{self._socket()}.lock")):
            stale.unlink(missing_ok=True)
        self._config_file.write_text(settings.render(self._cluster, self._sockets, binaries.major), "utf-8")
        self._config_file.chmod(0o644)
        return binaries

    async def _make_cluster(self, binaries: Binaries, account: Account, locks: tuple[int, ...]) -> None:
        # Under another name until it is whole: an initdb that was interrupted is thrown away, never started.
        half = self._cluster.with_name("postgres.partial")
        await in_thread(partial(shutil.rmtree, half, ignore_errors=True))
        make_private(half, account)
        command = (binaries.directory / "initdb", *INITDB, "-D", half)
        initdb = await Program.start(command, account, self._log, locks)
        try:
            async with asyncio.timeout(self._deadlines.initdb_s):
                code = await initdb.wait()
        except TimeoutError:
            raise PostgresNotStarted(f"initdb took over {self._deadlines.initdb_s:.0f} s", self._log.tail()) from None
        finally:
            await initdb.end(ABORT)
        if code != 0:
            raise PostgresNotStarted(f"initdb ended with code {code}", self._log.tail())
        rename_durably(half, self._cluster)

    async def _until_ready(self, server: Program) -> None:
        try:
            async with asyncio.timeout(self._deadlines.start_s):
                # The server's own status file costs a read; a refused connection would cost a process and a log line.
                while read_status(self._cluster) != (server.pid, "ready"):
                    if server.has_exited:
                        code = await server.wait()
                        raise PostgresNotStarted(f"PostgreSQL ended with code {code}", self._log.tail())
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            what = f"PostgreSQL was not ready in {self._deadlines.start_s:.0f} s"
            raise PostgresNotStarted(what, self._log.tail()) from None

    async def _ensure_database(self) -> None:
        try:
            async with await psycopg.AsyncConnection.connect(
                self._dsn("postgres"), autocommit=True, connect_timeout=10
            ) as connection:
                found = await connection.execute("select 1 from pg_database where datname = %s", (DATABASE,))
                if await found.fetchone() is None:
                    await connection.execute(f"create database {DATABASE}".encode())
        except psycopg.Error as error:
            raise PostgresNotStarted(f"PostgreSQL took no connection: {error}", self._log.tail()) from error

    @property
    def dsn(self) -> str:
        """How to reach the ledger's database while the server runs; for those who announce events in it."""
        return self._dsn(DATABASE)

    def _socket(self) -> Path:
        return self._sockets / f".s.PGSQL.{settings.PORT}"

    def _dsn(self, database: str) -> str:
        return make_conninfo(host=str(self._sockets), port=settings.PORT, user=ROLE, dbname=database)


def _validate_socket_path(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise SocketPathTooLong(path, length)

"""The life of the embedded cluster: make it once, start it, wait until it is ready, stop it.

postgres is a direct child that ends with runnerd, however runnerd ends. Every process of the cluster inherits one
locked file: who gets the lock knows that nothing of an earlier server is left, whatever became of it.
Made by `app`, which uses the DSN that `start` returns like any other.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from runnerd.log import fields
from runnerd.store.embedded.account import Account, get_account, let_pass, validate_reachable
from runnerd.store.embedded.binaries import Binaries, choose, find_binaries, make_reachable
from runnerd.store.embedded.log_file import LogFile
from runnerd.store.embedded.process import Program
from runnerd.store.errors import ClusterInUse, ClusterRefused, PostgresNotStarted, SocketPathTooLong, StoreError

logger = logging.getLogger(__name__)

ROLE = "runnerd"
DATABASE = "runnerd"
PORT = 5432
MAX_SOCKET_PATH = 107
POLL_S = 0.005
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
"""Trust, because nobody else gets to the socket: it is 0700 in a 0700 directory, and there is no network listener."""
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "cluster_name": "runnerd",
    "max_connections": "60",
    "shared_buffers": "64MB",
    # A ledger: what was committed survives a power cut. Stated here so that no edited postgresql.conf takes it away.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # Bounds the disk it takes, and how long recovery reads after a kill.
    "max_wal_size": "256MB",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_checkpoints": "off",
}
SETTINGS_18 = {"io_method": "sync"}
"""Three processes less; asynchronous reads bring nothing to a ledger that fits into memory."""


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
        self._deadlines = deadlines or Deadlines()
        self._log = LogFile(self._data_dir / "postgres.log")
        self._server: Program | None = None

    async def start(self) -> str:
        """Start the server, the first time after making the cluster; return its DSN when it takes connections.

        Raises a StoreError that says what to do. Whatever it raises, no process is left.
        """
        if self._server is not None and not self._server.has_exited:
            raise RuntimeError("it is running already")
        _validate_socket_path(self._sockets / f".s.PGSQL.{PORT}")
        self._data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        account = get_account()
        started = asyncio.get_running_loop().time()
        lock = await self._lock()
        try:
            binaries = await asyncio.to_thread(self._prepare, account)
            if not self._cluster.exists():
                await self._make_cluster(binaries, account, lock)
            self._server = await Program.start(self._command(binaries), account, self._log, lock)
            await self._until_ready(self._server)
            await self._ensure_database()
        except BaseException:
            if self._server is not None:
                await self._server.end(ABORT)
            raise
        finally:
            os.close(lock)
        took_s = asyncio.get_running_loop().time() - started
        logger.info(
            "embedded PostgreSQL %s is ready", binaries.version,
            extra=fields("postgres_ready", pid=self._server.pid, account=account.name, seconds=round(took_s, 3)),
        )  # fmt: skip
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

    def _prepare(self, account: Account) -> Binaries:
        """Everything that is done with files before a program runs. Blocks: called in a thread."""
        major = _read_small(self._cluster / "PG_VERSION").strip()
        if self._cluster.exists() and not major.isdigit():
            raise ClusterRefused(
                f"{self._cluster} is not a PostgreSQL cluster: move it away, or choose another data_dir"
            )
        binaries = choose(find_binaries(), int(major) if major else None)
        for ours in (self._data_dir, self._runtime_dir):
            let_pass(ours, account)
            validate_reachable(ours, account)
        binaries = make_reachable(binaries, account, self._data_dir)
        _make_private(self._sockets, account)
        if self._cluster.exists():
            owner = self._cluster.stat().st_uid
            if owner != account.uid:
                raise ClusterRefused(
                    f"{self._cluster} belongs to uid {owner}, PostgreSQL would run as {account.name}: "
                    f"run runnerd as the same user as before, or: chown -R {account.uid}:{account.gid} {self._cluster}"
                )
            # We hold the lock, so its writer is gone; but its pid may be another process's by now, and then
            # PostgreSQL would refuse to start.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        return binaries

    async def _make_cluster(self, binaries: Binaries, account: Account, lock: int) -> None:
        # Under another name until it is whole: an initdb that was interrupted is thrown away, never started.
        partial = self._cluster.with_name("postgres.partial")
        await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        _make_private(partial, account)
        command = (binaries.directory / "initdb", *INITDB, "-D", partial)
        initdb = await Program.start(command, account, self._log, lock)
        try:
            async with asyncio.timeout(self._deadlines.initdb_s):
                code = await initdb.wait()
        except BaseException:
            await initdb.end(STOP[2:])
            raise
        if code != 0:
            raise PostgresNotStarted(f"initdb ended with code {code}", self._log.tail())
        partial.rename(self._cluster)
        _sync_directory(self._data_dir)

    def _command(self, binaries: Binaries) -> tuple[str | Path, ...]:
        quoted = str(self._sockets).replace('"', '""')
        settings = SETTINGS | (SETTINGS_18 if binaries.major >= 18 else {}) | {"unix_socket_directories": f'"{quoted}"'}
        options = (part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
        return (binaries.directory / "postgres", "-D", self._cluster, *options)

    async def _lock(self) -> int:
        """The locked file, once no process of an earlier server holds it. Raises ClusterInUse."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self._data_dir / "postgres.lock", flags, 0o600)
        deadline = asyncio.get_running_loop().time() + self._deadlines.lock_s
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if asyncio.get_running_loop().time() > deadline:
                        raise ClusterInUse(self._cluster, _status(self._cluster)[0]) from None
                    await asyncio.sleep(POLL_S)
                else:
                    return file
        except BaseException:
            os.close(file)
            raise

    async def _until_ready(self, server: Program) -> None:
        deadline = asyncio.get_running_loop().time() + self._deadlines.start_s
        # The server's own status file costs a read; a refused connection would cost a backend and a line in the log.
        while _status(self._cluster) != (server.pid, "ready"):
            if server.has_exited:
                raise PostgresNotStarted(f"PostgreSQL ended with code {await server.wait()}", self._log.tail())
            if asyncio.get_running_loop().time() > deadline:
                raise PostgresNotStarted(
                    f"PostgreSQL was not ready in {self._deadlines.start_s:.0f} s", self._log.tail()
                )
            await asyncio.sleep(POLL_S)

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

    def _dsn(self, database: str) -> str:
        return make_conninfo(host=str(self._sockets), port=PORT, user=ROLE, dbname=database)


def _validate_socket_path(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise SocketPathTooLong(path, length)


def _make_private(directory: Path, account: Account) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    if not account.is_self:
        os.chown(directory, account.uid, account.gid, follow_symlinks=False)


def _status(cluster: Path) -> tuple[int | None, str]:
    """Pid and status in `postmaster.pid`: https://www.postgresql.org/docs/18/storage-file-layout.html"""
    lines = _read_small(cluster / "postmaster.pid").splitlines()
    pid = int(lines[0]) if lines and lines[0].isdigit() else None
    return pid, lines[7].strip() if len(lines) > 7 else ""


def _read_small(path: Path) -> str:
    """A small file's text, or nothing. When we are root the directory is another user's: follow no link, hang on no pipe."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            return ""
        raise
    try:
        return os.read(file, 4096).decode(errors="replace")
    finally:
        os.close(file)


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        with contextlib.suppress(OSError):
            os.close(file)

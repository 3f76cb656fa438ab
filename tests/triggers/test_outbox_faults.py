"""The outbox while servers die under load: 0 lost, 0 doubled, order kept, whoever is killed and whenever."""

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runnerd.store.embedded import EmbeddedPostgres
from runnerd.store.migrate import migrate
from tests.support.aio import run_async
from tests.support.outbox_bench import OutboxBench, events, install, outbox_bench
from tests.support.preloaded import Preloaded
from tests.support.short_dir import make_short_dir
from tests.support.until import until
from tests.triggers.conformance.adapter import find_adapter
from tests.triggers.conformance.bench import Bench

pytestmark = [pytest.mark.integration, pytest.mark.slow]

WRITERS, KEYS_EACH, EVENTS_EACH = 4, 3, 750
RATE_PER_S = 500.0
KILLS = (signal.SIGKILL, signal.SIGQUIT, signal.SIGKILL)
"""Of the postmaster: a crash of the whole server; SIGQUIT is `pg_ctl stop -m immediate`."""


class Cluster:
    """A PostgreSQL of this test alone, which is started again whenever it was killed. With fsync, as in production."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self.dsn = server.dsn

    async def kill(self, number: signal.Signals) -> None:
        """End it now; returns when it is back."""
        process = self._server._server
        assert process is not None
        os.kill(process.pid, number)
        await until(lambda: process.has_exited, 30)
        await until(lambda: self._server._server is not process and self._answers(), 60, every_s=0.02)

    def _answers(self) -> bool:
        with suppress(psycopg.Error), psycopg.connect(self.dsn, connect_timeout=2):
            return True
        return False


@asynccontextmanager
async def cluster(base: Path) -> AsyncIterator[Cluster]:
    server = EmbeddedPostgres(base / "data", base / "run")
    await server.start()
    keeping = asyncio.get_running_loop().create_task(server.keep())
    try:
        yield Cluster(server)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await server.stop()


class Writer:
    """An indexer that publishes numbers under its keys, one transaction each, and never goes on before it knows."""

    def __init__(self, dsn: str, number: int) -> None:
        self._dsn = dsn
        self._number = number
        self.certain: list[str] = []
        self.unsure = 0

    async def write(self) -> None:
        """Paced from the beginning: after an outage it catches up."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection: psycopg.AsyncConnection[Any] | None = None
        for number in range(EVENTS_EACH):
            await asyncio.sleep(began + number * WRITERS / RATE_PER_S - loop.time())
            key = f"{self._number}.{number % KEYS_EACH}"
            payload = f"{key}:{number}"
            is_retried = False
            while True:
                try:
                    if connection is None:
                        connection = await psycopg.AsyncConnection.connect(
                            self._dsn, autocommit=True, connect_timeout=5
                        )
                    if not is_retried or not await self._is_there(connection, payload):
                        await connection.execute("select runnerd_outbox.publish('flow', %s, %s)", (payload, key))
                except psycopg.Error:
                    self.unsure += 1
                    is_retried = True
                    if connection is not None:
                        await connection.close()
                    connection = None
                    await asyncio.sleep(0.02)
                else:
                    break
            self.certain.append(payload)
        if connection is not None:
            await connection.close()

    async def _is_there(self, connection: psycopg.AsyncConnection[Any], payload: str) -> bool:
        """The connection broke while it committed: it may stand, or not."""
        found = await connection.execute("select 1 from runnerd_outbox.events where payload = %s", (payload,))
        return await found.fetchone() is not None


def check(bench: OutboxBench, event_dsn: str, writers: list[Writer]) -> None:
    """What stands in the outbox is what was published; and each of it was called for once, in its order."""
    published = [payload for *_, payload in events(event_dsn)]
    assert sorted(published) == sorted(payload for writer in writers for payload in writer.certain)
    assert len(published) == WRITERS * EVENTS_EACH
    assert [row["payload"] for row in bench.calls()] == published
    assert bench.heard() == published
    by_key: dict[str, list[int]] = defaultdict(list)
    for payload in published:
        key, _, number = payload.partition(":")
        by_key[key].append(int(number))
    assert len(by_key) == WRITERS * KEYS_EACH
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def run_under_load(bench: OutboxBench, event_dsn: str, disturb: Callable[[], Awaitable[object]]) -> None:
    """Publish from several connections, disturb meanwhile, and wait until everything has arrived."""
    writers = [Writer(event_dsn, number) for number in range(WRITERS)]
    async with asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.write())
        await disturb()
    await until(lambda: len(bench.heard()) >= WRITERS * EVENTS_EACH, 60)
    check(bench, event_dsn, writers)


@pytest.fixture
def base() -> Iterator[Path]:
    with make_short_dir() as directory:
        yield directory


def test_events_survive_the_death_of_their_database(ledger_dsn: str, base: Path) -> None:
    """The indexer's server is killed again and again under 500 events a second; the ledger stands in another one."""

    async def scenario() -> None:
        async with cluster(base) as indexer:
            install(indexer.dsn)
            async with outbox_bench(ledger_dsn, indexer.dsn) as bench:
                await bench.follow("flow")
                await run_under_load(bench, indexer.dsn, lambda: kill_often(indexer, bench))

    run_async(scenario(), deadline_s=180)


def test_events_survive_the_death_of_the_ledger(postgres: Any, database: str, base: Path) -> None:
    """What was read and could not be stored is stored when the ledger is back; once."""
    install(database)

    async def scenario() -> None:
        async with cluster(base) as ledger:
            await make_ledger(ledger.dsn)
            async with outbox_bench(ledger.dsn, database) as bench:
                await bench.follow("flow")
                await run_under_load(bench, database, lambda: kill_often(ledger, bench))

    run_async(scenario(), deadline_s=180)


def test_events_survive_the_death_of_the_server_that_holds_both(base: Path) -> None:
    """As where one PostgreSQL serves everything."""

    async def scenario() -> None:
        async with cluster(base) as both:
            await make_ledger(both.dsn)
            install(both.dsn)
            async with outbox_bench(both.dsn, both.dsn) as bench:
                await bench.follow("flow")
                await run_under_load(bench, both.dsn, lambda: kill_often(both, bench))

    run_async(scenario(), deadline_s=180)


async def make_ledger(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, row_factory=psycopg.rows.dict_row
    ) as connection:
        await migrate(connection)


async def kill_often(server: Cluster, bench: OutboxBench) -> None:
    """Each time after some more events have arrived: it dies while they come."""
    for count, number in enumerate(KILLS, 1):
        await until(lambda: len(bench.heard()) >= count * 500, 60)  # noqa: B023  # awaited here
        await server.kill(number)


@pytest.mark.parametrize("nth", [1, 4])
def test_producer_that_is_killed_between_read_and_commit_reads_again(
    ledger_dsn: str, python: Preloaded, nth: int
) -> None:
    """Nothing of it stands, so nothing of it is passed over."""
    adapter = find_adapter("outbox")

    async def scenario() -> None:
        async with adapter.source(ledger_dsn) as source:
            bench = Bench(adapter, source, ledger_dsn, python)
            names: list[str] = []
            async with bench.host(crash_at="outbox.read", crash_nth=nth) as host:
                while not host.is_dead:
                    names += await source.cause(1)
            async with bench.host() as host:
                names += await source.cause(3)
                await bench.until_called(names)
                await host.stop()
            bench.check_none_doubled()

    run_async(scenario(), deadline_s=120)

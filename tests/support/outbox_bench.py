"""An outbox in a database of the tests, and a producer that follows it, on the real router, store and ledger."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from typing import Any, cast

import psycopg
from psycopg.rows import dict_row

from protocol.triggers import Event
from runnerd.clock import SystemClock
from runnerd.routing.layers import Layers
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.services.metrics import Metrics
from runnerd.store.calls import JobCall, NewCall
from runnerd.store.store import Store
from runnerd.supervisor.machine import Phase, WorkerState
from runnerd.triggers.outbox import OutboxProducer
from tests.support.calls import terms
from tests.support.until import until

Connection = psycopg.Connection[tuple[Any, ...]]


def outbox_sql() -> str:
    """What `runnerctl outbox install` runs."""
    return (resources.files("runnerd.triggers") / "outbox.sql").read_text("utf-8")


def install(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(outbox_sql().encode())


def publish(dsn: str, *events: tuple[str, str], key: str | None = None) -> None:
    """Topic and payload of each, in a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for topic, payload in events:
            connection.execute("select runnerd_outbox.publish(%s, %s, %s)", (topic, payload, key))


@contextmanager
def transaction(dsn: str) -> Iterator[Connection]:
    """A session in which a transaction is open; the test ends it by `commit` or `rollback`."""
    with psycopg.connect(dsn) as connection:
        yield connection
        connection.rollback()


def events(dsn: str) -> list[tuple[Any, ...]]:
    """Id, topic, key and payload of what stands in the outbox."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = "select id, topic, key, payload from runnerd_outbox.events order by id"
        return connection.execute(query).fetchall()


class Taker:
    """A plugin that takes as many calls as it has room for, and keeps them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.free = 1_000_000
        self.declared = None
        self.layers = Layers()
        self.offered: list[JobCall] = []
        self.state = WorkerState(phase=Phase.READY)

    def room(self, jobs: Collection[str]) -> int:
        return self.free

    def refusal(self, call: NewCall, coming: int) -> str | None:
        return None

    def is_open(self, call: NewCall) -> bool:
        return False

    def offer(self, call: JobCall, *, is_owed: bool = False) -> None:
        self.offered.append(call)
        self.free -= 1

    def offer_again(self, calls: Sequence[JobCall]) -> None:
        for call in calls:
            self.offer(call)


class OutboxBench:
    """A running producer with two plugins, alpha and beta."""

    def __init__(self, ledger_dsn: str, event_dsn: str, *, is_recovered: bool = True) -> None:
        self._ledger_dsn = ledger_dsn
        self._is_recovered = is_recovered
        clock = SystemClock()
        self.metrics = Metrics(phase.value for phase in Phase)
        self.store = Store(ledger_dsn)
        self.router = Router(self.store, Results(self.store, clock), self.metrics, clock)
        self.plugins = {name: Taker(name) for name in ("alpha", "beta")}
        self.router.hosts.update(cast("Any", self.plugins))
        self.outbox = OutboxProducer(event_dsn, self.router, self.store, self.metrics, clock)
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.store.open()
        await self.router.load()
        if self._is_recovered:
            await self.router.recover()
        self._running = asyncio.get_running_loop().create_task(self.outbox.run())

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self.store.close()

    async def follow(self, *topics: str, plugin: str = "alpha") -> None:
        """Declare these, and wait until it follows them."""
        await self.declare(*(Event(topic=topic, mode="outbox") for topic in topics), plugin=plugin)
        await self.following()

    async def declare(self, *triggers: Event, plugin: str = "alpha") -> None:
        await self.outbox.declare(plugin, triggers, terms())

    async def following(self) -> None:
        """Until each follower has its position, and the outbox is read."""
        await until(
            lambda: (
                self.outbox.is_connected
                and all(follower.position is not None for follower in self.outbox._followers.values())
            ),
            20,
        )

    def heard(self, plugin: str = "alpha") -> list[str]:
        """The payloads that it was offered, in order."""
        return [call.payload for call in self.plugins[plugin].offered]

    async def hears(self, *payloads: str, plugin: str = "alpha") -> None:
        """Wait until it was offered exactly these."""
        await until(lambda: len(self.heard(plugin)) >= len(payloads), 20)
        assert self.heard(plugin) == list(payloads)

    def calls(self, plugin: str = "alpha") -> list[dict[str, Any]]:
        """Its calls in the ledger, in order."""
        with psycopg.connect(self._ledger_dsn, autocommit=True, row_factory=dict_row) as connection:
            query = "select * from job_calls where plugin = %s order by id"
            return connection.execute(query, (plugin,)).fetchall()

    def positions(self) -> dict[str, str]:
        """What the ledger knows of the outbox, by key."""
        with psycopg.connect(self._ledger_dsn, autocommit=True) as connection:
            query = "select key, position from producer_positions where producer = 'outbox'"
            return dict(connection.execute(query).fetchall())


@asynccontextmanager
async def outbox_bench(ledger_dsn: str, event_dsn: str, **keys: Any) -> AsyncIterator[OutboxBench]:
    """One for the length of the block."""
    bench = OutboxBench(ledger_dsn, event_dsn, **keys)
    await bench.open()
    try:
        yield bench
    finally:
        await bench.close()

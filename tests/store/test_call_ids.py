"""Ids of calls that are not stored yet ascend in the order in which calls are accepted, whatever comes between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import psycopg

from protocol.messages import TriggerKind
from runnerd.store import calls
from runnerd.store.call_ids import LOW, RESERVE, CallIds
from runnerd.store.calls import NewCall
from runnerd.store.ledger import Rows
from runnerd.store.store import Store
from tests.support.aio import run_async
from tests.support.until import until

AT = datetime(2026, 1, 1, tzinfo=UTC)
WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'relation'"


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[tuple[Store, CallIds]]:
    """A ledger, and ids that were filled once."""
    store = Store(dsn)
    await store.open()
    try:
        ids = CallIds(store)
        await ids.fill()
        yield store, ids
    finally:
        await store.close()


def submit(store: Store, ids: CallIds, identity: str) -> "asyncio.Future[list[Rows]]":
    """As the router does."""
    call = NewCall(
        plugin="alpha", trigger=TriggerKind.EVENT, identity=identity, principal="test", due_at=AT, fired_at=AT,
        deadline_at=AT + timedelta(hours=1),
    )  # fmt: skip
    (call_id,) = ids.take(1)
    return store.submit(calls.insert(call, call_id))


def is_waiting(dsn: str) -> bool:
    """Somebody wants a table that is locked."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(WAITING).fetchone() is not None


async def id_of(stored: "asyncio.Future[list[Rows]]") -> int:
    """What it was stored as."""
    ((row,),) = await stored
    call_id: int = row["id"]
    return call_id


def test_they_ascend_and_are_filled_again_before_they_run_out(ledger_dsn: str) -> None:
    """As long as filling keeps up with whoever takes them."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as (_, ids):
            taken: list[int | None] = []
            for _ in range(3 * RESERVE // LOW):
                taken += ids.take(LOW)
                await until(lambda: not ids._is_filling)
            assert None not in taken
            assert taken == sorted(set(taken))  # type: ignore[type-var]  # there is no None

    run_async(scenario())


def test_a_call_that_waits_for_an_id_of_the_ledgers_has_a_lower_one_than_those_behind_it(ledger_dsn: str) -> None:
    """They ran dry while the ledger could not be written, and are filled again before it can."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as (store, ids), await psycopg.AsyncConnection.connect(ledger_dsn) as lock:
            await lock.execute("lock table job_calls in exclusive mode")
            list(ids.take(RESERVE))  # from here on they are being filled
            first = submit(store, ids, "first")
            await until(lambda: is_waiting(ledger_dsn))
            for _ in range(10):  # more than enough for a fill that does not wait for the first call
                await store.fetch(calls.queued())
            second = submit(store, ids, "second")
            await lock.rollback()
            assert await id_of(first) < await id_of(second)
            await until(lambda: not ids._is_filling)
            third = submit(store, ids, "third")
            assert await id_of(second) < await id_of(third)

    run_async(scenario())

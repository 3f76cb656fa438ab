"""The door to PostgreSQL on a real server: group commit, order, refusals, lost connections, and the end."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg_pool.base import AttemptWithBackoff

from protocol.messages import TriggerKind
from runnerd.store import calls, decisions, workers
from runnerd.store.calls import NewCall
from runnerd.store.errors import CommitRefused, DatabaseInUse, StoreUnavailable
from runnerd.store.statement import Statement
from runnerd.store.store import MAX_GROUP, Store
from tests.support.aio import run_async
from tests.support.pg_proxy import pg_proxy
from tests.support.until import until

AT = datetime(2026, 1, 1, tzinfo=UTC)
KILL = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid()"
)
KILL_WAITING = KILL + " and wait_event = 'relation'"
"""Not who holds the lock: without it the one that waits might commit before it hears of its end."""


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Store]:
    """A store for the length of the block."""
    store = Store(dsn)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def ask(dsn: str, query: str) -> list[dict[str, Any]]:
    """Another connection's view."""
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def note(key: str, value: str = "1") -> Statement:
    """A write that is easy to look up."""
    return decisions.put_state("alpha", key, value)


def bad() -> Statement:
    """A write that PostgreSQL refuses."""
    return Statement("insert into plugin_state (plugin) values ('alpha')")


def keys(dsn: str) -> list[str]:
    """The keys that were written, in order of insertion."""
    return [row["key"] for row in ask(dsn, "select key from plugin_state order by ctid")]


def new_call(identity: str, fired_at: datetime = AT) -> NewCall:
    """A call that a producer asks for."""
    return NewCall(
        plugin="alpha", trigger=TriggerKind.MANUAL, identity=identity, principal="test", due_at=fired_at,
        fired_at=fired_at, deadline_at=fired_at + timedelta(seconds=60),
    )  # fmt: skip


# --- commits ---------------------------------------------------------------------------------------------------------


def test_commit_gives_the_rows_of_each_statement(ledger_dsn: str) -> None:
    """Also none, for those that return nothing; and it is there for everybody when it returns."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            results = await store.commit(note("a"), Statement("select 1 as x union select 2 order by 1"), note("b"))
            assert results == [[], [{"x": 1}, {"x": 2}], []]
            assert keys(ledger_dsn) == ["a", "b"]
            assert await store.commit(Statement("select %(v)s::text as v", {"v": "alone"})) == [[{"v": "alone"}]]
            assert await store.fetch(Statement("select key from plugin_state order by 1")) == [
                {"key": "a"}, {"key": "b"},
            ]  # fmt: skip

    run_async(scenario())


def test_statements_that_went_as_one_are_all_carried_out(ledger_dsn: str) -> None:
    """Each still has its place in the answer."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            independent = [replace(note(key), is_independent=True) for key in ("a", "b")]
            rows = await store.commit(*independent, Statement("select 1 as one"), note("c"))
            assert rows == [[], [], [{"one": 1}], []]
            assert sorted(keys(ledger_dsn)) == ["a", "b", "c"]

    run_async(scenario())


def test_commits_at_once_share_transactions_and_keep_their_order(ledger_dsn: str) -> None:
    """A thousand commits take a handful of transactions, and later ones never overtake earlier ones."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await asyncio.gather(*(store.commit(note(f"{number:04}")) for number in range(1_000)))
        rows = ask(ledger_dsn, "select key, xmin::text from plugin_state order by ctid")
        assert [row["key"] for row in rows] == [f"{number:04}" for number in range(1_000)]
        assert len({row["xmin"] for row in rows}) <= 1_000 // MAX_GROUP + 2

    run_async(scenario())


@pytest.mark.parametrize("place", [0, 3, 6])
def test_refused_commit_hurts_no_other_of_its_group(ledger_dsn: str, place: int) -> None:
    """Only the guilty one is refused, with PostgreSQL's words; the others are committed in order, each once."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            commits = [store.commit(note(str(number)), note(f"{number}'")) for number in range(6)]
            commits.insert(place, store.commit(note("half"), bad()))
            outcomes = await asyncio.gather(*commits, return_exceptions=True)
            refused = outcomes.pop(place)
            assert isinstance(refused, CommitRefused)
            assert 'null value in column "key"' in str(refused)
            assert outcomes == [[[], []]] * 6
        assert keys(ledger_dsn) == [text for number in range(6) for text in (str(number), f"{number}'")]

    run_async(scenario())


@pytest.mark.parametrize(
    "statement",
    [
        decisions.put_state("alpha", "nul", "a\0b"),
        decisions.put_state("alpha", "surrogate", "\ud800"),
        Statement("select %(missing)s"),
        Statement("select %(o)s", {"o": object()}),
        Statement("selec 1"),
        Statement("select 1/0"),
        Statement("select require(false, 'as it should be')"),
    ],
    ids=["NUL", "surrogate", "parameter", "type", "syntax", "division", "require"],
)
def test_whatever_is_wrong_with_a_commit_it_alone_is_refused(ledger_dsn: str, statement: Statement) -> None:
    """Errors of the driver as well as of the server: the writer lives on."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            outcomes = await asyncio.gather(
                store.commit(note("before")), store.commit(statement), store.commit(note("after")),
                return_exceptions=True,
            )  # fmt: skip
            assert [type(outcome) for outcome in outcomes] == [list, CommitRefused, list]
            with pytest.raises(CommitRefused):
                await store.commit(statement)
            await store.commit(note("later"))
        assert keys(ledger_dsn) == ["before", "after", "later"]

    run_async(scenario())


def test_commit_of_a_cancelled_caller_is_made_and_hurts_nobody(ledger_dsn: str) -> None:
    """It was asked for; whoever waits for the others of its group gets their rows."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(store.commit(note(str(number)))) for number in range(4)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(outcomes[1], asyncio.CancelledError)
            assert [outcomes[0], *outcomes[2:]] == [[[]]] * 3
        assert keys(ledger_dsn) == ["0", "1", "2", "3"]

    run_async(scenario())


# --- lost connections ------------------------------------------------------------------------------------------------


def slow(key: str) -> Statement:
    """A write that takes long enough to be interrupted."""
    sql = "with w as (select pg_sleep(30)) insert into plugin_state select 'alpha', %(key)s, '1' from w"
    return Statement(sql, {"key": key})


def test_idempotent_commit_is_run_again_after_its_connection_was_killed(ledger_dsn: str) -> None:
    """In the middle of the transaction: once in effect, in order, and nobody hears of it."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            lock = await psycopg.AsyncConnection.connect(ledger_dsn)
            await lock.execute("lock table plugin_state in exclusive mode")
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(store.commit(note(str(number)))) for number in range(3)]
            await until(lambda: ask(ledger_dsn, "select 1 from pg_stat_activity where wait_event = 'relation'"))
            tasks[1].cancel()
            ask(ledger_dsn, KILL)  # takes the lock away as well
            await asyncio.gather(*tasks, return_exceptions=True)
            assert keys(ledger_dsn) == ["0", "1", "2"]
            assert store.is_connected
            await lock.close()

    run_async(scenario())


def test_commit_that_is_not_idempotent_is_not_run_again(ledger_dsn: str) -> None:
    """Its outcome is unknown, and it is told so; those beside it are run again."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await store.commit(note("counter", "0"))
            lock = await psycopg.AsyncConnection.connect(ledger_dsn)
            await lock.execute("lock table plugin_state in exclusive mode")
            loop = asyncio.get_running_loop()
            swap = decisions.compare_and_set_state("alpha", "counter", "0", "1")
            tasks = [
                loop.create_task(store.commit(note("beside"))),
                loop.create_task(store.commit(swap, is_idempotent=False)),
                loop.create_task(store.commit(note("behind"))),
            ]
            await until(lambda: ask(ledger_dsn, "select 1 from pg_stat_activity where wait_event = 'relation'"))
            ask(ledger_dsn, KILL_WAITING)
            await lock.close()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [list, StoreUnavailable, list]
            rows = await store.fetch(decisions.get_state("alpha", "counter"))
            assert rows == [{"value": "0"}]
            ((row,),) = await store.commit(swap, is_idempotent=False)
            assert row

    run_async(scenario())


def test_call_whose_commit_was_made_but_not_confirmed_is_no_duplicate(ledger_dsn: str, short_dir: Path) -> None:
    """The worst moment: the server has committed, we do not know. Run again, the insert returns its own row."""

    async def scenario() -> None:
        async with pg_proxy(ledger_dsn, short_dir) as proxy, opened(proxy.dsn) as store:
            await store.commit(calls.insert(new_call("first")))  # prepares the statement: an exchange of its own
            proxy.keep_answers()
            inserting = asyncio.get_running_loop().create_task(store.commit(calls.insert(new_call("only"))))
            await until(lambda: ask(ledger_dsn, "select 1 from job_calls where identity = 'only'"))
            assert not inserting.done()
            proxy.hang_up()
            proxy.speak_again()
            ((row,),) = await inserting
            assert [row["id"]] == [
                found["id"] for found in ask(ledger_dsn, "select id from job_calls where identity = 'only'")
            ]
            assert len(ask(ledger_dsn, "select id from job_calls where identity = 'only'")) == 1
            later = new_call("only", AT + timedelta(seconds=1))
            assert await store.commit(calls.insert(later)) == [[]], "this one is a duplicate"

    run_async(scenario())


def test_storm_of_kills_loses_and_doubles_nothing(ledger_dsn: str) -> None:
    """Connections are killed again and again under load: each commit takes effect exactly once, in order."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            is_over = False

            async def killer() -> None:
                async with await psycopg.AsyncConnection.connect(ledger_dsn, autocommit=True) as connection:
                    while not is_over:
                        await connection.execute(KILL)
                        await asyncio.sleep(0.02)

            killing = asyncio.get_running_loop().create_task(killer())
            rows = []
            for number in range(40):
                inserts = [calls.insert(new_call(f"{number}.{part}")) for part in range(5)]
                rows += await asyncio.gather(*(store.commit(insert) for insert in inserts))
            is_over = True
            await killing
            assert all(len(one[0]) == 1 for one in rows), "a committed call was taken for a duplicate"
            stored = ask(ledger_dsn, "select identity from job_calls order by id")
            assert [row["identity"] for row in stored] == [f"{n}.{p}" for n in range(40) for p in range(5)]

    run_async(scenario())


def test_reader_whose_connections_died_is_served_at_once(ledger_dsn: str) -> None:
    """The pool learns only by use that the server was restarted: a caller does not hear of it."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await asyncio.gather(*(store.fetch(Statement("select pg_sleep(0.05)")) for _ in range(4)))
            ask(ledger_dsn, KILL)
            assert await store.fetch(Statement("select 1 as x")) == [{"x": 1}]

    run_async(scenario())


def test_commits_wait_while_the_database_is_away(
    ledger_dsn: str, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds, minutes: they are made when it is back, and status says meanwhile that it is not."""
    for module in ("store", "readers"):
        monkeypatch.setattr(f"runnerd.store.{module}.CONNECT_TIMEOUT_S", 0.3)
    # A pool that was away for long would wait as long again: queries are answered as soon as commits are.
    monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", 600.0)

    async def scenario() -> None:
        async with pg_proxy(ledger_dsn, short_dir) as proxy, opened(proxy.dsn) as store:
            proxy.refuse()
            proxy.hang_up()
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(store.commit(note(str(number)))) for number in range(3)]
            await until(lambda: not store.is_connected)
            with pytest.raises(StoreUnavailable):
                await store.fetch(Statement("select 1"))
            proxy.refuse(is_refusing=False)
            await asyncio.gather(*tasks)
            assert store.is_connected
            assert await store.fetch(Statement("select 1 as x")) == [{"x": 1}]
        assert keys(ledger_dsn) == ["0", "1", "2"]

    run_async(scenario())


def test_server_that_cannot_commit_now_is_asked_again(ledger_dsn: str) -> None:
    """A read-only standby, a full disk: not the statement's fault, so nothing is refused and nothing recurses."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await store.commit(Statement("set default_transaction_read_only = on"))
            writing = asyncio.get_running_loop().create_task(store.commit(note("a")))
            await until(lambda: not store.is_connected)
            assert not writing.done()
            ask(ledger_dsn, KILL)  # the next connection may write
            await writing
            assert store.is_connected
        assert keys(ledger_dsn) == ["a"]

    run_async(scenario())


def test_lock_of_an_administrator_shows_and_delays(ledger_dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not silence until somebody wonders: status and log say that the database cannot commit, and then it does."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await store.commit(Statement("select set_config('lock_timeout', '50ms', false)"))
            async with await psycopg.AsyncConnection.connect(ledger_dsn) as lock:
                await lock.execute("lock table plugin_state in exclusive mode")
                writing = asyncio.get_running_loop().create_task(store.commit(note("a"), note("b")))
                await until(lambda: not store.is_connected)
                assert not writing.done()
            await writing
            assert store.is_connected
        assert keys(ledger_dsn) == ["a", "b"]

    run_async(scenario())
    assert "the database cannot commit now" in caplog.text


def test_writer_waits_for_nothing_without_a_limit(ledger_dsn: str) -> None:
    """From its first connection on and on every later one."""
    limits = Statement("select current_setting('lock_timeout') as l, current_setting('statement_timeout') as s")

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            assert await store.commit(limits) == [[{"l": "5s", "s": "30s"}]]
            ask(ledger_dsn, KILL)
            assert await store.commit(limits) == [[{"l": "5s", "s": "30s"}]]

    run_async(scenario())


def test_dead_session_that_still_holds_the_lock_is_waited_out(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut network: the server learns of it later than we do, and until then our own lock is in our way."""
    monkeypatch.setattr("runnerd.store.migrate.LOCK_PATIENCE_S", 0.1)

    async def scenario() -> None:
        async with opened(ledger_dsn) as store, await psycopg.AsyncConnection.connect(
            ledger_dsn, autocommit=True
        ) as dead:  # fmt: skip
            waiting = dead.execute("select pg_advisory_lock(%s)", (0x72756E6E65726420,))
            taking = asyncio.get_running_loop().create_task(waiting)
            await until(lambda: ask(ledger_dsn, "select 1 from pg_locks where locktype = 'advisory' and not granted"))
            ask(ledger_dsn, KILL.replace("pid <> pg", f"pid <> {dead.info.backend_pid} and pid <> pg"))
            await taking
            writing = asyncio.get_running_loop().create_task(store.commit(note("a")))
            await asyncio.wait([writing], timeout=0.4)
            assert not writing.done()
            await dead.close()
            await writing
        assert keys(ledger_dsn) == ["a"]

    run_async(scenario())


@pytest.mark.parametrize(
    "dsn",
    [
        "host=/tmp password=open sesame dbname=x",
        "postgresql://u:p%sesame@localhost/db",
        "host=/tmp port=sesame",
        "postgresql://u:open@sesame@localhost:1/db",
    ],
)
def test_malformed_connection_string_is_not_quoted(dsn: str) -> None:
    """libpq quotes the part that it does not understand, which may be the half of a password."""

    async def scenario() -> None:
        store = Store(dsn)
        with pytest.raises(StoreUnavailable, match="the connection string cannot be read") as refused:
            await store.open()
        await store.close()
        text = "".join(traceback.format_exception(refused.value))
        assert "sesame" not in text.replace(repr(dsn), "")

    run_async(scenario())


# --- alone, and the end ----------------------------------------------------------------------------------------------


def test_second_store_on_one_database_is_refused(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two supervisors on one ledger would sign the same nonces."""
    monkeypatch.setattr("runnerd.store.migrate.LOCK_PATIENCE_S", 0.1)

    async def scenario() -> None:
        async with opened(ledger_dsn) as first:
            second = Store(ledger_dsn)
            with pytest.raises(DatabaseInUse, match="another runnerd is using this database"):
                await second.open()
            await second.close()
            await first.commit(note("mine"))
        async with opened(ledger_dsn):
            pass

    run_async(scenario())


def test_database_taken_by_another_ends_the_writer_and_everybody_hears(
    ledger_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever for a commit that will never be made."""
    monkeypatch.setattr("runnerd.store.store.LOST_LOCK_PATIENCE_S", 0.1)

    async def scenario() -> None:
        store = Store(ledger_dsn)
        await store.open()
        watching = asyncio.get_running_loop().create_task(store.run_until_failed())
        thief = await psycopg.AsyncConnection.connect(ledger_dsn, autocommit=True)
        waiting = thief.execute("select pg_advisory_lock(%s)", (0x72756E6E65726420,))
        stealing = asyncio.get_running_loop().create_task(waiting)
        await until(lambda: ask(ledger_dsn, "select 1 from pg_locks where locktype = 'advisory' and not granted"))
        ask(ledger_dsn, KILL.replace("pid <> pg", f"pid <> {thief.info.backend_pid} and pid <> pg"))
        await stealing
        with pytest.raises(StoreUnavailable, match="closed before this was committed"):
            await store.commit(note("a"))
        with pytest.raises(DatabaseInUse):
            await watching
        with pytest.raises(StoreUnavailable, match="the ledger is closed"):
            await store.commit(note("b"))
        assert not store.is_connected
        await store.close()
        await thief.close()

    run_async(scenario())


def test_close_waits_for_what_was_asked_for(ledger_dsn: str) -> None:
    """A drained runnerd leaves nothing uncommitted, whoever still waits for it."""

    async def scenario() -> None:
        store = Store(ledger_dsn)
        await store.open()
        tasks = [asyncio.get_running_loop().create_task(store.commit(note(f"{n:03}"))) for n in range(600)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await store.close()
        assert len(keys(ledger_dsn)) == 600
        await asyncio.gather(*tasks, return_exceptions=True)

    run_async(scenario())


def test_close_does_not_wait_for_ever_for_a_database_that_is_away(
    ledger_dsn: str, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is told that it was not made; the process can end."""
    monkeypatch.setattr("runnerd.store.store.CLOSE_PATIENCE_S", 0.2)

    async def scenario() -> None:
        async with pg_proxy(ledger_dsn, short_dir) as proxy:
            store = Store(proxy.dsn)
            await store.open()
            proxy.refuse()
            proxy.hang_up()
            waiting = asyncio.get_running_loop().create_task(store.commit(note("a")))
            await until(lambda: not store.is_connected)
            await store.close()
            with pytest.raises(StoreUnavailable, match="closed before this was committed"):
                await waiting
        assert keys(ledger_dsn) == []

    run_async(scenario())


def test_store_that_cannot_connect_says_so_without_the_password(short_dir: Path) -> None:
    """The connection string may hold one; libpq's further lines may repeat it."""

    async def scenario() -> None:
        store = Store(f"host={short_dir} dbname=x user=y password=sesame")
        with pytest.raises(StoreUnavailable) as caught:
            await store.open()
        assert "sesame" not in str(caught.value)
        await store.close()

    run_async(scenario())


def test_connection_string_is_never_logged(ledger_dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not when it connects, not when it loses the connection."""

    async def scenario() -> None:
        async with opened(ledger_dsn + " password=sesame") as store:
            await store.commit(note("a"))
            ask(ledger_dsn, KILL)
            await store.commit(note("b"))

    with caplog.at_level(logging.DEBUG):
        run_async(scenario())
    assert "the database is back" in caplog.text
    assert "sesame" not in caplog.text


def test_text_for_a_reader_is_stored_without_nul(ledger_dsn: str) -> None:
    """Reasons and details carry what plugins wrote; none of them may make a commit fail."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            ((row,),) = await store.commit(calls.insert(new_call("a")))
            await store.commit(
                calls.finish(row["id"], calls.JobOutcome.FAILED, "decide raised \0", AT),
                workers.event("alpha", 1, "exited", "stderr: \0", AT),
            )
        assert ask(ledger_dsn, "select reason from job_calls") == [{"reason": "decide raised ·"}]
        assert ask(ledger_dsn, "select detail from worker_events") == [{"detail": "stderr: ·"}]

    run_async(scenario())

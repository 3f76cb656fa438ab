"""The outbox's table on a real PostgreSQL: ids follow commits, the doorbell rings, installing again does no harm."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors, sql

from tests.support.outbox_bench import events, install, publish, transaction


@pytest.fixture
def outbox(database: str) -> str:
    """DSN of a database with an outbox."""
    install(database)
    return database


def test_slow_transaction_does_not_get_an_id_below_one_that_was_seen(outbox: str) -> None:
    """The classic trap: it inserted first and commits last. A reader that has seen the other one must still find it."""
    with transaction(outbox) as slow, transaction(outbox) as quick:
        slow.execute("select runnerd_outbox.publish('flow', 'slow')")
        quick.execute("select runnerd_outbox.publish('flow', 'quick')")
        quick.commit()
        ((seen, *_),) = events(outbox)
        slow.commit()
        assert [(payload, id_ > seen) for id_, _, _, payload in events(outbox)] == [("quick", False), ("slow", True)]


def test_rows_of_one_key_have_the_order_in_which_they_were_made_known(outbox: str) -> None:
    """The second one saw the first one's commit, though its transaction began before it, and another one is open."""
    with transaction(outbox) as early, transaction(outbox) as between, transaction(outbox) as late:
        for session in (early, between, late):
            session.execute("select pg_current_xact_id()")
        late.execute("select runnerd_outbox.publish('flow', 'first', key => 'k')")
        late.commit()
        early.execute("select runnerd_outbox.publish('flow', 'second', key => 'k')")
        early.commit()
        assert [(key, payload) for _, _, key, payload in events(outbox)] == [("k", "first"), ("k", "second")]


def test_open_transactions_keep_nobody_from_publishing(outbox: str) -> None:
    """The lock is taken at the commit: who has published and goes on working holds nobody up."""
    with transaction(outbox) as idle:
        idle.execute("select runnerd_outbox.publish('flow', 'idle')")
        with psycopg.connect(outbox, autocommit=True, options="-c lock_timeout=2s") as other:
            other.execute("select runnerd_outbox.publish('flow', 'other')")
        assert [payload for *_, payload in events(outbox)] == ["other"]


def test_many_who_publish_at_once_never_show_a_reader_a_gap_that_is_filled_later(outbox: str) -> None:
    """Read again and again meanwhile, always from the last id that was seen: everything is found, once, in order."""
    writers, each = 6, 60

    def write(writer: int) -> None:
        with psycopg.connect(outbox) as connection:
            for number in range(each):
                connection.execute("select runnerd_outbox.publish('flow', %s, %s)", (f"{writer}:{number}", str(writer)))
                if number % 7 == 3:
                    connection.execute("savepoint s; select runnerd_outbox.publish('flow', 'never'); rollback to s")
                connection.commit()
                if number % 5 == 4:
                    connection.execute("select runnerd_outbox.publish('flow', 'never')")
                    connection.rollback()

    seen: list[tuple[int, str]] = []
    is_over = threading.Event()

    def read() -> None:
        with psycopg.connect(outbox, autocommit=True) as connection:
            while True:
                is_last = is_over.is_set()
                last = seen[-1][0] if seen else 0
                query = "select id, payload from runnerd_outbox.events where id > %s order by id"
                seen.extend(connection.execute(query, (last,)).fetchall())
                if is_last:
                    return

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        for writing in [pool.submit(write, writer) for writer in range(writers)]:
            writing.result(60)
        is_over.set()
        reading.result(60)
    found = [payload for _, payload in seen]
    assert len(set(found)) == len(found)
    assert sorted(found) == sorted(payload for *_, payload in events(outbox))
    for writer in range(writers):
        numbers = [int(payload.split(":")[1]) for payload in found if payload.startswith(f"{writer}:")]
        assert numbers == list(range(each))


def test_ids_within_a_transaction_follow_its_rows(outbox: str) -> None:
    """Also of one statement that makes many."""
    with psycopg.connect(outbox) as connection:
        connection.execute("select runnerd_outbox.publish('b', 'first')")
        connection.execute(
            "insert into runnerd_outbox.events (topic, payload) select 'a', n::text from generate_series(1, 50) n"
        )
    assert [payload for *_, payload in events(outbox)] == ["first", *map(str, range(1, 51))]


def test_doorbell_rings_once_for_a_transaction_and_a_topic(outbox: str) -> None:
    """With the topic; not for what is rolled back."""
    with psycopg.connect(outbox, autocommit=True) as listener:
        listener.execute("listen runnerd_outbox")
        with transaction(outbox) as session:
            session.execute("select runnerd_outbox.publish('never', '')")
            session.rollback()
            session.execute("select runnerd_outbox.publish('a', n::text) from generate_series(1, 30) n")
            session.execute("select runnerd_outbox.publish('b', '')")
            session.commit()
        heard = [notification.payload for notification in listener.notifies(timeout=10, stop_after=2)]
        assert heard == ["a", "b"]


def test_payload_may_be_text_json_jsonb_or_nothing(outbox: str) -> None:
    """As an indexer has it at hand."""
    with psycopg.connect(outbox, autocommit=True) as connection:
        connection.execute("""
            select runnerd_outbox.publish('a'), runnerd_outbox.publish('b', '{"x": 1}'),
                   runnerd_outbox.publish('c', row_to_json(r), key => 'k'), runnerd_outbox.publish('d', to_jsonb(r)),
                   runnerd_outbox.publish('e', null::text)
            from (select 7 as id) r
        """)
    assert [row[1:] for row in events(outbox)] == [
        ("a", None, ""), ("b", None, '{"x": 1}'), ("c", "k", '{"id":7}'), ("d", None, '{"id": 7}'), ("e", None, ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "select runnerd_outbox.publish('')",
        "select runnerd_outbox.publish(repeat('x', 64))",
        "select runnerd_outbox.publish('a', '', repeat('x', 501))",
        "insert into runnerd_outbox.events (topic, created_at) values ('a', 'infinity')",
    ],
)
def test_what_could_not_be_delivered_is_refused_where_it_is_published(outbox: str, statement: str) -> None:
    """The indexer learns it, and its transaction does not commit."""
    with psycopg.connect(outbox, autocommit=True) as connection, pytest.raises(errors.CheckViolation):
        connection.execute(statement.encode())
    assert events(outbox) == []


def test_installing_again_changes_nothing(outbox: str) -> None:
    """Neither the rows nor the name of the outbox; and the trigger is there once."""
    publish(outbox, ("flow", "1"))

    def state() -> list[tuple[object, ...]]:
        with psycopg.connect(outbox, autocommit=True) as connection:
            return connection.execute(
                "select a.id, a.version, (select count(*) from pg_trigger where tgname = 'number_event'),"
                " (select last_value from runnerd_outbox.event_ids) from runnerd_outbox.about a"
            ).fetchall()

    before = state()
    install(outbox)
    assert state() == before
    publish(outbox, ("flow", "2"))
    assert [payload for *_, payload in events(outbox)] == ["1", "2"]


def test_two_who_install_at_once_make_one_outbox(database: str) -> None:
    """A deployment that runs it on every host."""
    with ThreadPoolExecutor() as pool:
        for installing in [pool.submit(install, database) for _ in range(4)]:
            installing.result(60)
    publish(database, ("flow", "1"))
    assert [payload for *_, payload in events(database)] == ["1"]


@pytest.fixture
def roles(outbox: str) -> Iterator[tuple[str, str]]:
    """An indexer and a reader with the grants that `--print` shows; and nobody else may do anything."""
    names = ("outbox_indexer", "outbox_reader")
    with psycopg.connect(outbox, autocommit=True) as owner:
        for name in names:
            owner.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
        owner.execute("""
            grant usage on schema runnerd_outbox to outbox_indexer, outbox_reader;
            grant execute on all functions in schema runnerd_outbox to outbox_indexer;
            grant select on all tables in schema runnerd_outbox to outbox_reader;
            grant select on all sequences in schema runnerd_outbox to outbox_reader;
        """)
        yield names
        for name in names:
            owner.execute(sql.SQL("drop owned by {}; drop role {}").format(*[sql.Identifier(name)] * 2))


def test_grants_of_the_documentation_suffice_and_give_no_more(outbox: str, roles: tuple[str, str]) -> None:
    """The indexer publishes without a right on any table; the reader reads, and can neither write nor publish."""
    with psycopg.connect(outbox) as session:
        session.execute("set role outbox_indexer; select runnerd_outbox.publish('flow', 'x')")
        session.execute("reset role")  # a role may be gone from the session when the trigger fires
        session.commit()
        session.execute("set role outbox_indexer")
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("select * from runnerd_outbox.events")
        session.rollback()
        session.execute("set role outbox_reader; select last_value from runnerd_outbox.event_ids")
        assert session.execute("select payload from runnerd_outbox.events").fetchall() == [("x",)]
        for denied in ("select runnerd_outbox.publish('flow')", "delete from runnerd_outbox.events"):
            session.execute("set role outbox_reader")
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(denied.encode())
            session.rollback()


def test_what_is_published_is_durable_when_it_can_be_seen(outbox: str) -> None:
    """Even in a session that does not wait for the disk: else a crash would give its id to another event."""
    with psycopg.connect(outbox) as session:
        session.execute("set synchronous_commit = off")
        session.execute("select runnerd_outbox.publish('flow', 'x')")
        written = session.execute("select pg_current_wal_insert_lsn()::text").fetchone()
        session.commit()
        assert session.execute("select pg_current_wal_flush_lsn() >= %s::pg_lsn", written).fetchone() == (True,)
        assert session.execute("show synchronous_commit").fetchone() == ("off",)

"""The outbox producer on a real PostgreSQL and a real ledger: every event once, in order, whatever breaks meanwhile."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from protocol.limits import MAX_PAYLOAD_LENGTH
from protocol.triggers import Event
from runnerd.triggers import outbox_link, outbox_reading
from runnerd.triggers.outbox_link import MAX_ROWS
from tests.support.aio import run_async
from tests.support.outbox_bench import install, outbox_bench, publish, transaction
from tests.support.pg_proxy import pg_proxy
from tests.support.postgres import PostgresServer
from tests.support.until import until

FLOW = Event(topic="flow", mode="outbox")


@pytest.fixture
def indexer(postgres: PostgresServer) -> Iterator[str]:
    """DSN of an indexer's database, with an outbox: another one than the ledger's."""
    dsn = postgres.create_database()
    install(dsn)
    yield dsn
    postgres.drop_database(dsn)


def numbers(first: int, last: int) -> list[tuple[str, str]]:
    return [("flow", str(number)) for number in range(first, last + 1)]


def texts(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


def test_event_becomes_a_call_at_once(ledger_dsn: str, indexer: str) -> None:
    """Of another database: rung for, not found by the next look at the table."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            began = asyncio.get_running_loop().time()
            publish(indexer, ("flow", '{"side":"buy"}'), ("other", "x"), ("flow", ""))
            await bench.hears('{"side":"buy"}', "")
            assert asyncio.get_running_loop().time() - began < 1.0
            first, second = bench.calls()
            assert (first["trigger"], first["topic"], first["principal"]) == ("event", "flow", "outbox:flow")
            assert first["identity"].split()[2:] == ["flow", "1"]
            assert second["identity"].split()[2:] == ["flow", "3"]
            assert first["deadline_at"] - first["fired_at"] == timedelta(seconds=60)
            assert first["due_at"] <= first["fired_at"]

    run_async(scenario())


def test_outbox_in_the_ledgers_own_database(ledger_dsn: str) -> None:
    """Its schema keeps to itself."""
    install(ledger_dsn)

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, ledger_dsn) as bench:
            await bench.follow("flow")
            publish(ledger_dsn, *numbers(1, 3))
            await bench.hears(*texts(1, 3))

    run_async(scenario())


def test_slow_transaction_is_delivered_though_a_later_one_was_before(ledger_dsn: str, indexer: str) -> None:
    """The classic trap: its row was inserted first, and can be seen last."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            with transaction(indexer) as slow:
                slow.execute("select runnerd_outbox.publish('flow', 'slow')")
                publish(indexer, ("flow", "quick"))
                await bench.hears("quick")
                slow.commit()
                await bench.hears("quick", "slow")

    run_async(scenario())


def test_new_follower_begins_where_it_was_declared_and_keeps_its_place(ledger_dsn: str, indexer: str) -> None:
    """What was there before is not for it. What comes while nobody runs is, after a restart."""
    publish(indexer, *numbers(1, 5))

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            assert json.loads(bench.positions()["alpha flow"])["id"] == 5
        publish(indexer, *numbers(6, 8))  # before it has ever been called
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            await bench.hears(*texts(6, 8))
        publish(indexer, *numbers(9, 400))
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            await bench.hears(*texts(6, 400))  # those of the former run were not decided
            assert [row["payload"] for row in bench.calls()] == texts(6, 400)
            await bench.follow("flow", plugin="beta")
            publish(indexer, *numbers(401, 401))
            await bench.hears("401", plugin="beta")

    run_async(scenario())


def test_position_moves_in_the_commit_of_the_calls(
    ledger_dsn: str, indexer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the ledger shows at any time, both are of the same event."""
    monkeypatch.setattr("runnerd.triggers.outbox_link.MAX_ROWS", 3)

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            publish(indexer, *numbers(1, 60))
            looks: set[tuple[int, int]] = set()
            with psycopg.connect(ledger_dsn, autocommit=True) as connection:
                query = (
                    "select (select count(*) from job_calls),"
                    " (select (position::json ->> 'id')::int from producer_positions)"
                )
                while (60, 60) not in looks:
                    looks |= set(connection.execute(query).fetchall())
                    await asyncio.sleep(0)
            assert all(count == position for count, position in looks), looks

    run_async(scenario())


def test_two_plugins_share_what_is_read_and_one_that_takes_nothing_keeps_nobody(ledger_dsn: str, indexer: str) -> None:
    """What it does not take waits in the table, in order, and it catches up when it can."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            await bench.follow("flow", plugin="beta")
            publish(indexer, *numbers(1, 2))
            await bench.hears("1", "2")
            await bench.hears("1", "2", plugin="beta")
            assert len({row["fired_at"] for plugin in ("alpha", "beta") for row in bench.calls(plugin)}) <= 2
            bench.plugins["alpha"].free = 0
            publish(indexer, *numbers(3, 600))
            await bench.hears(*texts(1, 600), plugin="beta")
            assert bench.heard() == texts(1, 2)
            assert "alpha at 2 on flow (it takes no calls now)" in bench.outbox.progress()
            assert 'runnerd_outbox_behind{plugin="alpha",topic="flow"} 598.0' in bench.metrics.render().decode()
            bench.plugins["alpha"].free = 10
            await bench.hears(*texts(1, 12))
            bench.plugins["alpha"].free = 1_000
            await bench.hears(*texts(1, 600))
            await until(lambda: "behind" not in bench.outbox.progress())
            assert 'runnerd_outbox_behind{plugin="alpha",topic="flow"} 0.0' in bench.metrics.render().decode()

    run_async(scenario())


def test_what_was_pruned_was_seen_all_the_same(ledger_dsn: str, indexer: str) -> None:
    """After a restart the table is empty; the last event is still the one that the plugin stands at."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            publish(indexer, *numbers(1, 2))
            await bench.hears("1", "2")
        with psycopg.connect(indexer, autocommit=True) as connection:
            connection.execute("delete from runnerd_outbox.events")
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            await until(lambda: bench.outbox.progress() == "last event 2")

    run_async(scenario())


def test_nothing_is_taken_before_what_a_former_run_left(ledger_dsn: str, indexer: str) -> None:
    """That is older: the order of a key would be lost over a restart."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            publish(indexer, *numbers(1, 2))
            await bench.hears("1", "2")  # they are not decided
        publish(indexer, *numbers(3, 4))
        async with outbox_bench(ledger_dsn, indexer, is_recovered=False) as bench:
            await bench.follow("flow")
            await until(lambda: "behind" in bench.outbox.progress())
            assert bench.calls()[2:] == []
            await bench.router.recover()
            await bench.hears(*texts(1, 4))

    run_async(scenario())


def test_declaring_again_goes_on_where_the_plugin_was(ledger_dsn: str, indexer: str) -> None:
    """Also with another filter or another job; a topic that is new begins now, and one that is dropped is not heard."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            publish(indexer, ("flow", '{"n": 1}'))
            await bench.hears('{"n": 1}')
            bench.outbox.forget("alpha")
            publish(indexer, ("flow", '{"n": 2}'), ("flow", '{"n": 3}'), ("new", '{"n": 3}'))
            three: dict[str, bool | int | str] = {"n": 3}
            await bench.declare(
                Event(topic="flow", mode="outbox", where=three), Event(topic="new", mode="outbox", job="settle")
            )
            await bench.following()
            await bench.hears('{"n": 1}', '{"n": 3}')
            publish(indexer, ("new", "4"), ("flow", '{"n": 5}'))
            await bench.hears('{"n": 1}', '{"n": 3}', "4")
            assert [row["job"] for row in bench.calls()] == ["decide", "decide", "settle"]
            await bench.follow("new")
            publish(indexer, ("flow", '{"n": 3}'), ("new", "6"))
            await bench.hears('{"n": 1}', '{"n": 3}', "4", "6")

    run_async(scenario())


def test_same_events_again_make_no_second_call(ledger_dsn: str, indexer: str) -> None:
    """Though the position was lost, by a restored ledger or a hand that slipped: identities are in the ledger."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            publish(indexer, *numbers(1, 5))
            await bench.hears(*texts(1, 5))
        with psycopg.connect(ledger_dsn, autocommit=True) as connection:
            connection.execute(
                "update producer_positions set position = jsonb_set(position::jsonb, '{id}', '0') - 'at'"
            )
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            publish(indexer, *numbers(6, 6))
            await until(lambda: "6" in bench.heard())
            assert [row["payload"] for row in bench.calls()] == texts(1, 6)

    run_async(scenario())


def test_payloads_of_any_size(ledger_dsn: str, indexer: str) -> None:
    """Whole up to what a call carries; beyond it a reference, and the filter looks into the whole."""
    fits = "ü" * MAX_PAYLOAD_LENGTH
    over = json.dumps({"side": "buy", "x": "y" * MAX_PAYLOAD_LENGTH})
    huge = json.dumps({"side": "buy", "x": "y" * 3_000_000})
    other = json.dumps({"side": "sell", "x": "y" * 3_000_000})

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            await bench.declare(Event(topic="flow", mode="outbox", where={"side": "buy"}), plugin="beta")
            await bench.following()
            publish(indexer, *[("flow", payload) for payload in (fits, over, huge, other, '{"side": "buy"}')])
            await until(lambda: len(bench.heard()) == 5 and len(bench.heard("beta")) == 3, 20)
            references = [f'{{"outbox_event":{n},"payload_bytes":{len(p)}}}' for n, p in ((2, over), (3, huge))]
            assert bench.heard("beta") == [*references, '{"side": "buy"}']
            assert bench.heard()[:3] == [fits, *references]

    run_async(scenario())


def test_large_payloads_are_read_in_bounded_answers(ledger_dsn: str, indexer: str) -> None:
    """A backlog of large events does not come all at once."""
    payload = "x" * 200_000

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
        publish(indexer, *[("flow", payload)] * 100)
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            await until(lambda: len(bench.heard()) == 100, 30)
            rows = bench.calls()
            at_once = {row["fired_at"]: 0 for row in rows}
            for row in rows:
                at_once[row["fired_at"]] += 1
            assert max(at_once.values()) <= (4 << 20) // 200_000 + 1

    run_async(scenario())


def test_large_backlog_is_caught_up_in_order(ledger_dsn: str, indexer: str) -> None:
    """In batches; rows of other topics in between cost nothing."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
        with psycopg.connect(indexer) as connection:
            connection.execute(
                "select runnerd_outbox.publish(case n %% 3 when 0 then 'flow' else 'other' end, n::text)"
                " from generate_series(1, %s) n",
                (9 * MAX_ROWS,),
            )
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            await bench.hears(*[str(3 * n) for n in range(1, 3 * MAX_ROWS + 1)])

    run_async(scenario())


def test_killed_connection_is_replaced_and_nothing_is_lost(ledger_dsn: str, indexer: str) -> None:
    """Again and again, while events come."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            for number in range(1, 40):
                publish(indexer, ("flow", str(number)))
                if number % 5 == 0:
                    with psycopg.connect(indexer, autocommit=True) as connection:
                        connection.execute(
                            "select pg_terminate_backend(pid) from pg_stat_activity"
                            " where datname = current_database() and pid <> pg_backend_pid()"
                        )
            await bench.hears(*texts(1, 39))

    run_async(scenario())


def test_silent_connection_is_noticed_in_less_than_ten_seconds(
    ledger_dsn: str, indexer: str, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half open, nobody told: the probe finds out. Its two times are shortened here; as they are they make seven."""
    assert outbox_reading.PROBE_EVERY_S + outbox_link.ANSWER_DEADLINE_S < 10
    monkeypatch.setattr("runnerd.triggers.outbox_reading.PROBE_EVERY_S", 0.1)
    monkeypatch.setattr("runnerd.triggers.outbox_link.ANSWER_DEADLINE_S", 0.3)

    async def scenario() -> None:
        async with pg_proxy(indexer, short_dir) as proxy, outbox_bench(ledger_dsn, proxy.dsn) as bench:
            await bench.follow("flow")
            proxy.fall_silent()
            publish(indexer, ("flow", "meanwhile"))
            await until(lambda: not bench.outbox.is_connected, 3.0)
            assert bench.outbox.trouble is not None
            assert bench.heard() == []
            proxy.speak_again()
            await bench.hears("meanwhile")
            await until(lambda: bench.outbox.trouble is None)

    run_async(scenario())


def test_doorbell_that_does_not_ring_is_made_up_for(
    ledger_dsn: str, indexer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler that loses LISTEN: the table is the truth, and is looked at now and then."""
    monkeypatch.setattr("runnerd.triggers.outbox_reading.PROBE_EVERY_S", 0.1)

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            with psycopg.connect(indexer, autocommit=True) as connection:
                row = connection.execute("select pg_get_functiondef('runnerd_outbox.number_event'::regproc)").fetchone()
                assert row is not None
                connection.execute(row[0].replace("perform pg_notify", "-- perform pg_notify").encode())
            publish(indexer, *numbers(1, 3))
            await bench.hears(*texts(1, 3))

    run_async(scenario())


def test_outbox_that_is_not_installed_is_said_and_waited_for(
    ledger_dsn: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the command that helps; and once, not with every try."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, database) as bench:
            assert bench.outbox.trouble is None  # nobody follows it
            await bench.declare(FLOW)
            await until(lambda: "runnerctl outbox install" in (bench.outbox.trouble or ""))
            await until(lambda: caplog.text.count("the outbox is not read") == 1)
            install(database)
            await bench.following()
            assert bench.outbox.trouble is None
            publish(database, *numbers(1, 2))
            await bench.hears("1", "2")
            assert caplog.text.count("the outbox is not read") == 1

    run_async(scenario())


def test_outbox_that_was_set_back_is_not_read_until_its_ids_are_beyond(
    ledger_dsn: str, indexer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored backup would give ids again that were seen: what has them would be lost without a word."""
    monkeypatch.setattr("runnerd.triggers.outbox_reading.PROBE_EVERY_S", 0.1)

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            publish(indexer, *numbers(1, 5))
            await bench.hears(*texts(1, 5))
            with psycopg.connect(indexer) as connection:  # as a backup from after the second event
                connection.execute("delete from runnerd_outbox.events where id > 2")
                connection.execute("select setval('runnerd_outbox.event_ids', 2)")
            await until(lambda: "restored from a backup" in (bench.outbox.trouble or ""), 20)
            publish(indexer, ("flow", "lost otherwise"))  # gets the id 3
            with psycopg.connect(indexer) as connection:  # what the documentation tells to do
                connection.execute("select setval('runnerd_outbox.event_ids', 5)")
                connection.execute("""
                    with again as (delete from runnerd_outbox.events where id > 2 returning topic, key, payload, id)
                    insert into runnerd_outbox.events (topic, key, payload)
                    select topic, key, payload from again order by id
                """)
            publish(indexer, ("flow", "7"))
            await bench.hears(*texts(1, 5), "lost otherwise", "7")
            await until(lambda: bench.outbox.trouble is None)

    run_async(scenario())


def test_set_back_while_nobody_looked_is_found_by_the_event_itself(ledger_dsn: str, indexer: str) -> None:
    """Its id is there again, and is another one."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            publish(indexer, *numbers(1, 3))
            await bench.hears(*texts(1, 3))
        with psycopg.connect(indexer) as connection:
            connection.execute("delete from runnerd_outbox.events where id > 2")
            connection.execute("select setval('runnerd_outbox.event_ids', 2)")
        publish(indexer, *numbers(4, 9))
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.declare(FLOW)
            await until(lambda: "another one than the event 3 that was seen" in (bench.outbox.trouble or ""))
            assert bench.heard() == ["1", "2", "3"]  # of the former run, which nobody decided

    run_async(scenario())


def test_another_outbox_is_followed_from_its_end(
    ledger_dsn: str, indexer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And its ids are no duplicates of those of the former one."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            publish(indexer, *numbers(1, 5))
            await bench.hears(*texts(1, 5))
        with psycopg.connect(indexer, autocommit=True) as connection:
            connection.execute("drop schema runnerd_outbox cascade")
        install(indexer)
        publish(indexer, ("flow", "before"))
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            assert "follows another outbox from now on" in caplog.text
            publish(indexer, ("flow", "after"))
            await until(lambda: "after" in bench.heard())
            assert [row["payload"] for row in bench.calls()] == [*texts(1, 5), "after"]

    run_async(scenario())


def test_what_the_ledger_refuses_of_one_plugin_does_not_keep_the_others(
    ledger_dsn: str, indexer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and tried again; nothing of it is passed over."""
    monkeypatch.setattr("runnerd.triggers.outbox_reading.REFUSED_EVERY_S", 0.2)

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow")
            await bench.follow("flow", plugin="beta")
            refuse_calls_of(ledger_dsn, "alpha")
            publish(indexer, *numbers(1, 3))
            await bench.hears(*texts(1, 3), plugin="beta")
            await until(lambda: "the ledger takes no calls for alpha flow" in (bench.outbox.trouble or ""))
            assert "outbox_refused" in {
                record.__dict__.get("runnerd_fields", {}).get("action") for record in caplog.records
            }
            refuse_calls_of(ledger_dsn, None)
            await bench.hears(*texts(1, 3))
            await until(lambda: bench.outbox.trouble is None)

    run_async(scenario())


def refuse_calls_of(dsn: str, plugin: str | None) -> None:
    """As a constraint would that one plugin's calls break."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("alter table job_calls drop constraint if exists test_refused")
        if plugin is not None:
            connection.execute(
                f"alter table job_calls add constraint test_refused check (plugin <> '{plugin}') not valid".encode()
            )


def test_view_tells_what_waits_for_whom(ledger_dsn: str, indexer: str) -> None:
    """Counted in the table; also of a plugin that does not run."""

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, indexer) as bench:
            await bench.follow("flow", "other")
            await bench.follow("flow", plugin="beta")
            publish(indexer, *numbers(1, 4))
            await bench.hears(*texts(1, 4))
            await bench.hears(*texts(1, 4), plugin="beta")
            bench.outbox.forget("beta")
            publish(indexer, *numbers(5, 6))
            await bench.hears(*texts(1, 6))
            views = {(view.plugin, view.topic): view for view in await bench.outbox.view()}
            assert set(views) == {("alpha", "flow"), ("alpha", "other"), ("beta", "flow")}
            assert [(view.position, view.events) for _, view in sorted(views.items())] == [(6, 0), (0, 0), (4, 2)]
            behind = views["beta", "flow"]
            assert behind.since is not None
            assert "does not run" in behind.waits_for

    run_async(scenario())


def test_database_in_another_encoding_is_understood(postgres: PostgresServer, ledger_dsn: str) -> None:
    """Also one that holds bytes which are no text at all."""
    name = "ascii_events"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name}".encode())
        connection.execute(f"create database {name} template template0 encoding 'SQL_ASCII' locale 'C'".encode())
    dsn = postgres.dsn_of(name)
    install(dsn)

    async def scenario() -> None:
        async with outbox_bench(ledger_dsn, dsn) as bench:
            await bench.follow("flüsse")
            with psycopg.connect(dsn, autocommit=True, client_encoding="utf8") as connection:
                connection.execute("select runnerd_outbox.publish('flüsse', 'é')")
                connection.execute("select runnerd_outbox.publish('flüsse', 'x' || E'\\xff', E'\\xfe')")
                connection.execute("select runnerd_outbox.publish('flüsse', 'y')")
            await bench.hears("é", "x\ufffd", "y")

    run_async(scenario())
    postgres.drop_database(dsn)

"""The event producer on a real PostgreSQL: announcements become calls, and a lost connection comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import uvloop
from psycopg import sql

from protocol.triggers import Event
from runnerd.clock import SystemClock
from runnerd.services.metrics import Metrics
from runnerd.store.errors import CommitRefused
from runnerd.supervisor.machine import Phase
from runnerd.triggers.events import EventProducer
from tests.support.aio import run_async
from tests.support.calls import terms
from tests.support.fake_router import FakeRouter
from tests.support.pg_proxy import pg_proxy
from tests.support.until import until

ODD = 'Weird-Topic "x" ü'


def topics(*names: str) -> list[Event]:
    """A trigger for each."""
    return [Event(topic=name) for name in names]


class EventBench:
    """A running producer, and another connection that announces."""

    def __init__(self, dsn: str, listen_dsn: str | None = None, also: Collection[str] = ()) -> None:
        self._dsn = dsn
        self.router = FakeRouter()
        self.events = EventProducer(listen_dsn or dsn, self.router, SystemClock(), also=also)
        self._running = asyncio.get_running_loop().create_task(self.events.run())

    async def listening(self, *topics: str) -> None:
        """Wait until the server knows of exactly these topics."""
        await until(lambda: self.events.is_connected and self.events._listening == set(topics), 20)

    def notify(self, *announcements: tuple[str, str]) -> None:
        """Announce, each in a transaction of its own."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            for topic, payload in announcements:
                connection.execute("select pg_notify(%s, %s)", (topic, payload))

    def kill_listener(self) -> int:
        """End the producer's connection; how many were ended."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            query = (
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def heard(self, plugin: str = "alpha") -> list[tuple[str | None, str]]:
        """Topic and payload of its calls, in order."""
        return [(call.topic, call.payload) for call in self.router.calls if call.plugin == plugin]

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


@asynccontextmanager
async def event_bench(dsn: str, listen_dsn: str | None = None, also: Collection[str] = ()) -> AsyncIterator[EventBench]:
    bench = EventBench(dsn, listen_dsn, also)
    try:
        yield bench
    finally:
        await bench.close()


LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])
def test_notification_becomes_a_call(database: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """With its topic, payload and who asked; each with an identity of its own."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms(call_deadline_s=30))
            await bench.listening("flow")
            bench.notify(("flow", '{"side":"buy"}'), ("flow", '{"side":"buy"}'), ("other", "x"), ("flow", ""))
            await until(lambda: len(bench.heard()) == 3)
            assert bench.heard() == [("flow", '{"side":"buy"}'), ("flow", '{"side":"buy"}'), ("flow", "")]
            calls = bench.router.calls
            assert len({call.identity for call in calls}) == 3
            assert {(call.principal, call.trigger.value) for call in calls} == {("pg:flow", "event")}
            assert all(call.deadline_at == call.fired_at + timedelta(seconds=30) for call in calls)

    run_async(scenario(), loop_factory=loop_factory)


@pytest.mark.parametrize("topic", [ODD, "UPPER", "a.b", "x" * 63, "ü" * 31, "select", "'; drop table x; --"])
def test_topic_is_taken_to_the_letter(database: str, topic: str) -> None:
    """Quotes, case, spaces, letters of two bytes, words of SQL."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics(topic), terms())
            await bench.listening(topic)
            bench.notify((topic, "here"), (topic.lower(), "maybe"))
            await until(lambda: bool(bench.heard()))
            assert bench.heard()[0] == (topic, "here")

    run_async(scenario())


def test_largest_payload_passes_unchanged(database: str) -> None:
    """PostgreSQL takes 7,999 bytes; any text among them."""
    odd = ('"\\ \n\tü€😀' * 400).encode()
    payload = (odd + b"x" * (7_999 - len(odd))).decode()

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            bench.notify(("flow", payload))
            await until(lambda: bool(bench.heard()))
            assert bench.heard() == [("flow", payload)]

    run_async(scenario())


def test_two_plugins_on_one_topic_both_hear_it(database: str) -> None:
    """In one commit, and with deadlines of their own; one that is forgotten hears no more."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms(call_deadline_s=10))
            await bench.events.declare("beta", topics("flow", "own"), terms(call_deadline_s=20))
            await bench.listening("flow", "own")
            bench.notify(("flow", "1"))
            await until(lambda: bool(bench.router.calls))
            ((first, second),) = [new_calls for new_calls, _ in bench.router.commits]
            assert {first.plugin, second.plugin} == {"alpha", "beta"}
            assert first.identity == second.identity
            assert {(call.deadline_at - call.fired_at).total_seconds() for call in (first, second)} == {10, 20}
            bench.events.forget("beta")
            await bench.listening("flow")
            bench.notify(("own", "2"), ("flow", "3"))
            await until(lambda: len(bench.heard()) == 2)
            assert bench.heard("beta") == [("flow", "1")]

    run_async(scenario())


def test_declaring_again_replaces_the_topics(database: str) -> None:
    """Those that nobody wants any more are not listened to."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("one", "two"), terms())
            await bench.listening("one", "two")
            await bench.events.declare("alpha", topics("two", "three"), terms())
            await bench.listening("two", "three")
            bench.notify(("one", ""), ("two", ""), ("three", ""))
            await until(lambda: len(bench.heard()) == 2)
            assert bench.heard() == [("two", ""), ("three", "")]

    run_async(scenario())


def test_flood_is_taken_in_groups_and_in_order(database: str) -> None:
    """Five thousand announcements in one transaction: a few commits, nothing lost."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            with psycopg.connect(database) as connection:
                connection.execute("select pg_notify('flow', n::text) from generate_series(1, 5000) n")
            await until(lambda: len(bench.heard()) == 5_000)
            assert [payload for _, payload in bench.heard()] == [str(number) for number in range(1, 5_001)]
            assert len(bench.router.commits) <= 5_000 // 256 + 10

    run_async(scenario())


def test_nothing_is_lost_while_other_topics_are_listened_to(database: str) -> None:
    """LISTEN reads the same connection: what comes during it, or right behind its answer, is heard as well."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            is_over = False
            sent = 0

            async def announce() -> None:
                nonlocal sent
                async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
                    while not is_over:
                        sent += 1
                        await connection.execute("select pg_notify('flow', %s)", (str(sent),))

            announcing = asyncio.get_running_loop().create_task(announce())
            for number in range(150):
                await bench.events.declare("beta", topics(f"topic {number}"), terms())
                await asyncio.sleep(0.002)
            is_over = True
            await announcing
            await until(lambda: len(bench.heard()) == sent, 2.0)
            assert [payload for _, payload in bench.heard()] == [str(number) for number in range(1, sent + 1)]

    run_async(scenario())


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])
def test_killed_connection_is_replaced_at_once(
    database: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Noticed by the closing itself, not by the next probe; again and again, without leaving descriptors behind."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            for number in range(5):
                assert bench.kill_listener() == 1
                began = asyncio.get_running_loop().time()
                await until(lambda: "flow" not in bench.events._listening)
                await bench.listening("flow")
                assert asyncio.get_running_loop().time() - began < 2.0
                bench.notify(("flow", str(number)))
                await until(lambda: bench.heard()[-1:] == [("flow", str(number))])  # noqa: B023  # awaited here

    run_async(scenario(), loop_factory=loop_factory)


def test_silent_connection_is_cut_off_and_replaced(
    database: str, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half open, nobody told: the probe finds out within its deadline."""
    monkeypatch.setattr("runnerd.triggers.events.PROBE_EVERY_S", 0.1)
    monkeypatch.setattr("runnerd.triggers.events.PROBE_DEADLINE_S", 0.2)

    async def scenario() -> None:
        async with pg_proxy(database, short_dir) as proxy, event_bench(database, proxy.dsn) as bench:
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            proxy.fall_silent()
            await until(lambda: not bench.events.is_connected, 3.0)
            proxy.speak_again()
            await bench.listening("flow")
            bench.notify(("flow", "back"))
            await until(lambda: bool(bench.heard()))

    run_async(scenario())


def test_gap_is_recorded_when_all_topics_are_heard_again(
    database: str, short_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From when something was heard last, in the log, the metrics and the status; one gap, however many tries."""
    monkeypatch.setattr("runnerd.triggers.events.PROBE_EVERY_S", 0.1)
    monkeypatch.setattr("runnerd.triggers.events.PROBE_DEADLINE_S", 0.2)

    async def scenario() -> None:
        async with pg_proxy(database, short_dir) as proxy, event_bench(database, proxy.dsn) as bench:
            metrics = bench.events._metrics = Metrics(phase.value for phase in Phase)
            await bench.events.declare("alpha", topics("flow", "more"), terms())
            await bench.listening("flow", "more")
            assert "gap" not in bench.events.progress()
            assert "runnerd_listen_gaps_total 0.0" in metrics.render().decode()
            before = SystemClock().now()
            proxy.refuse()
            proxy.hang_up()
            await until(lambda: proxy.refused >= 3)
            proxy.refuse(is_refusing=False)
            await bench.listening("flow", "more")
            (record,) = [record for record in caplog.records if "nobody listened for" in record.getMessage()]
            told = record.__dict__["runnerd_fields"]
            assert (told["action"], told["topics"]) == ("listen_gap", ["flow", "more"])
            since, end = datetime.fromisoformat(told["since"]), datetime.fromisoformat(told["until"])
            assert before - timedelta(seconds=5) < since < end <= SystemClock().now()
            assert since <= before + timedelta(seconds=5)
            assert "1 gaps, the last of" in bench.events.progress()
            assert "runnerd_listen_gaps_total 1.0" in metrics.render().decode()

    run_async(scenario())


def test_nobody_is_deaf_to_what_nobody_wants(database: str, short_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without topics a lost connection loses nothing."""

    async def scenario() -> None:
        async with pg_proxy(database, short_dir) as proxy, event_bench(database, proxy.dsn) as bench:
            await until(lambda: bench.events.is_connected)
            proxy.hang_up()
            await until(lambda: "not listening" in caplog.text)
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            assert "nobody listened for" not in caplog.text
            assert "gap" not in bench.events.progress()

    run_async(scenario())


def test_notification_is_filtered_by_its_payload(database: str) -> None:
    """For each trigger by itself; what is not JSON matches no filter, and is no error."""
    buy = Event(topic="flow", where={"side": "buy", "pool.id": 3}, job="settle")

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", [buy], terms())
            await bench.events.declare("beta", topics("flow"), terms())
            await bench.listening("flow")
            payloads = ['{"side": "sell"}', "not JSON", '{"pool": {"id": 3}, "side": "buy"}', "last"]
            bench.notify(*[("flow", payload) for payload in payloads])
            await until(lambda: len(bench.heard("beta")) == 4)
            assert bench.heard("beta") == [("flow", payload) for payload in payloads]
            assert bench.heard() == [("flow", payloads[2])]
            assert {call.job for call in bench.router.calls if call.plugin == "alpha"} == {"settle"}

    run_async(scenario())


def test_database_that_is_not_there_yet_is_waited_for(
    database: str, short_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With growing pauses, and a line that says what is lost meanwhile."""

    async def scenario() -> None:
        async with pg_proxy(database, short_dir) as proxy:
            proxy.refuse()
            async with event_bench(database, proxy.dsn) as bench:
                await bench.events.declare("alpha", topics("flow"), terms())
                await until(lambda: "not listening; notifications sent now are lost" in caplog.text)
                assert not bench.events.is_connected
                proxy.refuse(is_refusing=False)
                await bench.listening("flow")

    run_async(scenario())


def test_refused_submission_is_not_the_end_of_the_producer(database: str) -> None:
    """The next notification is heard as ever."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            bench.router.failure = CommitRefused("no")
            bench.notify(("flow", "1"))
            await until(lambda: bench.router.failure is None)
            bench.notify(("flow", "2"))
            await until(lambda: bool(bench.heard()))
            assert bench.heard() == [("flow", "2")]

    run_async(scenario())


def test_slow_ledger_does_not_lose_what_is_heard_meanwhile(database: str) -> None:
    """It waits in memory, in order."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            bench.router.gate.clear()
            bench.notify(("flow", "0"))
            await until(lambda: bench.events._count == 1)
            bench.notify(*[("flow", str(number)) for number in range(1, 20)])
            await until(lambda: len(bench.events._heard) == 19)
            bench.router.gate.set()
            await until(lambda: len(bench.heard()) == 20)
            assert [payload for _, payload in bench.heard()] == [str(number) for number in range(20)]

    run_async(scenario())


def test_what_comes_while_the_ledger_is_away_waits_in_postgresql_above_a_bound(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood during an outage must not fill our memory; when the ledger is back all of it is heard, in order."""
    monkeypatch.setattr("runnerd.triggers.events.MAX_HEARD", 50)
    monkeypatch.setattr("runnerd.triggers.events.PROBE_EVERY_S", 60.0)  # a probe reads as well
    payload, count = "x" * 7_000, 3_000  # more than what fits into the buffers between the two

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            bench.router.gate.clear()
            bench.notify(("flow", "first"))
            await until(lambda: bench.events._count == 1)
            with psycopg.connect(database) as connection:
                query = "select pg_notify('flow', n || %s) from generate_series(1, %s) n"
                connection.execute(query, (payload, count))
            await until(lambda: not bench.events._is_reading)
            assert 50 <= len(bench.events._heard) < count / 2
            bench.router.gate.set()
            await until(lambda: len(bench.heard()) == count + 1, 30)
            heard = [payload for _, payload in bench.heard()[1:]]
            assert heard == [f"{number}{payload}" for number in range(1, count + 1)]

    run_async(scenario())


def test_defect_while_firing_is_not_the_end_of_listening(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """The connection is made anew, and the log says what it was."""

    async def scenario() -> None:
        async with event_bench(database) as bench:
            await bench.events.declare("alpha", topics("flow"), terms())
            await bench.listening("flow")
            bench.router.failure = RuntimeError("defect")
            bench.notify(("flow", "1"))
            await until(lambda: bench.router.failure is None)
            await until(lambda: "internal error: RuntimeError: defect" in caplog.text)
            await bench.listening("flow")
            bench.notify(("flow", "2"))
            await until(lambda: bool(bench.heard()))
            assert bench.heard() == [("flow", "2")]

    run_async(scenario())


def test_database_in_another_encoding_is_understood(postgres: object, database: str) -> None:
    """Topics and payloads are text to us, whatever the server stores."""
    with psycopg.connect(database, autocommit=True) as connection:
        name = "latin"
        create = sql.SQL("create database {} template template0 encoding 'LATIN1' locale 'C'")
        connection.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(name)))
        connection.execute(create.format(sql.Identifier(name)))
    latin = psycopg.conninfo.make_conninfo(database, dbname=name)

    async def scenario() -> None:
        async with event_bench(latin) as bench:
            await bench.events.declare("alpha", topics("fl\u00fcsse"), terms())
            await bench.listening("fl\u00fcsse")
            bench.notify(("fl\u00fcsse", "\u00e9"))
            await until(lambda: bool(bench.heard()))
            assert bench.heard() == [("fl\u00fcsse", "\u00e9")]

    run_async(scenario())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def test_what_no_trigger_takes_of_the_fallbacks_topics_is_for_nobody(database: str) -> None:
    """They are listened to without a plugin, too; what a trigger takes is its alone."""

    async def scenario() -> None:
        async with event_bench(database, also=["lost", "flow"]) as bench:
            await bench.listening("lost", "flow")
            trigger = Event(topic="flow", where={"side": "buy"})
            await bench.events.declare("alpha", [trigger, *topics("other")], terms())
            await bench.listening("lost", "flow", "other")
            bench.notify(("lost", "1"), ("flow", '{"side": "buy"}'), ("flow", '{"side": "sell"}'), ("other", "2"))
            await until(lambda: len(bench.router.calls) == 4)
            assert bench.heard("") == [("lost", "1"), ("flow", '{"side": "sell"}')]
            assert bench.heard("alpha") == [("flow", '{"side": "buy"}'), ("other", "2")]
            assert len({call.event for call in bench.router.calls}) == 4
            bench.events.forget("alpha")
            await bench.listening("lost", "flow")

    run_async(scenario())

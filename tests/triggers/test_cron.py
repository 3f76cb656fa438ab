"""The cron producer: on virtual time what fires when, on a real ledger what cannot be lost or doubled."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from protocol.triggers import MAX_MADE_UP, Cron, Misfire
from runnerd.clock import SystemClock
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.services.metrics import Metrics
from runnerd.store import cursors
from runnerd.store.errors import StoreUnavailable
from runnerd.store.ledger import Rows
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.supervisor.machine import Phase
from runnerd.triggers.alarm import TimerAlarm
from runnerd.triggers.cron import CronProducer
from runnerd.triggers.due import MAX_GROUP
from runnerd.triggers.misfire import MAX_COUNTED
from runnerd.triggers.schedule import key_of, phase_of
from tests.support.aio import run_async
from tests.support.caller_parts import FakeLedger
from tests.support.calls import terms
from tests.support.fake_router import FakeRouter
from tests.support.until import until
from tests.support.virtual_time import EPOCH, VirtualAlarm, VirtualClock, VirtualTimeLoop

SECONDLY = Cron(every_seconds=1)
TEN = Cron(every_seconds=10)


def ten(misfire: Misfire, **keys: object) -> Cron:
    return Cron(every_seconds=10, misfire=misfire, **keys)  # type: ignore[arg-type]  # by name


class CursorLedger(FakeLedger):
    """Keeps the cursors that a router committed; or `cursor`, if it is set, for every trigger."""

    def __init__(self, router: FakeRouter) -> None:
        super().__init__()
        self.cursor: datetime | None = None
        self._router = router
        self._read = 0
        self._cursors: dict[tuple[str, str], datetime] = {}
        self.queries = 0
        self.failure: StoreUnavailable | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, statement: Statement) -> Rows:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.queries += 1
        plugins = cast("list[str]", statement.parameters["plugins"])
        if self.cursor is not None:
            found = {(plugin, key_of(trigger)): self.cursor for plugin in plugins for trigger in (TEN, SECONDLY)}
        else:
            self._look()
            found = {key: due_at for key, due_at in self._cursors.items() if key[0] in plugins}
        return [{"plugin": plugin, "trigger_key": key, "due_at": due_at} for (plugin, key), due_at in found.items()]

    async def commit(self, *statements: Statement, is_idempotent: bool = True) -> list[Rows]:
        rows = await super().commit(*statements, is_idempotent=is_idempotent)
        self._look()
        for statement in statements:
            plugin, kept = statement.parameters["plugin"], cast("list[str]", statement.parameters["kept"])
            for key in [key for key in self._cursors if key[0] == plugin and key[1] not in kept]:
                del self._cursors[key]
        return rows

    def _look(self) -> None:
        """At what the router has committed meanwhile."""
        for _, moved in self._router.commits[self._read :]:
            for cursor in moved:
                key = str(cursor.parameters["plugin"]), str(cursor.parameters["key"])
                self._cursors[key] = cast("datetime", cursor.parameters["due_at"])
        self._read = len(self._router.commits)


class CronBench:
    """A producer on virtual time, with its clock and what it submitted. The clock starts at noon, a whole second."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.router = FakeRouter()
        self.ledger = CursorLedger(self.router)
        self.metrics = Metrics(phase.value for phase in Phase)
        self.cron = CronProducer(self.router, self.ledger, self.metrics, self.clock, VirtualAlarm(self.clock))
        self._running = asyncio.get_running_loop().create_task(self.cron.run())

    async def restart(self) -> None:
        """The next process, with the same ledger."""
        await self.close()
        self.cron = CronProducer(self.router, self.ledger, self.metrics, self.clock, VirtualAlarm(self.clock))
        self._running = asyncio.get_running_loop().create_task(self.cron.run())

    def fired(self, plugin: str = "alpha") -> list[float]:
        """Seconds since noon at which its slots were due."""
        return [(call.due_at - EPOCH).total_seconds() for call in self.router.calls if call.plugin == plugin]

    def fired_at(self, plugin: str = "alpha") -> list[float]:
        """Seconds since noon at which they were fired."""
        return [(call.fired_at - EPOCH).total_seconds() for call in self.router.calls if call.plugin == plugin]

    def missed(self, registry: CollectorRegistry | None = None) -> float:
        registry = registry or self.metrics.registry
        return registry.get_sample_value("runnerd_cron_slots_missed_total", {"plugin": "alpha"}) or 0.0

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


def run(scenario: Callable[[CronBench], Coroutine[Any, Any, None]]) -> None:
    """On virtual time."""

    async def whole() -> None:
        bench = CronBench()
        try:
            await scenario(bench)
        finally:
            await bench.close()

    run_async(whole(), loop_factory=VirtualTimeLoop, deadline_s=10**8)


def test_every_slot_fires_once_with_its_cursor_in_the_same_commit() -> None:
    """Named by trigger and slot, so that a second one of the same name is impossible."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [TEN], terms())
        await asyncio.sleep(35)
        assert bench.fired() == [10, 20, 30]
        new_calls, cursors = bench.router.commits[0]
        (call,) = new_calls
        assert call.identity == "every 10 s @ 2026-01-01T12:00:10+00:00"
        assert (call.principal, call.trigger.value) == ("schedule", "cron")
        assert call.fired_at - call.due_at < timedelta(milliseconds=1)
        assert call.deadline_at == call.fired_at + timedelta(seconds=60)
        assert [dict(cursor.parameters) for cursor in cursors] == [
            {"plugin": "alpha", "key": "every 10 s", "due_at": call.due_at}
        ]

    run(scenario)


def test_many_plugins_share_one_alarm_and_few_commits_per_moment() -> None:
    """A thousand plugins at once are a few submissions, and their cursors were one query."""

    async def scenario(bench: CronBench) -> None:
        await asyncio.gather(*(bench.cron.declare(f"p{number}", [SECONDLY], terms()) for number in range(1_000)))
        assert bench.ledger.queries == 1
        await asyncio.sleep(3.5)
        groups = [MAX_GROUP] * (1_000 // MAX_GROUP) + [1_000 % MAX_GROUP]
        assert [len(new_calls) for new_calls, _ in bench.router.commits] == groups * 3


def test_spread_moves_each_plugin_by_a_part_of_its_own_and_always_by_the_same() -> None:
    """A thousand plugins at 1 Hz are called all through the second; without it all of them at once."""

    async def scenario(bench: CronBench) -> None:
        names = [f"p{number}" for number in range(1_000)]
        await asyncio.gather(*(bench.cron.declare(name, [SECONDLY], terms(spread_s=1)) for name in names))
        await asyncio.sleep(3)
        moments: dict[str, list[float]] = {name: bench.fired_at(name) for name in names}
        for name, (first, *others) in moments.items():
            assert [round(moment - first, 2) for moment in others][:2] == [1, 2], name
            assert bench.fired(name)[:3] in ([0, 1, 2], [1, 2, 3]), "its slots are those of all others"
        tenths = Counter(int(moment[0] % 1 * 10) for moment in moments.values())
        assert sorted(tenths) == list(range(10)), "every tenth of the second has some"
        assert max(tenths.values()) < 150
        again = CronBench()
        await asyncio.gather(*(again.cron.declare(name, [SECONDLY], terms(spread_s=1)) for name in names))
        assert all(again.cron.next_due(name) == bench.cron.next_due(name) for name in names), (
            "a restart of runnerd changes nothing"
        )
        await again.close()

    run(scenario)


HOURLY = Cron(every_seconds=3_600)


@pytest.mark.parametrize("misfire", ["skip", "once", "all"])
@pytest.mark.parametrize("keys", [{}, {"jitter_s": 900}], ids=["spread", "spread and jitter"])
@pytest.mark.parametrize("after_s", [1.0, 1_800.0, 3_599.0])
def test_changes_of_the_spread_fire_each_slot_once(misfire: Misfire, keys: dict[str, Any], after_s: float) -> None:
    """Reloads at any time of an hour: none comes twice, and none is left out because its moment has passed by them."""
    trigger = Cron(every_seconds=3_600, misfire=misfire, **keys)

    async def scenario(bench: CronBench) -> None:
        spreads = (0, 3_500, 0, 600, 1_800, 86_400, 600, 0, 7_200, 0)
        await bench.cron.declare("alpha", [trigger], terms())
        await asyncio.sleep(after_s)
        for spread_s in spreads:
            await bench.cron.declare("alpha", [trigger], terms(spread_s=spread_s))
            await asyncio.sleep(3_600)
        await asyncio.sleep(86_400)
        fired = bench.fired()
        assert fired == [3_600 * n for n in range(1, len(fired) + 1)]
        assert len(fired) >= 24 + len(spreads) - 1  # the last may be to come
        assert bench.missed() == 0

    run(scenario)


def test_spread_moves_the_moment_and_not_the_slot() -> None:
    """Name, due time and cursor are the slot's. When it is fired is what `status` shows, also after a restart."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [HOURLY], terms(spread_s=3_000))
        moment = bench.cron.next_due("alpha")
        assert moment is not None
        phase = phase_of("alpha", "every 3600 s", 3_000)
        assert moment == EPOCH + phase, "the slot of noon: it was to be fired after it was declared"
        await bench.restart()
        await bench.cron.declare("alpha", [HOURLY], terms(spread_s=3_000))
        assert bench.cron.next_due("alpha") == moment
        await asyncio.sleep(2 * 3_600)
        assert bench.fired() == [0, 3_600]
        late = [(call.fired_at - call.due_at).total_seconds() for call in bench.router.calls]
        assert late == pytest.approx([phase.total_seconds()] * 2, abs=0.01)
        assert bench.router.calls[0].identity == f"every 3600 s @ {EPOCH.isoformat()}"

    run(scenario)


def test_restart_with_another_spread_neither_loses_nor_doubles_a_slot() -> None:
    """The cursor is a slot, whenever that was fired."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [HOURLY], terms())
        await asyncio.sleep(3_601)
        await bench.restart()
        await bench.cron.declare("alpha", [HOURLY], terms(spread_s=3_000))
        await asyncio.sleep(3_590)
        assert bench.fired() == [3_600]
        await asyncio.sleep(3_000)
        assert bench.fired() == [3_600, 7_200]

    run(scenario)


# --- what nobody wants any more --------------------------------------------------------------------------------------


def takes_away(how: str) -> Callable[[CronBench, Cron], Coroutine[Any, Any, None]]:
    """Three hours without the trigger, in one way."""
    other = Cron(every_seconds=1_800)

    async def changed(bench: CronBench, trigger: Cron) -> None:
        await bench.cron.declare("alpha", [other], terms())
        await asyncio.sleep(3 * 3_600)

    async def changed_to_none(bench: CronBench, trigger: Cron) -> None:
        await bench.cron.declare("alpha", [], terms())
        await asyncio.sleep(3 * 3_600)

    async def retired(bench: CronBench, trigger: Cron) -> None:
        bench.cron.retire("alpha")
        await asyncio.sleep(3 * 3_600)

    async def changed_over_a_restart(bench: CronBench, trigger: Cron) -> None:
        await bench.restart()
        await bench.cron.declare("alpha", [other], terms())
        await asyncio.sleep(3 * 3_600)

    async def changed_after_a_quarantine(bench: CronBench, trigger: Cron) -> None:
        bench.cron.forget("alpha")
        await asyncio.sleep(3_600)
        await bench.cron.declare("alpha", [other], terms())
        await asyncio.sleep(2 * 3_600)

    ways = (changed, changed_to_none, retired, changed_over_a_restart, changed_after_a_quarantine)
    return next(way for way in ways if way.__name__ == how)


@pytest.mark.parametrize("misfire", ["skip", "once", "all"])
@pytest.mark.parametrize(
    "how", ["changed", "changed_to_none", "retired", "changed_over_a_restart", "changed_after_a_quarantine"]
)
@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "restarted"])
def test_time_in_which_a_trigger_was_not_wanted_is_no_gap(how: str, misfire: Misfire, *, is_restarted: bool) -> None:
    """The operator takes it away for hours, and gives it back: it begins as if it were new."""
    trigger = ten(misfire)

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [trigger], terms())
        await asyncio.sleep(25)
        await takes_away(how)(bench, trigger)
        if is_restarted:
            await bench.restart()
        before = len(bench.router.calls)
        await bench.cron.declare("alpha", [trigger], terms())
        await asyncio.sleep(10)
        assert len(bench.router.calls) == before + 1
        assert bench.missed() == 0

    run(scenario)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["quarantine", "downtime"])
def test_time_in_which_a_trigger_could_not_be_fired_is_a_gap(*, is_restarted: bool) -> None:
    """Though it is forgotten meanwhile, and declared with others."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [ten("all"), HOURLY], terms())
        await asyncio.sleep(15)
        bench.cron.forget("alpha")
        if is_restarted:
            await bench.restart()
        await asyncio.sleep(40)
        await bench.cron.declare("alpha", [ten("all"), SECONDLY], terms())
        await asyncio.sleep(0.1)
        assert bench.fired() == [10, 20, 30, 40, 50]

    run(scenario)


def test_trigger_that_is_taken_away_while_it_is_fired_leaves_no_cursor() -> None:
    """Slots that were taken from the heap and not yet submitted are not fired any more."""

    async def scenario(bench: CronBench) -> None:
        names = [f"p{number}" for number in range(MAX_GROUP + 1)]
        for name in names:
            await bench.cron.declare(name, [ten("all")], terms())
        bench.router.gate.clear()
        await asyncio.sleep(10.5)
        for name in names:
            bench.cron.retire(name)
        bench.router.gate.set()
        await asyncio.sleep(1)
        assert len(bench.router.calls) == MAX_GROUP, "the first group was being stored"

    run(scenario)


def test_what_is_forgotten_does_not_stay_in_the_heap() -> None:
    """Plugins that come and go leave nothing behind."""

    async def scenario(bench: CronBench) -> None:
        for number in range(1_000):
            await bench.cron.declare(f"p{number}", [SECONDLY, TEN], terms())
            if number >= 10:
                bench.cron.forget(f"p{number - 10}")
        assert len(bench.cron._heap) <= 3 * 20
        await asyncio.sleep(1.5)
        assert {call.plugin for call in bench.router.calls} == {f"p{number}" for number in range(990, 1_000)}

    run(scenario)


def test_declaring_the_same_again_changes_nothing() -> None:
    """A worker that restarts says the same as before: no slot is fired twice, none is left out."""

    async def scenario(bench: CronBench) -> None:
        for _ in range(7):
            await bench.cron.declare("alpha", [SECONDLY, TEN], terms())
            await asyncio.sleep(0.7)
        await asyncio.sleep(6.5)
        assert bench.fired() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11]

    run(scenario)


def test_other_triggers_replace_the_former_ones() -> None:
    """And forgetting removes them; another plugin's stay."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [SECONDLY], terms())
        await bench.cron.declare("beta", [TEN], terms())
        await asyncio.sleep(2.5)
        await bench.cron.declare("alpha", [TEN], terms())
        assert bench.cron.next_due("alpha") == EPOCH + timedelta(seconds=10)
        await asyncio.sleep(20)
        assert bench.fired() == [1, 2, 10, 20]
        bench.cron.forget("alpha")
        assert bench.cron.next_due("alpha") is None
        await asyncio.sleep(20)
        assert bench.fired() == [1, 2, 10, 20]
        assert bench.fired("beta") == [10, 20, 30, 40]

    run(scenario)


def test_plugin_forgotten_while_the_ledger_is_asked_is_not_fired() -> None:
    """Removed by a reload just after its worker was ready: it must not be called for ever."""

    async def scenario(bench: CronBench) -> None:
        bench.ledger.gate.clear()
        declaring = asyncio.get_running_loop().create_task(bench.cron.declare("alpha", [SECONDLY], terms()))
        await asyncio.sleep(0.1)
        bench.cron.forget("alpha")
        bench.ledger.gate.set()
        await declaring
        await asyncio.sleep(5)
        assert bench.fired() == []

    run(scenario)


def test_ledger_that_cannot_be_read_does_not_keep_a_plugin_from_firing() -> None:
    """Only the count of missed slots is unknown then."""

    async def scenario(bench: CronBench) -> None:
        bench.ledger.failure = StoreUnavailable("away")
        await bench.cron.declare("alpha", [SECONDLY], terms())
        await asyncio.sleep(2.5)
        assert bench.fired() == [1, 2]

    run(scenario)


def test_slow_ledger_delays_the_first_slot_and_does_not_skip_it() -> None:
    """It was due after the plugin was declared."""

    async def scenario(bench: CronBench) -> None:
        bench.ledger.gate.clear()
        declaring = asyncio.get_running_loop().create_task(bench.cron.declare("alpha", [TEN], terms()))
        await asyncio.sleep(12)
        bench.ledger.gate.set()
        await declaring
        await asyncio.sleep(0.1)
        assert bench.fired() == [10]

    run(scenario)


def test_slots_that_passed_while_nobody_could_fire_are_counted_and_not_replayed() -> None:
    """The ledger was away for a while: one late call, then the present."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [SECONDLY], terms())
        await asyncio.sleep(1.5)
        bench.router.gate.clear()
        await asyncio.sleep(10)
        bench.router.gate.set()
        await asyncio.sleep(2)
        assert bench.fired() == [1, 2, 3, 12, 13]
        assert bench.missed() == 8

    run(scenario)


def test_gap_of_a_downtime_is_counted_from_the_cursor() -> None:
    """Slots between the last one that became a call and now; at most a bounded number is counted."""

    async def scenario(bench: CronBench) -> None:
        bench.ledger.cursor = EPOCH - timedelta(seconds=50)
        await bench.cron.declare("alpha", [TEN], terms())
        assert bench.missed() == 5
        bench.ledger.cursor = EPOCH - timedelta(days=3_650)
        await bench.cron.declare("alpha", [SECONDLY], terms())
        assert bench.missed() == 5 + MAX_COUNTED

    run(scenario)


def test_clock_set_forward_fires_once_and_counts_the_rest() -> None:
    """An hour is skipped: no backlog is built up, and it goes on from the new time."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [TEN], terms())
        await asyncio.sleep(15)
        bench.clock.shift(3_605)
        await asyncio.sleep(11)
        assert bench.fired() == [10, 20, 3_630]
        assert bench.missed() == 360

    run(scenario)


def test_clock_set_forward_is_noticed_while_it_sleeps() -> None:
    """A nightly job must not wait for the night that was."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [Cron(expression="0 0 * * *")], terms())
        await asyncio.sleep(1)
        bench.clock.shift(13 * 3_600)
        await asyncio.sleep(0.1)
        assert bench.fired() == [12 * 3_600]

    run(scenario)


def test_clock_set_back_a_little_fires_no_slot_twice() -> None:
    """It waits until the wall clock is where it was."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [TEN], terms())
        await asyncio.sleep(35)
        bench.clock.shift(-30)
        await asyncio.sleep(60)
        assert bench.fired() == [10, 20, 30, 40, 50, 60]

    run(scenario)


def test_clock_set_back_a_lot_does_not_silence_anybody() -> None:
    """A clock that was a day ahead and is put right: plugins are called at once, not after a day without a tick."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [TEN], terms())
        bench.clock.shift(86_400)
        await asyncio.sleep(21)
        bench.clock.shift(-86_400)
        await asyncio.sleep(30)
        assert bench.fired() == [10, 86_410, 86_420, 30, 40, 50]

    run(scenario)


def test_refused_submission_is_not_the_end_of_the_producer() -> None:
    """All plugins of this daemon hang on it."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [SECONDLY], terms())
        bench.router.failure = StoreUnavailable("closed")
        await asyncio.sleep(3.5)
        assert bench.fired() == [2, 3]

    run(scenario)


# --- on a real ledger ------------------------------------------------------------------------------------------------


def real_producer(store: Store) -> CronProducer:
    """With the real router; nobody takes the calls, so they end at once as failed, which does not matter here."""
    clock = SystemClock()
    metrics = Metrics(phase.value for phase in Phase)
    router = Router(store, Results(store, clock), metrics, clock)
    return CronProducer(router, store, metrics, clock, TimerAlarm())


def test_two_producers_on_one_ledger_fire_each_slot_once(ledger_dsn: str) -> None:
    """As after a restart whose clock went back: the identity makes the second one impossible."""

    async def scenario() -> None:
        store = Store(ledger_dsn)
        await store.open()
        producers = [real_producer(store) for _ in range(2)]
        running = [asyncio.get_running_loop().create_task(producer.run()) for producer in producers]
        for producer in producers:
            await producer.declare("alpha", [Cron(every_seconds=0.05)], terms())
        rows: Rows = []

        async def look() -> int:
            rows[:] = await store.fetch(Statement("select due_at, identity from job_calls order by due_at"))
            return len(rows)

        count = 0
        while count < 10:
            count = await look()
            await asyncio.sleep(0.02)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await look()
        dues = [row["due_at"] for row in rows]
        assert len(set(dues)) == len(dues)
        cursor = await store.fetch(cursors.of_plugins(["alpha"]))
        assert cursor[0]["due_at"] == dues[-1].astimezone(UTC), "cursor and call stand together"
        await store.close()

    run_async(scenario())


def test_fires_close_to_its_time(ledger_dsn: str) -> None:
    """On the machine's clock: late by the ledger's commit at most, never early."""

    async def scenario() -> None:
        store = Store(ledger_dsn)
        await store.open()
        producer = real_producer(store)
        running = asyncio.get_running_loop().create_task(producer.run())
        await producer.declare("alpha", [Cron(every_seconds=0.1)], terms())
        start = datetime.now(UTC)
        await until(lambda: datetime.now(UTC) > start + timedelta(seconds=0.55))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        rows = await store.fetch(Statement("select fired_at - due_at as late from job_calls"))
        assert len(rows) >= 3
        assert all(row["late"] >= timedelta(0) for row in rows)
        await store.close()

    run_async(scenario())


def test_defect_in_one_turn_is_not_the_end_of_the_schedule() -> None:
    """It is logged, and the next slot fires."""

    async def scenario(bench: CronBench) -> None:
        bench.router.failure = RuntimeError("defect")
        await bench.cron.declare("alpha", [TEN], terms())
        await asyncio.sleep(25)
        assert bench.fired() == [20]

    run(scenario)


def test_same_triggers_with_another_call_deadline_keep_their_slots_and_take_the_deadline() -> None:
    """As after a reload, where the new worker declares what the old one did."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [TEN], terms())
        await asyncio.sleep(5)
        await bench.cron.declare("alpha", [TEN], terms(call_deadline_s=7))
        await asyncio.sleep(10)
        (call,) = bench.router.calls
        assert call.deadline_at == call.fired_at + timedelta(seconds=7)

    run(scenario)


def test_slots_of_a_quarantined_plugin_are_counted_and_leave_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """Each would be a durable row that ends at once. The log says how many, when the plugin is called again."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [TEN], terms())
        await bench.cron.declare("beta", [TEN], terms())
        bench.router.quarantined = {"alpha"}
        await asyncio.sleep(35)
        assert (bench.fired("alpha"), bench.fired("beta"), bench.missed()) == ([], [10, 20, 30], 3)
        assert "passed while nothing could fire them" not in caplog.text
        bench.router.quarantined = set()
        await asyncio.sleep(20)
        assert (bench.fired("alpha"), bench.missed()) == ([40, 50], 3)
        assert caplog.text.count("3 slots of every 10 s passed while nothing could fire them") == 1

    run(scenario)


# --- what is made up for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "misfire, fired, missed",
    [("skip", [10], 5), ("once", [0, 10], 4), ("all", [-40, -30, -20, -10, 0, 10], 0)],
)
def test_slots_of_a_downtime(misfire: Misfire, fired: list[float], missed: int) -> None:
    """Counted; or the last one, or all, are fired at once: late, but under the names that they would have had."""

    async def scenario(bench: CronBench) -> None:
        bench.ledger.cursor = EPOCH - timedelta(seconds=50)
        await bench.cron.declare("alpha", [ten(misfire)], terms())
        await asyncio.sleep(1)
        assert bench.fired() == fired[:-1], "at once"
        await asyncio.sleep(10)
        assert (bench.fired(), bench.missed()) == (fired, missed)
        for call in bench.router.calls:
            assert call.identity == f"every 10 s @ {call.due_at.isoformat()}"
            assert call.deadline_at - call.fired_at == timedelta(seconds=60)

    run(scenario)


def test_what_is_made_up_for_is_one_commit_with_its_cursor_and_is_owed() -> None:
    """A crash between two of them would leave a cursor that is past what was not fired."""

    async def scenario(bench: CronBench) -> None:
        bench.ledger.cursor = EPOCH - timedelta(hours=1)
        await bench.cron.declare("alpha", [ten("all")], terms())
        await asyncio.sleep(11)
        (made_up, cursors), (present, _) = bench.router.commits
        assert len(made_up) == MAX_MADE_UP
        assert [cursor.parameters["due_at"] for cursor in cursors] == [made_up[-1].due_at] == [EPOCH]
        assert all(call.is_owed for call in made_up)
        assert not any(call.is_owed for call in present)
        assert bench.missed() == 360 - MAX_MADE_UP

    run(scenario)


def test_slots_that_passed_while_the_ledger_was_away_are_made_up_for() -> None:
    """Or the last of them."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [Cron(every_seconds=1, misfire="all")], terms())
        await bench.cron.declare("beta", [Cron(every_seconds=1, misfire="once")], terms())
        await asyncio.sleep(1.5)
        bench.router.gate.clear()
        await asyncio.sleep(10)
        bench.router.gate.set()
        await asyncio.sleep(1)
        assert bench.fired("alpha") == list(range(1, 13))
        assert bench.fired("beta") == [1, 2, 11, 12]
        assert bench.missed() == 0

    run(scenario)


@pytest.mark.parametrize("misfire, fired", [("once", [20, 60, 70]), ("all", [20, 30, 40, 50, 60, 70])])
def test_slots_of_a_quarantine_are_made_up_for_when_the_plugin_is_ready_again(
    misfire: Misfire, fired: list[float]
) -> None:
    """At once, not at its next slot, which may be tomorrow's."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [ten(misfire)], terms())
        await asyncio.sleep(15)
        bench.router.commits.clear()
        await asyncio.sleep(10)
        bench.router.quarantined = {"alpha"}
        await asyncio.sleep(40)
        assert bench.fired() == [20]
        bench.router.quarantined = set()
        await bench.cron.declare("alpha", [ten(misfire)], terms())
        await asyncio.sleep(0.1)
        assert bench.fired() == fired[:-1]
        await asyncio.sleep(10)
        assert (bench.fired(), bench.missed()) == (fired, 3 if misfire == "once" else 0)

    run(scenario)


def test_first_slot_of_a_trigger_may_pass_in_a_downtime_too() -> None:
    """When it is declared its cursor is set, so that there is something to count from."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [ten("all")], terms())
        ((new_calls, cursors),) = bench.router.commits
        assert new_calls == []
        assert [dict(cursor.parameters) for cursor in cursors] == [
            {"plugin": "alpha", "key": "every 10 s", "due_at": EPOCH}
        ]

    run(scenario)


def test_slots_that_could_not_be_stored_are_made_up_for_at_the_next() -> None:
    """Whatever the reason was."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [ten("all")], terms())
        for failure in (StoreUnavailable("closed"), RuntimeError("defect")):
            bench.router.failure = failure
            await asyncio.sleep(10.5)
        await asyncio.sleep(10)
        assert bench.fired() == [10, 20, 30]

    run(scenario)


def test_cursor_that_cannot_be_read_is_asked_for_again() -> None:
    """Who makes up for what passed must know what has."""

    async def scenario(bench: CronBench) -> None:
        bench.ledger.failure = StoreUnavailable("away")
        bench.ledger.cursor = EPOCH - timedelta(seconds=20)
        declaring = asyncio.get_running_loop().create_task(bench.cron.declare("alpha", [ten("all")], terms()))
        await asyncio.sleep(5)
        assert bench.fired() == []
        bench.ledger.failure = None
        await asyncio.sleep(2)
        assert bench.fired() == [-10, 0]
        await declaring
        bench.ledger.failure = StoreUnavailable("away")
        declaring = asyncio.get_running_loop().create_task(bench.cron.declare("beta", [ten("all")], terms()))
        await asyncio.sleep(5)
        bench.cron.forget("beta")
        await declaring

    run(scenario)


def test_cursor_from_the_future_silences_nobody() -> None:
    """The clock was ahead when it was written."""

    async def scenario(bench: CronBench) -> None:
        bench.ledger.cursor = EPOCH + timedelta(days=1)
        await bench.cron.declare("alpha", [ten("all")], terms())
        await asyncio.sleep(25)
        assert bench.fired() == [10, 20]

    run(scenario)


def test_clock_set_back_a_lot_forgets_what_was_to_be_made_up_for_in_the_future() -> None:
    """Slots of tomorrow are not missed today."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [ten("all")], terms())
        bench.clock.shift(86_400)
        await asyncio.sleep(5)
        bench.router.quarantined = {"alpha"}
        await asyncio.sleep(21)
        bench.clock.shift(-86_400)
        bench.router.quarantined = set()
        await asyncio.sleep(30)
        assert [due for due in bench.fired() if due < 1_000] == [30, 40, 50]

    run(scenario)


# --- jitter ----------------------------------------------------------------------------------------------------------


def test_jitter_moves_the_moment_and_not_the_slot() -> None:
    """Name, due time and cursor are the slot's; when it is fired a restart finds again."""

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [ten("skip", jitter_s=8)], terms())
        first = bench.cron.next_due("alpha")
        assert first is not None
        assert EPOCH < first - timedelta(seconds=10) < EPOCH + timedelta(seconds=8)
        await asyncio.sleep(1_000)
        assert bench.fired()[:99] == [10 * n for n in range(1, 100)]
        late = [(call.fired_at - call.due_at).total_seconds() for call in bench.router.calls]
        assert all(0 <= seconds <= 8.001 for seconds in late)
        assert len({round(seconds, 3) for seconds in late}) > 90
        assert max(late) - min(late) > 6

    run(scenario)


@pytest.mark.parametrize("misfire", ["skip", "all"])
def test_restart_between_a_slot_and_its_moment_neither_loses_nor_doubles_it(misfire: Misfire) -> None:
    """It is still to come, for every policy."""
    trigger = ten(misfire, jitter_s=9)

    async def scenario(bench: CronBench) -> None:
        await bench.cron.declare("alpha", [trigger], terms())
        moment = bench.cron.next_due("alpha")
        assert moment is not None
        await asyncio.sleep(10.01)
        assert moment > bench.clock.now(), "this plugin's name has a slot with some jitter"
        again = CronBench()
        again.ledger.cursor = EPOCH
        await again.cron.declare("alpha", [trigger], terms())
        assert again.cron.next_due("alpha") == moment
        await again.close()

    run(scenario)

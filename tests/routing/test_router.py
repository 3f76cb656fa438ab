"""From a producer to the plugins: what was accepted is offered to all of them, whatever becomes of one."""

import asyncio
from collections.abc import Collection, Coroutine, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any, cast

import pytest

from protocol.limits import PROTOCOL_VERSION
from protocol.messages import Hello, TriggerKind
from protocol.trigger import Overlap
from runnerd.config.routing import AlwaysRoute, FallbackRoute, RouteLimits, RouterConfig
from runnerd.routing.layers import EVERYTHING, Layers, Scope
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.routing.routes import Routes
from runnerd.services.metrics import Metrics
from runnerd.store import calls, cursors
from runnerd.store.calls import JobCall, NewCall
from runnerd.store.errors import StoreUnavailable
from runnerd.store.ledger import Rows
from runnerd.store.statement import Statement
from runnerd.supervisor.machine import Phase
from tests.support.aio import run_async
from tests.support.caller_parts import FakeLedger
from tests.support.virtual_time import EPOCH, VirtualClock, VirtualTimeLoop


class CallLedger(FakeLedger):
    """Gives each call a row with a number; the end of a call is refused."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: Iterator[int] = count(1)
        self.queued: Rows = []

    async def commit(self, *statements: Statement, is_idempotent: bool = True) -> list[Rows]:
        await super().commit(*statements)
        if any("state = 'done'" in statement.sql for statement in statements):
            raise StoreUnavailable("away")
        if any("generate_series" in statement.sql for statement in statements):
            return [[]]  # no ids in advance: each call gets its number here
        return [[{**statement.parameters, "id": next(self._numbers), "attempts": 0}] for statement in statements]

    async def fetch(self, statement: Statement) -> Rows:
        return self.queued


class ListHost:
    """Remembers what it was offered; its queue takes no new call."""

    def __init__(self) -> None:
        self.free = 1_000
        self.declared: Hello | None = None
        self.layers = Layers()
        self.offered: list[int] = []
        self.offered_again: list[int] = []
        self.owed: list[int] = []
        self.open: set[str] = set()

    def refusal(self, call: NewCall, coming: int) -> str | None:
        return "queue is full" if coming >= self.free else None

    def room(self, jobs: Collection[str]) -> int:
        return self.free

    def is_open(self, call: NewCall) -> bool:
        return call.source in self.open

    def offer(self, call: JobCall, *, is_owed: bool = False) -> None:
        self.offered.append(call.id)
        self.open.add(call.source)
        self.owed += [call.id] if is_owed else []

    def offer_again(self, calls: list[JobCall]) -> None:
        self.offered_again += [call.id for call in calls]
        self.open |= {call.source for call in calls}


def new_call(plugin: str, number: int, *, overlap: Overlap = "parallel", source: str = "event flow") -> NewCall:
    return NewCall(
        plugin=plugin, trigger=TriggerKind.EVENT, identity=f"n {number}", principal="pg:flow", due_at=EPOCH,
        fired_at=EPOCH, deadline_at=EPOCH, topic="flow", source=source, overlap=overlap,
    )  # fmt: skip


def hello(jobs: tuple[str, ...]) -> Hello:
    """A worker that says which jobs its class has."""
    return Hello(
        version=PROTOCOL_VERSION, generation=1, plugin="alpha", vault="main", triggers=(), reads=(),
        digest=f"sha256:{'0' * 64}", jobs=jobs,
    )  # fmt: skip


def make_router(config: RouterConfig | None = None) -> tuple[Router, CallLedger, dict[str, ListHost]]:
    clock, ledger = VirtualClock(), CallLedger()
    router = Router(
        cast("Any", ledger), Results(ledger, clock), Metrics(phase.value for phase in Phase), clock, Routes(config)
    )  # fmt: skip
    hosts = {"alpha": ListHost(), "beta": ListHost()}
    router.hosts.update(cast("Any", hosts))
    return router, ledger, hosts


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """On virtual time."""
    run_async(scenario, loop_factory=VirtualTimeLoop)


def test_call_of_a_plugin_that_is_gone_keeps_no_other_from_its_plugin() -> None:
    """Its end cannot be stored; the others stand in the ledger, and nobody would offer them until the next start."""

    async def scenario() -> None:
        router, _, hosts = make_router()
        with pytest.raises(StoreUnavailable):
            await router.submit([new_call("gone", 1), new_call("alpha", 2), new_call("beta", 3)])
        assert (hosts["alpha"].offered, hosts["beta"].offered) == ([2], [3])

    run(scenario())


def test_a_call_that_is_asked_for_twice_at_once_is_made_once() -> None:
    """The second would find the first one's row as its own, and the plugin would be asked twice."""

    async def scenario() -> None:
        router, _, hosts = make_router()
        found = [new_call("alpha", 1), new_call("beta", 1), new_call("alpha", 2), new_call("alpha", 1)]
        accepted = await router.submit(found)
        assert [(call.plugin, call.identity) for call in accepted] == [
            ("alpha", "n 1"),
            ("beta", "n 1"),
            ("alpha", "n 2"),
        ]
        assert (len(hosts["alpha"].offered), len(hosts["beta"].offered)) == (2, 1)

    run(scenario())


def test_what_a_former_run_left_has_its_places_again() -> None:
    """Offered as calls that were accepted, not as new ones that a full queue refuses."""

    async def scenario() -> None:
        router, ledger, hosts = make_router()
        new = [new_call(plugin, number) for number, plugin in enumerate(("alpha", "beta", "alpha"), 1)]
        accepted = [rows[0] for rows in await ledger.commit(*map(calls.insert, new))]
        ledger.queued = accepted
        await router.load()
        assert await router.recover() == 3
        assert {name: (host.offered, host.offered_again) for name, host in hosts.items()} == {
            "alpha": ([], [1, 3]), "beta": ([], [2]),
        }  # fmt: skip

    run(scenario())


def test_what_a_trigger_wants_beyond_the_bounds_costs_no_commit() -> None:
    """Counted and dropped; the others are taken, and an operator who fires is always heard."""

    async def scenario() -> None:
        router, ledger, hosts = make_router()
        hosts["alpha"].free = 2
        accepted = await router.submit([new_call("alpha", number) for number in range(5)] + [new_call("beta", 9)])
        assert [call.plugin for call in accepted] == ["alpha", "alpha", "beta"]
        assert len(ledger.written("job_calls")) == 3
        hosts["alpha"].free = 0
        assert await router.submit([new_call("alpha", 10)]) == []
        assert len(ledger.commits) == 1
        by_hand = replace(new_call("alpha", 11), trigger=TriggerKind.MANUAL)
        assert len(await router.submit([by_hand])) == 1
        text = router._metrics.render().decode()
        assert 'runnerd_calls_refused_total{plugin="alpha",trigger="event"} 4.0' in text

    run(scenario())


def test_what_is_owed_is_taken_whatever_the_bounds() -> None:
    """Its producer's position moves in the same commit: a call that is dropped now would never be asked for again."""

    async def scenario() -> None:
        router, _, hosts = make_router()
        hosts["alpha"].free = 1
        wanted = [replace(new_call("alpha", number), is_owed=number == 3) for number in range(1, 5)]
        assert [call.identity for call in await router.submit(wanted)] == ["n 1", "n 3"]
        assert hosts["alpha"].owed == [2]

    run(scenario())


def skipped(router: Router) -> float | None:
    labels = {"plugin": "alpha", "trigger": "event"}
    return router._metrics.registry.get_sample_value("runnerd_calls_skipped_total", labels)


def test_call_that_is_to_be_skipped_is_not_made_while_an_older_one_of_its_trigger_is_open() -> None:
    """With its plugin, or before it in the same submission; other triggers' are made, and the cursor moves."""

    async def scenario() -> None:
        router, ledger, hosts = make_router()
        wanted = [
            new_call(plugin, number, overlap="skip") for number, plugin in enumerate(("alpha", "alpha", "beta"), 1)
        ]
        wanted.append(new_call("alpha", 4, overlap="skip", source="other"))
        cursor = cursors.move("alpha", "event flow", EPOCH)
        assert [call.identity for call in await router.submit(wanted, cursor)] == ["n 1", "n 3", "n 4"]
        assert await router.submit([new_call("alpha", 5, overlap="skip")], cursor) == []
        assert (skipped(router), len(ledger.written("trigger_cursors"))) == (2, 2)
        hosts["alpha"].open.clear()
        assert len(await router.submit([new_call("alpha", 6, overlap="skip")])) == 1

    run(scenario())


def test_call_that_is_being_stored_is_open() -> None:
    """Two producers, or two notifications, at the same time."""

    async def scenario() -> None:
        router, _, _ = make_router()
        both = await asyncio.gather(*(router.submit([new_call("alpha", n, overlap="skip")]) for n in (1, 2)))
        assert [len(accepted) for accepted in both] == [1, 0]
        assert router._coming.total() == 0

    run(scenario())


def test_call_of_a_former_run_is_open_before_it_is_offered() -> None:
    """Its plugin may be ready, and its trigger fire, before what is left over is taken up."""

    async def scenario() -> None:
        router, ledger, hosts = make_router()
        ledger.queued = [(await ledger.commit(calls.insert(new_call("alpha", 1))))[0][0]]
        await router.load()
        assert await router.submit([new_call("alpha", 2, overlap="skip")]) == []
        assert hosts["alpha"].offered_again == []

    run(scenario())


def test_call_that_must_wait_for_an_older_one_finds_it_with_its_plugin() -> None:
    """What a former run left of this plugin is offered first, and once."""

    async def scenario() -> None:
        router, ledger, hosts = make_router()
        left = [new_call("alpha", 1, overlap="queue"), new_call("beta", 2)]
        ledger.queued = [rows[0] for rows in await ledger.commit(*map(calls.insert, left))]
        await router.load()
        await router.submit([new_call("alpha", 3, overlap="queue")])
        assert (hosts["alpha"].offered_again, hosts["alpha"].offered) == ([1], [3])
        assert await router.recover() == 1
        assert (hosts["alpha"].offered_again, hosts["beta"].offered_again) == ([1], [2])

    run(scenario())


def test_there_is_no_room_before_older_calls_are_back_while_stopping_or_for_a_plugin_that_is_gone() -> None:
    """A producer that can wait does so."""

    async def scenario() -> None:
        router, _, hosts = make_router()
        hosts["alpha"].free = 7
        await router.load()
        assert router.room("alpha") == 0
        await router.recover()
        assert (router.room("alpha"), router.room("gone")) == (7, 0)
        router.is_draining = True
        assert router.room("alpha") == 0

    run(scenario())


# --- routes beside those of triggers ---------------------------------------------------------------------------------

AUDIT = RouterConfig(always=(AlwaysRoute(plugin="beta", job="audit"),))
CATCH = RouterConfig(fallback=FallbackRoute(plugin="beta", job="catch"))


def written(ledger: CallLedger) -> list[tuple[object, ...]]:
    """The calls of each commit, as (plugin, job, identity)."""
    return [(call["plugin"], call["job"], call["identity"]) for call in ledger.written("insert into job_calls")]


def test_copies_are_committed_with_their_originals_and_the_cursor_and_are_not_the_producers() -> None:
    """One transaction or none; what is returned is what was asked for."""

    async def scenario() -> None:
        router, ledger, hosts = make_router(AUDIT)
        cursor = cursors.move("alpha", "event flow", EPOCH)
        accepted = await router.submit([new_call("alpha", 1), new_call("alpha", 2)], cursor)
        assert [(call.plugin, call.identity) for call in accepted] == [("alpha", "n 1"), ("alpha", "n 2")]
        (commit,) = ledger.commits
        assert len(commit) == 5
        assert written(ledger)[2:] == [
            ("beta", "audit", "always audit: alpha: n 1"), ("beta", "audit", "always audit: alpha: n 2"),
        ]  # fmt: skip
        assert (hosts["alpha"].offered, hosts["beta"].offered) == ([1, 2], [3, 4])

    run(scenario())


def test_of_a_call_that_is_not_made_there_is_no_copy_and_a_copy_has_the_bounds_of_its_plugin() -> None:
    """What nobody got, nobody audits; and an auditor that is full keeps nobody from his events."""

    async def scenario() -> None:
        router, ledger, hosts = make_router(AUDIT)
        hosts["alpha"].free = 1
        await router.submit([new_call("alpha", 1), new_call("alpha", 2)])
        assert written(ledger) == [("alpha", "decide", "n 1"), ("beta", "audit", "always audit: alpha: n 1")]
        hosts["alpha"].free, hosts["beta"].free = 1_000, 0
        owed = replace(new_call("alpha", 4), is_owed=True)
        await router.submit([new_call("alpha", 3), owed])
        assert written(ledger)[2:] == [
            ("alpha", "decide", "n 3"), ("alpha", "decide", "n 4"), ("beta", "audit", "always audit: alpha: n 4"),
        ]  # fmt: skip

    run(scenario())


def test_copies_of_one_event_by_two_producers_are_told_apart() -> None:
    """The ledger knows a call that it has stored already by its moment: a second one must not be taken for it."""

    async def scenario() -> None:
        router, ledger, _ = make_router(AUDIT)
        router.hosts["gamma"] = cast("Any", ListHost())
        await asyncio.gather(
            *(router.submit([replace(new_call(plugin, 1), event="block 7")]) for plugin in ("alpha", "gamma"))
        )
        copied = [call for call in ledger.written("insert into job_calls") if call["plugin"] == "beta"]
        assert {call["identity"] for call in copied} == {"always audit: block 7"}
        assert len({call["fired_at"] for call in copied}) == 2

    run(scenario())


def test_what_no_plugin_and_no_job_takes_falls_back() -> None:
    """A plugin that is not configured, a job that its class has not, an event that is addressed to nobody."""

    async def scenario() -> None:
        router, _, hosts = make_router(CATCH)
        hosts["alpha"].declared = hello(jobs=("decide",))
        wanted = [
            new_call("typo", 1),
            replace(new_call("alpha", 2), job="setle"),
            new_call("", 3),
            new_call("alpha", 4),
        ]
        accepted = await router.submit(wanted)
        assert [(call.plugin, call.job, call.identity) for call in accepted] == [
            ("beta", "catch", "fallback typo/decide: n 1"), ("beta", "catch", "fallback alpha/setle: n 2"),
            ("beta", "catch", "fallback nobody: n 3"), ("alpha", "decide", "n 4"),
        ]  # fmt: skip
        assert hosts["beta"].offered == [1, 2, 3]

    run(scenario())


def test_a_worker_that_has_not_said_its_jobs_is_believed_to_have_them() -> None:
    """Its calls wait for it, whatever they are for."""

    async def scenario() -> None:
        router, _, hosts = make_router(CATCH)
        await router.submit([replace(new_call("alpha", 1), job="settle")])
        assert hosts["alpha"].offered == [1]

    run(scenario())


def test_the_deadline_of_a_call_is_that_of_its_layers() -> None:
    """A producer knows its plugin's; a job's may be tighter. Copies and what falls back have that of where they go."""

    async def scenario() -> None:
        config = RouterConfig(always=AUDIT.always, fallback=CATCH.fallback)
        router, ledger, hosts = make_router(config)
        hosts["alpha"].layers = Layers([(Scope("alpha", "settle"), RouteLimits(call_deadline_s=5))])
        hosts["beta"].layers = Layers([(EVERYTHING, RouteLimits(call_deadline_s=90))])
        plain = replace(new_call("alpha", 1), deadline_at=EPOCH + timedelta(seconds=60))
        await router.submit([plain, replace(plain, identity="n 2", job="settle"), new_call("typo", 3)])
        seconds = {
            call["identity"]: round((call["deadline_at"] - call["fired_at"]).total_seconds())  # type: ignore[operator]
            for call in ledger.written("insert into job_calls")
        }
        assert seconds == {
            "n 1": 60, "n 2": 5, "fallback typo/decide: n 3": 90, "always audit: alpha: n 1": 90,
            "always audit: alpha: n 2": 90, "always audit: beta: fallback typo/decide: n 3": 90,
        }  # fmt: skip

    run(scenario())

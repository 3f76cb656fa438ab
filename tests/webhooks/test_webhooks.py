"""The supervisor's side of webhooks on a real ledger: one call for one identity, and outcomes without a gap."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from protocol.triggers import Trigger, Webhook
from runnerd.config.plugins import PluginConfig
from runnerd.config.routing import FallbackRoute, RouterConfig
from runnerd.http.words import (
    Answer,
    Bearer,
    CallView,
    Events,
    GetCall,
    GetEvents,
    GetPage,
    MakeCall,
    Page,
    Refusal,
    Why,
)
from runnerd.routing.layers import Layers
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.routing.routes import Routes
from runnerd.services.metrics import Metrics
from runnerd.store import outcomes
from runnerd.store.calls import JobCall, JobOutcome, NewCall
from runnerd.store.store import Store
from runnerd.supervisor.machine import Phase
from runnerd.triggers.webhook import WebhookProducer
from runnerd.webhooks.keys import ApiKey, KeyKind, KeyRing, digest_of, make_secret
from runnerd.webhooks.webhooks import Webhooks
from tests.support.aio import run_async
from tests.support.calls import terms
from tests.support.plugins_bench import plugin_config
from tests.support.until import until
from tests.support.virtual_time import EPOCH


@dataclass
class StoppedClock:
    """The same moment for all: the hardest case for what tells calls apart."""

    at: datetime = EPOCH

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


@dataclass
class State:
    """Of a plugin."""

    phase: Phase = Phase.READY


@dataclass
class Host:
    """A plugin that remembers what it was offered."""

    offered: list[JobCall] = field(default_factory=list)
    refused: str | None = None
    declared: object = None
    layers: Layers = field(default_factory=Layers)

    config: PluginConfig = field(default_factory=lambda: plugin_config(triggers=()))
    state: State = field(default_factory=State)

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        return self.config.triggers or ()

    def refusal(self, call: NewCall, coming: int = 0) -> str | None:
        return self.refused

    def offer(self, call: JobCall, *, is_owed: bool = False) -> None:
        self.offered.append(call)


class Bench:
    """Webhooks with one plugin and one key for it."""

    def __init__(self, store: Store) -> None:
        self.clock = StoppedClock()
        self.results = Results(store, self.clock)
        self.router = Router(store, self.results, Metrics(phase.value for phase in Phase), self.clock)
        self.host = Host()
        self.router.hosts["alpha"] = cast("Any", self.host)
        self.secret = make_secret("shop")
        self.ring = KeyRing()
        self.ring.add(
            ApiKey(
                name="shop", kind=KeyKind.BEARER, digest=digest_of(self.secret), plugins=("alpha",), created_at=EPOCH,
                created_by="uid:0",
            )
        )  # fmt: skip
        self.producer = WebhookProducer()
        self.webhooks = Webhooks(
            self.ring, self.producer, self.router, self.results, store, self._page, 10_000.0, self.clock
        )

    def _page(self, word: str) -> Page:
        return Page(status=200, content_type="text/plain", body=word)

    async def make(self, key: str = "", payload: str = "{}", **changes: Any) -> Answer:
        """A call."""
        question = MakeCall(
            credential=Bearer(token=self.secret), plugin="alpha", payload=payload, idempotency_key=key, **changes
        )
        return await self.webhooks.answer(question)

    async def made(self, key: str = "") -> JobCall:
        """A call that was taken, as the plugin has it."""
        answer = await self.make(key)
        assert isinstance(answer, CallView), answer
        return next(call for call in self.host.offered if call.id == answer.id)

    async def listen(self, after: int | None, wait_s: float = 0.0) -> Events:
        """A look at the outcomes."""
        question = GetEvents(credential=Bearer(token=self.secret), after=after, wait_s=wait_s)
        answer = await self.webhooks.answer(question)
        assert isinstance(answer, Events), answer
        return answer


@asynccontextmanager
async def bench(dsn: str) -> AsyncIterator[Bench]:
    """On a ledger of its own; the plugin has declared a webhook trigger."""
    store = Store(dsn)
    await store.open()
    try:
        made = Bench(store)
        await made.producer.declare("alpha", [Webhook()], terms())
        yield made
        await made.webhooks.close()
    finally:
        await store.close()


def test_requests_of_one_key_at_the_very_same_moment_are_one_call_and_decided_once(ledger_dsn: str) -> None:
    """What tells our own row after a lost connection is its moment: so no two may be stored at once."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            answers = await asyncio.gather(*(house.make("same") for _ in range(50)))
            assert len({answer.id for answer in answers if isinstance(answer, CallView)}) == 1
            assert Counter(answer.is_new for answer in answers if isinstance(answer, CallView)) == {True: 1, False: 49}
            assert len(house.host.offered) == 1

    run_async(scenario())


def test_what_the_plugin_has_no_room_for_is_not_made_and_says_so(ledger_dsn: str) -> None:
    """And the same key makes it when there is room; a stopping daemon and a quarantined plugin take none either."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            house.host.refused = "queue is full"
            answer = await house.make("k")
            assert isinstance(answer, Refusal)
            assert (answer.why, answer.retry_after_s) == (Why.UNAVAILABLE, 1)
            house.host.refused = None
            house.host.state.phase = Phase.QUARANTINED
            answer = await house.make("k")
            assert isinstance(answer, Refusal)
            assert "quarantine" in answer.detail
            house.host.state.phase = Phase.READY
            house.router.is_draining = True
            answer = await house.make("k")
            assert isinstance(answer, Refusal)
            assert "stopping" in answer.detail
            house.router.is_draining = False
            made = await house.make("k")
            assert isinstance(made, CallView)
            assert made.is_new

    run_async(scenario())


def test_what_the_plugin_does_not_take_is_the_fallbacks_and_its_caller_sees_it(ledger_dsn: str) -> None:
    """A job without a webhook trigger is never called by one. Another key for the plugin does not see the call."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            house.router.routes = Routes(RouterConfig(fallback=FallbackRoute(plugin="beta", job="catch")))
            beta = house.router.hosts["beta"] = cast("Any", Host())
            made, again = [await house.make("k", job="settle") for _ in range(2)]
            assert isinstance(made, CallView)
            assert isinstance(again, CallView)
            assert (made.plugin, made.job, made.is_new, again.is_new, again.id) == (
                "beta", "catch", True, False, made.id,
            )  # fmt: skip
            assert [call.identity for call in beta.offered] == ["fallback alpha/settle: webhook shop key k"]
            assert house.host.offered == []
            seen = await house.webhooks.answer(GetCall(credential=Bearer(token=house.secret), call_id=made.id))
            assert isinstance(seen, CallView)
            other = make_secret("other")
            house.ring.add(replace(house.ring.every()[0], name="other", digest=digest_of(other)))
            unseen = await house.webhooks.answer(GetCall(credential=Bearer(token=other), call_id=made.id))
            assert isinstance(unseen, Refusal)
            assert unseen.why is Why.NOT_FOUND
            own = await house.make(job="decide")
            assert isinstance(own, CallView)
            assert own.plugin == "alpha"

    run_async(scenario())


def test_a_plugin_that_is_not_there_or_not_ready_or_not_open(ledger_dsn: str) -> None:
    """Gone: 404. Not heard of since the start: try again. Heard of, and without a webhook trigger: 404."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            house.producer.forget("alpha")
            answers = [await house.make()]
            house.host.config = plugin_config(triggers=None)  # its class will declare them, once it has started
            answers.append(await house.make())
            del house.router.hosts["alpha"]
            answers.append(await house.make())
            assert [answer.why for answer in answers if isinstance(answer, Refusal)] == [
                Why.NOT_FOUND, Why.UNAVAILABLE, Why.NOT_FOUND,
            ]  # fmt: skip

    run_async(scenario())


def test_before_its_worker_has_said_hello_nothing_is_the_fallbacks(ledger_dsn: str) -> None:
    """Also where its triggers stand in the file. A retry is then the one call, of the plugin that was named."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            house.router.routes = Routes(RouterConfig(fallback=FallbackRoute(plugin="beta")))
            beta = house.router.hosts["beta"] = cast("Any", Host())
            house.producer.forget("alpha")
            for changes, phase, retry_after_s in (
                ({}, Phase.STARTING, 5),
                ({}, Phase.QUARANTINED, 60),
                ({"enabled": False}, Phase.STOPPED, 60),
            ):
                house.host.config = plugin_config(triggers=(Webhook(),), **changes)
                house.host.state.phase = phase
                answer = await house.make("order-7")
                assert isinstance(answer, Refusal), phase
                assert (answer.why, answer.retry_after_s) == (Why.UNAVAILABLE, retry_after_s), phase
            house.host.config, house.host.state.phase = plugin_config(triggers=(Webhook(),)), Phase.READY
            await house.producer.declare("alpha", [Webhook()], terms())
            made = await house.made("order-7")
            assert (len(house.host.offered), beta.offered) == (1, [])
            house.producer.forget("alpha")  # as after a restart: what was made is told, not refused
            again = await house.make("order-7")
            assert isinstance(again, CallView)
            assert again.id == made.id

    run_async(scenario())


def test_a_call_is_found_again_whoever_would_get_it_now(ledger_dsn: str) -> None:
    """The fallback's when its plugin was not there, and the plugin's when it has gone: one key is one call."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            house.router.routes = Routes(RouterConfig(fallback=FallbackRoute(plugin="beta")))
            beta = house.router.hosts["beta"] = cast("Any", Host())
            alpha = house.router.hosts.pop("alpha")
            fallen = await house.make("early")
            house.router.hosts["alpha"] = alpha
            again = await house.make("early")
            assert isinstance(fallen, CallView)
            assert isinstance(again, CallView)
            assert (again.id, again.plugin, again.is_new) == (fallen.id, "beta", False)
            own = await house.made("late")
            del house.router.hosts["alpha"]
            again = await house.make("late")
            assert isinstance(again, CallView)
            assert (again.id, again.plugin, again.is_new) == (own.id, "alpha", False)
            other = await house.make("late", payload="[]")
            assert isinstance(other, Refusal)
            assert other.why is Why.KEY_REUSED
            assert [len(host.offered) for host in (house.host, beta)] == [1, 1]

    run_async(scenario())


@pytest.mark.parametrize("window", [1, 3, 1_000])
def test_a_listener_from_any_position_hears_all_that_is_after_it(
    ledger_dsn: str, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """Also where one look goes through less than what has happened meanwhile, none of it its own."""
    monkeypatch.setattr(outcomes, "WINDOW", window)

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            start = (await house.listen(None)).position
            calls = [await house.made() for _ in range(6)]
            for call in calls[:2]:
                await house.results.finish(call, JobOutcome.NOOP, "quiet")
            for number in range(7):  # of another plugin, in between
                other = replace(calls[0], id=10_000 + number, plugin="other")
                await house.results.finish(other, JobOutcome.NOOP, "not yours")
            for call in calls[2:]:
                await house.results.finish(call, JobOutcome.NOOP, "quiet")
            heard: list[int] = []
            position = start
            while len(heard) < 6:
                events = await house.listen(position, wait_s=5)
                assert events.outcomes, "it gave up though there is more"
                heard += [outcome.call.id for outcome in events.outcomes]
                position = events.position
            assert heard == [call.id for call in calls]
            assert (await house.listen(position)).outcomes == []

    run_async(scenario())


def test_a_listener_that_waits_is_woken_by_an_outcome(ledger_dsn: str) -> None:
    """At once, not at the end of its wait."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            call = await house.made()
            start = (await house.listen(None)).position
            async with asyncio.TaskGroup() as group, asyncio.timeout(20):
                waiting = group.create_task(house.listen(start, wait_s=60))
                await asyncio.sleep(0)
                await house.results.finish(call, JobOutcome.NOOP, "quiet")
                events = await waiting
            assert [outcome.call.id for outcome in events.outcomes] == [call.id]

    run_async(scenario())


def test_whoever_waits_at_the_end_is_told_how_far_his_call_is(ledger_dsn: str) -> None:
    """Its id and no outcome, at once; a listener is told that there will be no more."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            async with asyncio.TaskGroup() as group, asyncio.timeout(20):
                start = (await house.listen(None)).position
                waiting = group.create_task(house.make("slow", wait_s=60))
                events = GetEvents(credential=Bearer(token=house.secret), after=start, wait_s=60)
                listening = group.create_task(house.webhooks.answer(events))
                await until(lambda: bool(house.webhooks._watch._expected))
                await house.webhooks.let_go()
            (call,) = house.host.offered
            answer = waiting.result()
            assert isinstance(answer, CallView)
            assert (answer.id, answer.outcome) == (call.id, None)
            ended = listening.result()
            assert isinstance(ended, Refusal)
            assert (ended.why, ended.detail) == (Why.UNAVAILABLE, "runnerd is stopping")
            assert isinstance(await house.make("later", wait_s=60), CallView)  # and nobody waits any more

    run_async(scenario())


@pytest.mark.parametrize("is_expired", [False, True])
def test_a_key_that_ends_while_its_holder_waits_tells_him_nothing_more(ledger_dsn: str, *, is_expired: bool) -> None:
    """Neither the outcome of a call nor the next one of a stream. Control: the tests above, whose keys stay valid."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            key = replace(house.ring.every()[0], expires_at=EPOCH + timedelta(hours=1))
            house.ring.add(key)
            start = (await house.listen(None)).position
            events = GetEvents(credential=Bearer(token=house.secret), after=start, wait_s=60)
            async with asyncio.TaskGroup() as group, asyncio.timeout(20):
                waits = [
                    group.create_task(house.make("slow", wait_s=60)),
                    group.create_task(house.webhooks.answer(events)),
                ]
                await until(lambda: bool(house.webhooks._watch._expected))
                if is_expired:
                    house.clock.at += timedelta(hours=1)
                else:
                    house.ring.revoke("shop", "uid:0", house.clock.at)
                await house.results.finish(house.host.offered[0], JobOutcome.NOOP, "a secret by now")
            answers = [wait.result() for wait in waits]
            assert [answer.why for answer in answers if isinstance(answer, Refusal)] == [Why.UNAUTHORIZED] * 2

    run_async(scenario())


def test_pages_need_no_key(ledger_dsn: str) -> None:
    """Whatever else is asked, does."""

    async def scenario() -> None:
        async with bench(ledger_dsn) as house:
            page = await house.webhooks.answer(GetPage(word="ready"))
            assert page == Page(status=200, content_type="text/plain", body="ready")
            house.secret = "rk1.shop.wrong"
            answer = await house.make()
            assert isinstance(answer, Refusal)
            assert answer.why is Why.UNAUTHORIZED

    run_async(scenario())

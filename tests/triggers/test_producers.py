"""The registry of producers: who is started again, who stays down, who has ended; and who is told of which trigger."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from protocol.triggers import Cron, Event, Trigger, Webhook
from runnerd.store.errors import StoreUnavailable
from runnerd.triggers.errors import ProducerBroken, ProducerError, ProducerUnavailable
from runnerd.triggers.producer import Terms
from runnerd.triggers.producers import CALM_S, RETRY_S, Producers, ProducerState
from tests.support.aio import run_async
from tests.support.calls import terms
from tests.support.virtual_time import EPOCH, VirtualTimeLoop

TICK, FLOW = Cron(every_seconds=1), Event(topic="flow")


class FakeProducer:
    """Serves triggers of one kind; `run` does what the test says, each time anew."""

    def __init__(self, name: str, kind: type, run: Callable[[], Awaitable[None]] | None = None) -> None:
        self.name = name
        self.trouble: str | None = None
        self.due: datetime | None = None
        self.declared: dict[str, list[Trigger]] = {}
        self.refusal: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.began: list[float] = []
        self._kind = kind
        self._run = run or asyncio.Event().wait

    def serves(self, trigger: Trigger) -> bool:
        return isinstance(trigger, self._kind)

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        self.declared[plugin] = list(triggers)

    def forget(self, plugin: str) -> None:
        self.declared.pop(plugin, None)

    async def run(self) -> None:
        self.began.append(asyncio.get_running_loop().time())
        await self._run()

    def next_due(self, plugin: str) -> datetime | None:
        return self.due

    def progress(self) -> str:
        return f"{self.name} goes on"


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On virtual time."""
    run_async(scenario(), loop_factory=VirtualTimeLoop, deadline_s=10**6)


def failing(error: Exception, after_s: float = 0.0) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        await asyncio.sleep(after_s)
        raise error

    return fail


@pytest.mark.parametrize("error", [ProducerUnavailable("the node is away"), RuntimeError("defect")], ids=repr)
def test_producer_that_fails_is_started_again_after_a_wait_that_grows(error: Exception) -> None:
    """Whatever it was: a defect of one must not take its triggers away for ever. The others do not notice."""

    async def scenario() -> None:
        bad, good = FakeProducer("bad", Cron, failing(error)), FakeProducer("good", Event)
        producers = Producers([bad, good])
        producers.start()
        await asyncio.sleep(1_000)
        waits = [after - before for before, after in zip(bad.began, bad.began[1:], strict=False)]
        assert waits[:3] == pytest.approx([RETRY_S[0], RETRY_S[0] * 2, RETRY_S[0] * 4])
        assert waits[-1] == pytest.approx(RETRY_S[1])
        assert good.began == [0]
        view = {one.name: one for one in producers.view()}
        assert (view["bad"].state, view["good"].state) == (ProducerState.RETRYING, ProducerState.RUNNING)
        (problem,) = producers.problems()
        assert problem.startswith("producer bad retrying: ")
        assert str(error) in problem
        await producers.close()

    run(scenario)


def test_producer_that_ran_for_long_waits_as_at_first() -> None:
    """It had recovered."""

    async def scenario() -> None:
        slow = FakeProducer("slow", Cron, failing(ProducerUnavailable("away"), CALM_S + 1))
        producers = Producers([slow])
        producers.start()
        await asyncio.sleep(10 * CALM_S)
        waits = [after - before for before, after in zip(slow.began, slow.began[1:], strict=False)]
        assert waits == pytest.approx([CALM_S + 1 + RETRY_S[0]] * len(waits))
        await producers.close()

    run(scenario)


def test_broken_producer_stays_down_and_a_finite_one_ends() -> None:
    """The first is a problem, the second is not; neither is started again."""

    async def nothing_more() -> None:
        return

    async def scenario() -> None:
        broken = FakeProducer("broken", Cron, failing(ProducerBroken("its table has no id")))
        finite = FakeProducer("finite", Event, nothing_more)
        producers = Producers([broken, finite])
        assert [one.state for one in producers.view()] == [ProducerState.STOPPED] * 2
        producers.start()
        await asyncio.sleep(1_000)
        assert (len(broken.began), len(finite.began)) == (1, 1)
        assert [one.state for one in producers.view()] == [ProducerState.BROKEN, ProducerState.ENDED]
        assert producers.problems() == ["producer broken broken: its table has no id"]
        await producers.close()

    run(scenario)


def test_trouble_of_a_running_producer_is_a_problem() -> None:
    """It helps itself, but nothing is fired meanwhile."""

    async def scenario() -> None:
        event = FakeProducer("event", Event)
        producers = Producers([event])
        producers.start()
        await asyncio.sleep(1)
        event.trouble = "not listening"
        assert producers.problems() == ["producer event: not listening"]
        await producers.close()

    run(scenario)


def test_each_trigger_goes_to_who_serves_it(caplog: pytest.LogCaptureFixture) -> None:
    """All producers are told, so that one whose triggers are gone forgets them; what nobody serves is said."""

    async def scenario() -> None:
        cron, event = FakeProducer("cron", Cron), FakeProducer("event", Event)
        producers = Producers([cron, event])
        await producers.declare("alpha", [TICK, FLOW, Webhook()], terms())
        assert (cron.declared, event.declared) == ({"alpha": [TICK]}, {"alpha": [FLOW]})
        assert "nothing fires webhook of alpha" in caplog.text
        await producers.declare("alpha", [FLOW], terms())
        assert (cron.declared, event.declared) == ({"alpha": []}, {"alpha": [FLOW]})
        producers.forget("alpha")
        assert (cron.declared, event.declared) == ({}, {})
        cron.due, event.due = EPOCH + timedelta(seconds=5), EPOCH
        assert producers.next_due("alpha") == EPOCH
        cron.due = event.due = None
        assert producers.next_due("alpha") is None

    run(scenario)


@pytest.mark.parametrize(
    "refusal", [ProducerError("no such time"), StoreUnavailable("no such time"), KeyError("no such time")], ids=repr
)
def test_producer_that_refuses_a_plugin_keeps_no_other_from_it(
    refusal: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A schedule that names no time, or a defect, is no reason not to hear notifications; and `status` says it."""

    async def scenario() -> None:
        cron, event = FakeProducer("cron", Cron), FakeProducer("event", Event)
        cron.refusal = refusal
        producers = Producers([cron, event])
        producers.start()
        await producers.declare("alpha", [TICK, FLOW], terms())
        await asyncio.sleep(1)
        assert event.declared == {"alpha": [FLOW]}
        assert "cron cannot fire for alpha: " in caplog.text
        assert ("Traceback" in caplog.text) is isinstance(refusal, KeyError)
        (problem,) = producers.problems()
        assert problem.startswith("producer cron: cannot fire for alpha: ")
        assert "no such time" in problem
        cron.refusal = None
        await producers.declare("alpha", [TICK, FLOW], terms())
        assert producers.problems() == []
        await producers.close()

    run(scenario)


def test_plugin_that_is_forgotten_while_a_producer_asks_the_ledger_is_declared_to_nobody_else() -> None:
    """Removed by a reload just after its worker was ready."""

    async def scenario() -> None:
        cron, event = FakeProducer("cron", Cron), FakeProducer("event", Event)
        producers = Producers([cron, event])
        cron.gate.clear()
        declaring = asyncio.get_running_loop().create_task(producers.declare("alpha", [TICK, FLOW], terms()))
        await asyncio.sleep(1)
        producers.forget("alpha")
        cron.gate.set()
        await declaring
        assert event.declared == {}

    run(scenario)


def test_names_of_producers_are_their_own() -> None:
    """They are in `status`, in logs and in positions."""

    async def scenario() -> None:
        producers = Producers([FakeProducer("cron", Cron)])
        with pytest.raises(ValueError, match="there is a producer 'cron' already"):
            producers.add(FakeProducer("cron", Event))

    run(scenario)

"""The producer of webhook triggers: which plugins take them, for which jobs."""

import asyncio

from protocol.triggers import Cron, Webhook
from runnerd.config.model import HttpConfig
from runnerd.runner.assembly import why_no_webhooks
from runnerd.triggers.producers import Producers, ProducerState
from runnerd.triggers.webhook import WebhookProducer
from tests.support.aio import run_async
from tests.support.calls import terms


def test_it_serves_webhook_triggers_alone() -> None:
    """And among all producers it is the one."""
    producer = WebhookProducer()
    assert producer.serves(Webhook())
    assert not producer.serves(Cron(every_seconds=1))


def test_it_knows_what_was_declared_last_and_forgets() -> None:
    """By job; a plugin that declares none any more takes none."""

    async def scenario() -> None:
        producer = WebhookProducer()
        producers = Producers([producer])
        await producers.declare("alpha", [Webhook(), Webhook(job="settle"), Cron(every_seconds=1)], terms())
        found = producer.find("alpha", "settle")
        assert found is not None
        assert (found.trigger.job, found.terms) == ("settle", terms())
        await producers.declare("alpha", [Webhook()], terms())
        assert producer.find("alpha", "settle") is None
        assert producer.find("beta", "decide") is None
        await producers.declare("alpha", [], terms())
        assert producer.find("alpha", "decide") is None
        await producers.declare("alpha", [Webhook()], terms())
        assert producer.find("alpha", "decide") is not None
        producers.forget("alpha")
        assert producer.find("alpha", "decide") is None

    run_async(scenario())


def test_why_no_request_arrives_is_what_is_so() -> None:
    """An application that was given none may well have it enabled."""
    assert "http.enabled = false" in (why_no_webhooks(HttpConfig(enabled=False), None) or "")
    said = why_no_webhooks(HttpConfig(), None)
    assert said == "no request can arrive: this runner was given no http process; see run(config, http=...)"


def test_it_runs_until_it_is_closed_and_its_trouble_is_a_problem_only_if_somebody_misses_it() -> None:
    """`http.enabled = false` is nobody's problem where no plugin takes webhooks."""

    async def scenario() -> None:
        producer = WebhookProducer(lambda: "no request can arrive")
        producers = Producers([producer])
        producers.start()
        await asyncio.sleep(0)
        assert [(view.state, view.reason) for view in producers.view()] == [(ProducerState.RUNNING, "")]
        await producers.declare("alpha", [Webhook()], terms())
        producer.count()
        (view,) = producers.view()
        assert (view.reason, view.progress) == ("no request can arrive", "1 plugins, 1 calls")
        assert producers.problems() == ["producer webhook: no request can arrive"]
        await producers.close()

    run_async(scenario())

"""Builds the producers that runnerd has. Who fires which trigger is `triggers.producers`."""

from collections.abc import Mapping

from runnerd.clock import Clock
from runnerd.network import Network
from runnerd.routing.router import Router
from runnerd.services.metrics import Metrics
from runnerd.store.store import Store
from runnerd.supervisor.context import Snapshots
from runnerd.triggers.alarm import TimerAlarm
from runnerd.triggers.blocks import BlockProducer
from runnerd.triggers.cron import CronProducer
from runnerd.triggers.events import EventProducer
from runnerd.triggers.logs import LogProducer
from runnerd.triggers.metric import MetricProducer
from runnerd.triggers.outbox import OutboxProducer
from runnerd.triggers.producers import Producers
from runnerd.triggers.webhook import WebhookProducer


def open_producers(
    event_dsn: str,
    router: Router,
    store: Store,
    metrics: Metrics,
    clock: Clock,
    webhook: WebhookProducer,
    networks: Mapping[str, Network],
    snapshots: Snapshots,
) -> tuple[Producers, OutboxProducer]:
    """All of them, not running; and the one that has more to tell than the others."""
    fallback = router.routes.fallback
    also = fallback.topics if fallback is not None else ()
    outbox = OutboxProducer(event_dsn, router, store, metrics, clock)
    producers = Producers(
        [
            CronProducer(router, store, metrics, clock, TimerAlarm()),
            EventProducer(event_dsn, router, clock, metrics, also),
            outbox,
            webhook,
            BlockProducer(networks, router, store, clock),
            LogProducer(networks, router, store, clock),
            MetricProducer(networks, snapshots, router, store, clock),
        ]
    )
    return producers, outbox

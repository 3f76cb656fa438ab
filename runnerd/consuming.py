"""Opens the consumers that the configuration names. How they are brought their results is `consumers.consumers`.

Those of third parties come in by the entry points of the group `runnerd.consumers`: `factory(name, params)` gives a
Consumer. Their code runs in this process, beside the key, so only what the operator names is ever imported.
"""

import asyncio
import os
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, TypeAlias, assert_never

from protocol.messages import Param
from runnerd.clock import Clock
from runnerd.config.consumer_model import (
    AppriseConsumerConfig,
    ConsumerConfig,
    EntryPointConsumerConfig,
    NotifyConsumerConfig,
    SubmitConsumerConfig,
    WebhookConsumerConfig,
)
from runnerd.config.consumers import GROUP
from runnerd.config.model import Config
from runnerd.consumers.chat import ChatConsumer
from runnerd.consumers.consumer import Consumer, ConsumerError
from runnerd.consumers.consumers import Consumers
from runnerd.consumers.notify import NotifyConsumer
from runnerd.consumers.selection import Selection
from runnerd.consumers.submit import AnswerDesk, SubmitConsumer
from runnerd.consumers.webhook import WebhookConsumer
from runnerd.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement
from runnerd.wallets.errors import PassphraseUnavailable
from runnerd.wallets.passphrase import PassphraseCredential, PassphraseFile, fetch_passphrase

Factory: TypeAlias = Callable[[str, Mapping[str, Param]], Consumer]
"""What an entry point names: the table's name and its `params`, and a Consumer of that name comes back."""

MIN_SECRET_BYTES: Final = 16


async def open_consumers(
    config: Config,
    dsn: str,
    desk: AnswerDesk,
    results: Results,
    store: Ledger,
    metrics: Metrics,
    clock: Clock,
) -> Consumers:
    """All of them, ringing with each result, and not running. Raises ConsumerError when one cannot be made.

    `dsn` is the ledger's: events are announced there, unless the configuration names another database for them.
    """
    consumers = Consumers(store, metrics, clock)
    (row,) = await store.fetch(Statement("select id from ledger"))
    for name, table in config.consumers.items():
        consumer = await _open(name, table, config.database.event_dsn or dsn, desk, row["id"], clock)
        consumers.add(consumer, str(table.__struct_config__.tag), _selection_of(table))
    results.add_consumer(consumers.ring)
    return consumers


async def _open(
    name: str, config: ConsumerConfig, event_dsn: str, desk: AnswerDesk, ledger: uuid.UUID, clock: Clock
) -> Consumer:
    match config:
        case WebhookConsumerConfig():
            secret = _secret(name, config.secret_file, config.secret_credential)
            if len(secret) < MIN_SECRET_BYTES:
                raise ConsumerError(f"consumer {name}: its secret is shorter than {MIN_SECRET_BYTES} bytes")
            return WebhookConsumer(name, config.url, secret, clock, ledger, allow_private=config.allow_private)
        case NotifyConsumerConfig():
            return NotifyConsumer(name, event_dsn, config.channel)
        case AppriseConsumerConfig():
            url = _secret(name, config.url_file, config.url_credential)
            return await ChatConsumer.open(name, url.decode("utf-8", "replace").strip())
        case SubmitConsumerConfig():
            return SubmitConsumer(name, config, desk)
        case EntryPointConsumerConfig():
            return await asyncio.to_thread(_load, name, config)
        case _:
            assert_never(config)


def _selection_of(config: ConsumerConfig) -> Selection:
    plugins = (config.plugin,) if isinstance(config, SubmitConsumerConfig) else config.plugins
    return Selection(plugins=frozenset(plugins), outcomes=frozenset(config.outcomes))


def _secret(name: str, file: Path | None, credential: str | None) -> bytes:
    assert file is not None or credential is not None  # checked with the configuration
    source = PassphraseFile(file) if file is not None else PassphraseCredential(credential or "")
    try:
        return fetch_passphrase(source, os.environ).reveal()
    except PassphraseUnavailable as error:
        what = error.reason.replace("the passphrase", "the secret")
        raise ConsumerError(f"consumer {name}: the secret of {error.source} cannot be read: {what}") from None


def _load(name: str, config: EntryPointConsumerConfig) -> Consumer:
    """Import a third party's module and call its factory, in a thread: it may take its time."""
    found = [point for point in entry_points(group=GROUP) if point.name == config.entry_point]
    if not found:
        raise ConsumerError(f"consumer {name}: no {config.entry_point} is installed in the group {GROUP}")
    try:
        factory: Factory = found[0].load()
        consumer = factory(name, config.params)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ConsumerError(f"consumer {name}: {config.entry_point} cannot be used: {text}") from error
    if getattr(consumer, "name", None) != name:
        raise ConsumerError(f"consumer {name}: {config.entry_point} gave one that calls itself otherwise")
    missing = [each for each in ("wants", "consume", "close") if not callable(getattr(consumer, each, None))]
    if missing:
        raise ConsumerError(f"consumer {name}: what {config.entry_point} gave has no {', '.join(missing)}")
    return consumer

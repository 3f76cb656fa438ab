"""Opens the consumers that the configuration names. How they are brought their results is `consumers.consumers`.

Those of third parties come as factories that were imported with the other extensions (`runnerd.extensions`).
"""

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias, assert_never

from runnerd.clock import Clock
from runnerd.config.consumer_model import (
    AppriseConsumerConfig,
    ConsumerConfig,
    EntryPointConsumerConfig,
    NotifyConsumerConfig,
    SubmitConsumerConfig,
    WebhookConsumerConfig,
)
from runnerd.config.model import Config
from runnerd.consumers.chat import ChatConsumer
from runnerd.consumers.consumer import Consumer, ConsumerMisconfigured
from runnerd.consumers.consumers import Consumers
from runnerd.consumers.echo import find_echo
from runnerd.consumers.notify import NotifyConsumer
from runnerd.consumers.secret import read_key, read_secret
from runnerd.consumers.selection import EVERYTHING, Selection
from runnerd.consumers.submit import AnswerDesk, SubmitConsumer
from runnerd.consumers.webhook import WebhookConsumer
from runnerd.extensions import ConsumerTools, Extensions, build_consumer
from runnerd.routing.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement

BuiltIn: TypeAlias = WebhookConsumerConfig | NotifyConsumerConfig | AppriseConsumerConfig | SubmitConsumerConfig
_Read: TypeAlias = Callable[[Path | None, str | None, Mapping[str, str]], bytes]


async def open_consumers(
    config: Config,
    extensions: Extensions,
    dsn: str,
    desk: AnswerDesk,
    results: Results,
    store: Ledger,
    metrics: Metrics,
    clock: Clock,
    called_by: Callable[[str], list[str]],
) -> Consumers:
    """All of them, ringing with each result, and not running. Raises ConsumerMisconfigured, ExtensionBroken.

    `called_by` a notification on a channel: the plugins, as their workers have said by then.
    `dsn` is the ledger's: events are announced there, unless the configuration names another database for them.
    """
    consumers = Consumers(store, metrics, clock)
    (row,) = await store.fetch(Statement("select id from ledger"))
    for name, table in config.consumers.items():
        if isinstance(table, EntryPointConsumerConfig):
            continue
        consumer = await _open(name, table, config.database.event_dsn or dsn, desk, row["id"], clock, called_by)
        consumers.add(consumer, str(table.__struct_config__.tag), _selection_of(table))
    for name, (factory, params) in extensions.consumers.items():
        consumer = build_consumer(name, factory, ConsumerTools(name=name, params=params, clock=clock))
        consumers.add(
            consumer, "entry_point", _selection_of(config.consumers[name]) if name in config.consumers else EVERYTHING
        )
    results.add_consumer(consumers.ring)
    return consumers


async def _open(
    name: str,
    config: BuiltIn,
    event_dsn: str,
    desk: AnswerDesk,
    ledger: uuid.UUID,
    clock: Clock,
    called_by: Callable[[str], list[str]],
) -> Consumer:
    match config:
        case WebhookConsumerConfig():
            secret = _named(name, read_key, config.secret_file, config.secret_credential)
            return WebhookConsumer(name, config.url, secret, clock, ledger, allow_private=config.allow_private)
        case NotifyConsumerConfig():
            channel, heard = config.channel, config.plugins
            return NotifyConsumer(name, event_dsn, channel, lambda: find_echo(channel, heard, called_by(channel)))
        case AppriseConsumerConfig():
            url = _named(name, read_secret, config.url_file, config.url_credential)
            return await ChatConsumer.open(name, url.decode("utf-8", "replace").strip())
        case SubmitConsumerConfig():
            return SubmitConsumer(name, config, desk)
        case _:
            assert_never(config)


def _selection_of(config: ConsumerConfig) -> Selection:
    plugins = (config.plugin,) if isinstance(config, SubmitConsumerConfig) else config.plugins
    return Selection(plugins=frozenset(plugins), outcomes=frozenset(config.outcomes))


def _named(name: str, read: _Read, file: Path | None, credential: str | None) -> bytes:
    try:
        return read(file, credential, os.environ)
    except ConsumerMisconfigured as error:
        raise ConsumerMisconfigured(f"consumer {name}: {error}") from None

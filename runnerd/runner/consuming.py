"""Opens the consumers that the configuration names. How they are brought their results is `consumers.consumers`.

Those of third parties come as factories that were imported with the other extensions (`runnerd.extensions`).
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias, assert_never

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
from runnerd.consumers.consumer import Consumer, ConsumerError
from runnerd.consumers.consumers import Consumers
from runnerd.consumers.echo import find_echo
from runnerd.consumers.notify import NotifyConsumer
from runnerd.consumers.selection import EVERYTHING, Selection
from runnerd.consumers.submit import AnswerDesk, SubmitConsumer
from runnerd.consumers.webhook import WebhookConsumer
from runnerd.extensions import ConsumerTools, Extensions, build_consumer
from runnerd.routing.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement
from runnerd.wallets.errors import PassphraseUnavailable
from runnerd.wallets.passphrase import PassphraseCredential, PassphraseFile, fetch_passphrase

BuiltIn: TypeAlias = WebhookConsumerConfig | NotifyConsumerConfig | AppriseConsumerConfig | SubmitConsumerConfig
MIN_SECRET_BYTES: Final = 16


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
    """All of them, ringing with each result, and not running. Raises ConsumerError, ExtensionBroken.

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
            secret = _secret(name, config.secret_file, config.secret_credential)
            if len(secret) < MIN_SECRET_BYTES:
                raise ConsumerError(f"consumer {name}: its secret is shorter than {MIN_SECRET_BYTES} bytes")
            return WebhookConsumer(name, config.url, secret, clock, ledger, allow_private=config.allow_private)
        case NotifyConsumerConfig():
            channel, heard = config.channel, config.plugins
            return NotifyConsumer(name, event_dsn, channel, lambda: find_echo(channel, heard, called_by(channel)))
        case AppriseConsumerConfig():
            url = _secret(name, config.url_file, config.url_credential)
            return await ChatConsumer.open(name, url.decode("utf-8", "replace").strip())
        case SubmitConsumerConfig():
            return SubmitConsumer(name, config, desk)
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

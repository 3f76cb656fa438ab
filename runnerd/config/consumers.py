"""What the keys of `[consumers.*]` must satisfy together, and with the rest of the file. Called by `check`.

Looks whether files are there, and what is installed.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, assert_never
from urllib.parse import urlsplit

from runnerd.chain.abi import parse_function
from runnerd.chain.abi_values import to_abi
from runnerd.chain.errors import AbiError, NodeUrlInvalid
from runnerd.chain.node_url import parse_node_url
from runnerd.config.consumer_model import (
    AppriseConsumerConfig,
    ConsumerConfig,
    EntryPointConsumerConfig,
    NotifyConsumerConfig,
    SubmitConsumerConfig,
    WebhookConsumerConfig,
)
from runnerd.config.extensions import CONSUMERS, check_installed
from runnerd.config.model import Config
from runnerd.config.problem import Problem
from runnerd.consumers.address import find_host_problem
from runnerd.consumers.answer import reference_problem
from runnerd.consumers.echo import find_called, find_echo


class _Selecting(Protocol):
    @property
    def plugins(self) -> tuple[str, ...]: ...


def check_consumers(config: Config) -> Iterator[Problem]:
    """All problems of the tables of consumers."""
    for name, consumer in config.consumers.items():
        yield from _consumer(f"consumers.{name}", consumer, config)
    yield from check_echoes(config)
    yield from _same_answers(config)


def check_echoes(config: Config) -> Iterator[Problem]:
    """Results that would call their own plugin again. What a class listens to is known once its worker runs."""
    triggers = {name: plugin.triggers or () for name, plugin in config.plugins.items()}
    for name, consumer in config.consumers.items():
        if isinstance(consumer, NotifyConsumerConfig):
            called = find_called(consumer.channel, triggers, config.router)
            problem = find_echo(consumer.channel, consumer.plugins, called)
            if problem is not None:
                yield Problem(f"consumers.{name}.channel", problem)


def _consumer(key: str, consumer: ConsumerConfig, config: Config) -> Iterator[Problem]:
    match consumer:
        case WebhookConsumerConfig():
            yield from _plugins(key, consumer, config)
            yield from _secret(key, "secret", consumer.secret_file, consumer.secret_credential)
            yield from _url(f"{key}.url", consumer)
        case NotifyConsumerConfig():
            yield from _plugins(key, consumer, config)
        case AppriseConsumerConfig():
            yield from _plugins(key, consumer, config)
            yield from _secret(key, "url", consumer.url_file, consumer.url_credential)
            if find_spec("apprise") is None:
                yield Problem(f"{key}.kind", "apprise is not installed: pip install 'runnerd[notify]'")
        case SubmitConsumerConfig():
            yield from _submit(key, consumer, config)
        case EntryPointConsumerConfig():
            yield from _plugins(key, consumer, config)
            yield from check_installed(f"{key}.entry_point", CONSUMERS, consumer.entry_point)
        case _:
            assert_never(consumer)


def _plugins(key: str, consumer: _Selecting, config: Config) -> Iterator[Problem]:
    for name in consumer.plugins:
        yield from _known(f"{key}.plugins", "plugins", name, config.plugins)


def _known(key: str, group: str, name: str, known: object) -> Iterator[Problem]:
    assert isinstance(known, dict)
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        yield Problem(key, f"there is no [{group}.{name}]; there are: {there}", missing=f"{group}.{name}")


def _secret(key: str, name: str, file: Path | None, credential: str | None) -> Iterator[Problem]:
    if (file is None) == (credential is None):
        yield Problem(key, f"needs exactly one of {name}_file and {name}_credential")
    if file is not None and not file.is_file():
        yield Problem(f"{key}.{name}_file", f"no such file: {file}")


def _url(key: str, consumer: WebhookConsumerConfig) -> Iterator[Problem]:
    """Never repeats the url: it may hold a token."""
    try:
        url = parse_node_url(consumer.url)
    except NodeUrlInvalid:
        url = None
    if url is None or url.scheme not in {"http", "https"}:
        yield Problem(key, "is not a url that can be used: write https://HOST/PATH")
        return
    if "@" in urlsplit(consumer.url).netloc:
        yield Problem(key, "holds credentials: what signs is in secret_file or secret_credential")
    if not url.is_tls and not consumer.allow_private:
        yield Problem(key, "would cross the internet in the clear: write https://, or allow_private = true")
    problem = find_host_problem(url.host, allow_private=consumer.allow_private)
    if problem is not None:
        yield Problem(key, problem)


def _submit(key: str, consumer: SubmitConsumerConfig, config: Config) -> Iterator[Problem]:
    yield from _known(f"{key}.plugin", "plugins", consumer.plugin, config.plugins)
    plugin = config.plugins.get(consumer.plugin)
    place = config.places.get(plugin.place) if plugin is not None else None
    if plugin is None or place is None:
        return
    group = "vaults" if plugin.place in config.vaults else "keepers"
    yield from _known(f"{key}.action", f"{group}.{plugin.place}.actions", consumer.action, place.actions)
    grant = place.actions.get(consumer.action)
    if grant is None:
        return
    try:
        function = parse_function(grant.function)
    except AbiError:
        return  # said where it stands
    shapes = {parameter.name: parameter.shape for parameter in function.inputs}
    for name in consumer.arguments.keys() - shapes.keys():
        there = ", ".join(shapes) or "none"
        yield Problem(f"{key}.arguments.{name}", f"{function.name} has no such argument; it has: {there}")
    for name, shape in shapes.items():
        where = f"{key}.arguments.{name}"
        value = consumer.arguments.get(name)
        if value is None:
            yield Problem(where, f"is missing: {function.name} needs a value, or $ and a part of the call")
        elif isinstance(value, str) and value.startswith("$"):
            problem = reference_problem(value, consumer.trigger)
            if problem is not None:
                yield Problem(where, problem)
        else:
            try:
                to_abi(value, shape, name)
            except AbiError as error:
                yield Problem(where, str(error))


def _same_answers(config: Config) -> Iterator[Problem]:
    seen: dict[tuple[str, str, str], str] = {}
    for name, consumer in config.consumers.items():
        if not isinstance(consumer, SubmitConsumerConfig):
            continue
        for outcome in consumer.outcomes or ("acted", "noop", "denied", "failed", "expired", "dead"):
            other = seen.setdefault((consumer.plugin, consumer.trigger, outcome), name)
            if other != name:
                text = (
                    f"{outcome} of a {consumer.trigger} is answered by consumers.{other} already: one answer to a call"
                )
                yield Problem(f"consumers.{name}.outcomes", text)

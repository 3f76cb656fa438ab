"""Code of third parties in the supervisor: what it is lent, and how it is found. Only what a table names is loaded.

A factory is called with its tools and returns the part; what is wrong with either is an ExtensionBroken with its place.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, TypeAlias, TypeVar

from runnerd.clock import Clock
from runnerd.config.consumer_model import EntryPointConsumerConfig
from runnerd.config.extensions import CONSUMERS, PRODUCERS, SERVICES, Option, ServiceConfig
from runnerd.config.model import Config
from runnerd.consumers.consumer import Consumer
from runnerd.control.status_messages import Status
from runnerd.errors import RunExit, RunnerdError, describe
from runnerd.services.service import Restart, Service, ServicePolicy
from runnerd.store.ledger import Ledger
from runnerd.triggers.producer import Producer, Submit


class ExtensionBroken(RunnerdError):
    """An extension cannot be used: mend its package, or take its table out of the configuration."""

    exit_code = RunExit.CONFIG


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerTools:
    """What a producer works with. `submit` commits its calls with its position (`runnerd.store.positions`)."""

    name: str
    params: Mapping[str, Option]
    submit: Submit
    ledger: Ledger
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTools:
    """What a background service works with. `status` reads what `runnerctl status` shows."""

    name: str
    params: Mapping[str, Option]
    status: Callable[[], Awaitable[Status]]
    ledger: Ledger
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerTools:
    """What a consumer works with."""

    name: str
    params: Mapping[str, Option]
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerTools:
    """What a signer is told. `address`: what it is to sign for, checksummed; None leaves that to it."""

    params: Mapping[str, Option]
    address: str | None


P = TypeVar("P", bound=Producer | Service | Consumer)
T = TypeVar("T")
ProducerFactory: TypeAlias = Callable[[ProducerTools], Producer]
ServiceFactory: TypeAlias = Callable[[ServiceTools], Service]
ConsumerFactory: TypeAlias = Callable[[ConsumerTools], Consumer]
ShutdownHook: TypeAlias = Callable[[], Awaitable[None] | None]


@dataclass(slots=True, kw_only=True)
class Extensions:
    """What a runner has beside what is built in: by name, each with its parameters."""

    producers: dict[str, tuple[ProducerFactory, Mapping[str, Option]]] = field(default_factory=dict)
    services: dict[str, tuple[ServiceFactory, Mapping[str, Option], ServicePolicy]] = field(default_factory=dict)
    consumers: dict[str, tuple[ConsumerFactory, Mapping[str, Option]]] = field(default_factory=dict)
    on_shutdown: list[ShutdownHook] = field(default_factory=list)
    """Called in reverse order when nothing runs any more, before the ledger is closed."""


def load_extensions(config: Config) -> Extensions:
    """Import what the configuration names. Raises ExtensionBroken."""
    found = Extensions()
    for name, producer in config.producers.items():
        place = f"producers.{name}.entry_point"
        found.producers[name] = load_factory(place, PRODUCERS, producer.entry_point), producer.params
    for name, service in config.services.items():
        place = f"services.{name}.entry_point"
        found.services[name] = (
            load_factory(place, SERVICES, service.entry_point), service.params, policy_of(service),
        )  # fmt: skip
    for name, consumer in config.consumers.items():
        if isinstance(consumer, EntryPointConsumerConfig):
            place = f"consumers.{name}.entry_point"
            found.consumers[name] = load_factory(place, CONSUMERS, consumer.entry_point), consumer.params
    return found


def load_factory(place: str, group: str, name: str) -> Callable[..., Any]:
    """The object behind an entry point. `place` is the key that names it. Raises ExtensionBroken."""
    for entry_point in entry_points(group=group):
        if entry_point.name != name:
            continue
        try:
            factory = entry_point.load()
        except Exception as error:  # whatever its import runs into
            raise ExtensionBroken(f"{place}: {name!r} cannot be imported: {describe(error)}") from error
        if not callable(factory):
            raise ExtensionBroken(f"{place}: {name!r} is {type(factory).__name__}, and no factory to be called")
        return factory  # type: ignore[no-any-return]
    raise ExtensionBroken(f"{place}: no installed package has {name!r} in {group}")


def build_producer(name: str, factory: ProducerFactory, tools: ProducerTools) -> Producer:
    """The producer, complete and under its name. Raises ExtensionBroken."""
    return _build(f"producer {name}", name, factory, tools, Producer)


def build_service(name: str, factory: ServiceFactory, tools: ServiceTools) -> Service:
    """The service, complete and under its name. Raises ExtensionBroken."""
    return _build(f"service {name}", name, factory, tools, Service)


def build_consumer(name: str, factory: ConsumerFactory, tools: ConsumerTools) -> Consumer:
    """The consumer, complete and under its name. Raises ExtensionBroken."""
    return _build(f"consumer {name}", name, factory, tools, Consumer)


def policy_of(service: ServiceConfig) -> ServicePolicy:
    """As its table says."""
    return ServicePolicy(
        restart=Restart(service.restart),
        backoff_first_s=service.backoff_first_s,
        backoff_max_s=service.backoff_max_s,
        start_deadline_s=service.start_deadline_s,
        stop_deadline_s=service.stop_deadline_s,
    )


def find_gaps(part: object, kind: type) -> list[str]:
    """The members of a Protocol that `part` lacks."""
    wanted = {*kind.__annotations__, *(name for name in vars(kind) if not name.startswith("_"))}
    return sorted(name for name in wanted if not hasattr(part, name))


def _build(what: str, name: str, factory: Callable[[T], P], tools: T, kind: type) -> P:
    try:
        part = factory(tools)
        gaps = find_gaps(part, kind)
    except Exception as error:  # whatever its code runs into
        raise ExtensionBroken(f"{what} cannot be made: {describe(error)}") from error
    if gaps:
        raise ExtensionBroken(f"{what} is {type(part).__name__}, which lacks {', '.join(gaps)}")
    if part.name != name:
        raise ExtensionBroken(f"{what} calls itself {part.name!r}: it must take its name from its tools")
    return part

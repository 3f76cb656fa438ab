"""Tables that bring code of third parties into the supervisor: `[producers.NAME]` and `[services.NAME]`.

That code is trusted with everything, unlike a plugin: nothing is loaded that the operator has not named here.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from protocol.triggers import Custom, Trigger
from runnerd.config.problem import Problem

Option = bool | int | float | str
Seconds = Annotated[float, Meta(gt=0, le=86_400)]

PRODUCERS: Final = "runnerd.producers"
SERVICES: Final = "runnerd.services"
SIGNERS: Final = "runnerd.signers"
CONSUMERS: Final = "runnerd.consumers"
"""Groups of entry points."""
BUILT_IN_PRODUCERS: Final = ("cron", "event", "outbox", "webhook", "block", "log", "metric")
BUILT_IN_SERVICES: Final = ("lag", "ledger", "consumers", "watchdog", "control", "http", "reload")


class _Extension(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    entry_point: Annotated[str, Meta(min_length=1, max_length=200)]
    params: dict[str, Option] = {}


class ProducerConfig(_Extension, frozen=True):
    """`[producers.NAME]`: a producer of a third party; it fires the `Custom` triggers that name it."""


class ServiceConfig(_Extension, frozen=True):
    """`[services.NAME]`: a background service of a third party, and how it is kept."""

    restart: Literal["on_failure", "always", "never", "vital"] = "on_failure"
    backoff_first_s: Seconds = 0.5
    backoff_max_s: Seconds = 60.0
    start_deadline_s: Seconds = 30.0
    stop_deadline_s: Seconds = 10.0


def check_extensions(
    producers: Mapping[str, ProducerConfig], services: Mapping[str, ServiceConfig]
) -> Iterator[Problem]:
    """What is wrong with them, as far as nothing of them is imported."""
    for name, producer in producers.items():
        if name in BUILT_IN_PRODUCERS:
            yield Problem(f"producers.{name}", f"is the name of one that runnerd has: {', '.join(BUILT_IN_PRODUCERS)}")
        yield from check_installed(f"producers.{name}.entry_point", PRODUCERS, producer.entry_point)
    for name, service in services.items():
        if name in BUILT_IN_SERVICES:
            yield Problem(f"services.{name}", f"is the name of one that runnerd has: {', '.join(BUILT_IN_SERVICES)}")
        yield from check_installed(f"services.{name}.entry_point", SERVICES, service.entry_point)
        if service.backoff_first_s > service.backoff_max_s:
            yield Problem(f"services.{name}.backoff_first_s", "is above backoff_max_s")


def check_installed(key: str, group: str, name: str) -> Iterator[Problem]:
    """Whether exactly one installed package has this entry point."""
    installed = entry_points(group=group)
    found = [one for one in installed if one.name == name]
    if not found:
        others = ", ".join(sorted({one.name for one in installed}))
        yield Problem(
            key,
            f"is {name!r}, which no package in runnerd's environment has in {group}; "
            + (f"there are: {others}" if others else "there is none at all: install the package beside runnerd"),
        )
    elif len(found) > 1:
        packages = ", ".join(sorted(one.dist.name if one.dist is not None else "?" for one in found))
        yield Problem(key, f"is {name!r}, which several packages have ({packages}): leave only one of them installed")


def check_custom(plugins: Mapping[str, Sequence[Trigger]], producers: Collection[str]) -> Iterator[Problem]:
    """Whether somebody fires each custom trigger of the plugins."""
    for name, triggers in plugins.items():
        for i, trigger in enumerate(triggers):
            if isinstance(trigger, Custom) and (problem := custom_problem(trigger, producers)) is not None:
                missing = f"producers.{trigger.producer}"
                yield Problem(f"plugins.{name}.triggers[{i}].producer", problem, missing=missing)


def custom_problem(trigger: Custom, producers: Collection[str]) -> str | None:
    """That nobody fires it, if its producer is not there."""
    if trigger.producer in producers:
        return None
    return f"there is no [producers.{trigger.producer}]; there are: {', '.join(sorted(producers)) or 'none'}"

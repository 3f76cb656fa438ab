"""Whom a notification calls, so that no consumer announces results that would call their own plugin again. Pure."""

from collections.abc import Mapping, Sequence

from protocol.messages import TriggerKind
from protocol.triggers import Event, Trigger
from runnerd.config.routing import AlwaysRoute, RouterConfig


def find_called(channel: str, triggers: Mapping[str, Sequence[Trigger]], router: RouterConfig) -> list[str]:
    """The plugins that a notification on `channel` calls: by a trigger, by a copy of that call, or as the fallback.

    `triggers` by plugin, as far as they are known: those of a class say only its worker.
    """
    called = {name for name, its in triggers.items() if any(_is_heard(trigger, channel) for trigger in its)}
    if router.fallback is not None and channel in router.fallback.topics:
        called.add(router.fallback.plugin)
    if called:
        called |= {route.plugin for route in router.always if _is_copied(route, channel)}
    return sorted(called)


def find_echo(channel: str, heard: Sequence[str], called: Sequence[str]) -> str | None:
    """Why results of `heard` (all plugins, if there is none) must not be announced on a channel that calls `called`."""
    again = [name for name in called if not heard or name in heard]
    if not again:
        return None
    return f"{channel} calls {', '.join(again)} again with each of its results, without end: take another channel"


def _is_heard(trigger: Trigger, channel: str) -> bool:
    return isinstance(trigger, Event) and trigger.mode == "notify" and trigger.topic == channel


def _is_copied(route: AlwaysRoute, channel: str) -> bool:
    is_kind = not route.triggers or TriggerKind.EVENT in route.triggers
    return is_kind and (not route.topics or channel in route.topics)

"""Whom a notification calls: by triggers, by copies of what these make, and as the fallback."""

import pytest

from protocol.messages import TriggerKind
from protocol.triggers import Cron, Event, Trigger
from runnerd.config.routing import AlwaysRoute, FallbackRoute, RouterConfig
from runnerd.consumers.echo import find_called, find_echo

HEARS: dict[str, tuple[Trigger, ...]] = {"alpha": (Cron(every_seconds=1), Event(topic="trades")), "beta": ()}
OUTBOX: dict[str, tuple[Trigger, ...]] = {"alpha": (Event(topic="trades", mode="outbox"),)}
FALLBACK = RouterConfig(fallback=FallbackRoute(plugin="beta", topics=("trades",)))


def copies(**keys: object) -> RouterConfig:
    return RouterConfig(always=(AlwaysRoute(plugin="beta", **keys),))  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("triggers, router, called", [
    (HEARS, RouterConfig(), ["alpha"]),
    (OUTBOX, RouterConfig(), []),
    ({}, FALLBACK, ["beta"]),
    (HEARS, copies(), ["alpha", "beta"]),
    (HEARS, copies(triggers=(TriggerKind.EVENT,), topics=("trades",)), ["alpha", "beta"]),
    (HEARS, copies(topics=("other",)), ["alpha"]),
    (HEARS, copies(triggers=(TriggerKind.CRON,)), ["alpha"]),
    ({}, copies(), []),
])  # fmt: skip
def test_a_notification_calls(
    triggers: dict[str, tuple[Trigger, ...]], router: RouterConfig, called: list[str]
) -> None:
    """Rows of an outbox are no notifications; and a copy needs an original."""
    assert find_called("trades", triggers, router) == called
    assert find_called("others", triggers, RouterConfig()) == []


def test_only_who_is_heard_of_can_be_called_by_its_own_result() -> None:
    """A consumer of other plugins' results may call this one: that is what a channel is for."""
    assert find_echo("trades", (), ["alpha"]) is not None
    assert find_echo("trades", ("alpha", "beta"), ["alpha"]) is not None
    assert find_echo("trades", ("beta",), ["alpha"]) is None
    assert find_echo("trades", (), []) is None

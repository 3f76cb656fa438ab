"""From one notification to JobCalls: whose triggers take it, and what is made of one that nobody takes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from protocol.messages import TriggerKind
from protocol.triggers import Event
from runnerd.store.calls import NewCall
from runnerd.triggers import where
from runnerd.triggers.source import source_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one plugin wants of a topic."""

    trigger: Event
    call_deadline: timedelta


@dataclass(frozen=True, slots=True)
class Heard:
    """A notification. `event` names it, once for all time."""

    event: str
    topic: str
    payload: str
    at: datetime


def calls_of(heard: Heard, plugins: Mapping[str, Sequence[Wanted]]) -> list[NewCall]:
    """One call for each trigger that takes it."""
    is_filtered = any(wanted.trigger.where for its in plugins.values() for wanted in its)
    value = where.read(heard.payload) if is_filtered else where.NOT_JSON
    return [
        _call(heard, plugin, wanted)
        for plugin, its in plugins.items()
        for wanted in its
        if where.matches(wanted.trigger.where, value)
    ]


def untaken(heard: Heard) -> NewCall:
    """The call for one that no trigger takes: to nobody, so that the router's fallback gets it, with its deadline."""
    return NewCall(
        plugin="",
        trigger=TriggerKind.EVENT,
        identity=heard.event,
        principal=f"pg:{heard.topic}",
        due_at=heard.at,
        fired_at=heard.at,
        deadline_at=heard.at,
        topic=heard.topic,
        payload=heard.payload,
        event=heard.event,
    )


def _call(heard: Heard, plugin: str, wanted: Wanted) -> NewCall:
    source = source_of(wanted.trigger)
    return NewCall(
        plugin=plugin,
        trigger=TriggerKind.EVENT,
        identity=f"{heard.event} {source}",
        principal=f"pg:{heard.topic}",
        due_at=heard.at,
        fired_at=heard.at,
        deadline_at=heard.at + wanted.call_deadline,
        topic=heard.topic,
        payload=heard.payload,
        source=source,
        job=wanted.trigger.job,
        overlap=wanted.trigger.overlap,
        is_fresh=True,
        event=heard.event,
    )

"""From events of an outbox to JobCalls: which of a plugin's triggers an event is for, and how many fit. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from protocol.limits import MAX_PAYLOAD_LENGTH
from protocol.messages import TriggerKind
from protocol.trigger import DEFAULT_JOB
from protocol.triggers import Event
from runnerd.store.calls import NewCall
from runnerd.triggers import where
from runnerd.triggers.outbox_link import Row
from runnerd.triggers.source import source_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a plugin wants of a topic."""

    plugin: str
    topic: str
    triggers: tuple[Event, ...]
    call_deadline: timedelta

    @property
    def jobs(self) -> frozenset[str]:
        """Those that its triggers call."""
        return frozenset(trigger.job for trigger in self.triggers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """An event, and what calls carry of it: its payload, or what stands for one that is too large.

    `value` is the payload as JSON, as far as anybody wants to look at it.
    """

    row: Row
    carried: str
    value: object = where.NOT_JSON
    is_large: bool = False
    is_unread: bool = False
    """It is too large to be looked at at all: filters let it pass, since a plugin can do without an event that it did
    not want, and not without one that it did."""


def examine(row: Row, whole: str | None, *, is_filtered: bool) -> Examined:
    """`whole` is the payload of a row that came without one, None if that is too large to be read."""
    payload = row.payload if row.payload is not None else whole
    is_large = payload is None or len(payload) > MAX_PAYLOAD_LENGTH
    return Examined(
        row=row,
        carried=reference(row) if payload is None or is_large else payload,
        is_large=is_large,
        value=where.read(payload) if is_filtered and payload is not None else where.NOT_JSON,
        is_unread=payload is None,
    )


def reference(row: Row) -> str:
    """What a call carries in place of a payload of more than MAX_PAYLOAD_LENGTH characters."""
    return msgspec.json.encode({"outbox_event": row.id, "payload_bytes": row.size}).decode()


def calls_of(
    wanted: Wanted, events: Sequence[Examined], outbox: str, room: int, now: datetime
) -> tuple[list[NewCall], int]:
    """The calls for the first events, and how many events that were: no more than make `room` calls.

    Never half an event; but the first one even if its calls are more than the room, unless there is none at all.
    """
    made: list[NewCall] = []
    for count, event in enumerate(events):
        its = [
            _call(wanted, trigger, event, outbox, now)
            for trigger in wanted.triggers
            if event.is_unread or where.matches(trigger.where, event.value)
        ]
        if len(made) + len(its) > room and (made or room <= 0):
            return made, count
        made += its
    return made, len(events)


def _call(wanted: Wanted, trigger: Event, event: Examined, outbox: str, now: datetime) -> NewCall:
    return NewCall(
        plugin=wanted.plugin,
        trigger=TriggerKind.EVENT,
        identity=identity_of(trigger, outbox, event.row.id),
        principal=f"outbox:{wanted.topic}",
        due_at=event.row.created_at,
        fired_at=now,
        deadline_at=now + wanted.call_deadline,
        topic=wanted.topic,
        payload=event.carried,
        source=_source(trigger, event.row.key),
        job=trigger.job,
        overlap=trigger.overlap,
        is_owed=True,
        event=f"outbox {outbox[:8]} {trigger.topic} {event.row.id}",
    )


def _source(trigger: Event, key: str | None) -> str:
    """Calls overlap within their source: so `queue`, `skip` and `coalesce` hold for each key by itself."""
    return source_of(trigger) if key is None else f"{source_of(trigger)} key {key}"


def identity_of(trigger: Event, outbox: str, event_id: int) -> str:
    """Once per event, and per trigger of a plugin. The outbox is in it: another one begins to count at 1 again."""
    return f"outbox {outbox[:8]} {trigger.topic} {event_id}{_mark(trigger.where, trigger.job, source_of(trigger))}"


def _mark(wanted: Mapping[str, object], job: str, source: str) -> str:
    """Short, whatever the trigger filters: an index entry has its bound."""
    if not wanted and job == DEFAULT_JOB:
        return ""
    return f" for {hashlib.sha256(source.encode()).hexdigest()[:12]}"

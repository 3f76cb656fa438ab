"""The stable name of a trigger: part of its calls' identities and of its cursor, and what `status` shows."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from protocol.trigger import DEFAULT_JOB
from protocol.triggers import Block, Cron, Custom, Event, Log, Metric, Trigger, Webhook
from runnerd.triggers.schedule import key_of

TWICE: Final = "stands twice: leave one out, or let them differ by job or filter"
MAX_LENGTH: Final = 400
"""Filters and addresses may be long; an identity must fit into an entry of an index, and an origin into a frame."""


def source_of(trigger: Trigger) -> str:
    """As short as it can be, and another one for each trigger that a plugin can have beside it."""
    source = f"{_of(trigger)} > {trigger.job}" if trigger.job != DEFAULT_JOB else _of(trigger)
    if len(source) <= MAX_LENGTH:
        return source
    return f"{source[:MAX_LENGTH]} … {hashlib.sha256(source.encode()).hexdigest()[:16]}"


def doubled(triggers: Sequence[Trigger]) -> Trigger | None:
    """One that stands twice, if any does: each call of it would come twice. `overlap` and the like tell none apart."""
    seen: set[str] = set()
    for trigger in triggers:
        source = source_of(trigger)
        if source in seen:
            return trigger
        seen.add(source)
    return None


def _of(trigger: Trigger) -> str:
    match trigger:
        case Cron():
            return key_of(trigger)
        case Event():
            kind = "event" if trigger.mode == "notify" else "outbox"
            return f"{kind} {trigger.topic}{_where(trigger.where)}"
        case Block():
            return f"block{_on(trigger.chain)} every {trigger.every}{_deep(trigger.confirmations)}"
        case Log():
            addresses = ",".join(sorted(address.lower() for address in trigger.addresses))
            deep = _deep(trigger.confirmations)
            return f"log{_on(trigger.chain)} {trigger.event} of {addresses}{_where(trigger.where)}{deep}"
        case Metric():
            read = msgspec.json.encode([trigger.read.name, trigger.read.args]).decode()
            every = f"{trigger.every_blocks}" if trigger.every_seconds is None else f"{trigger.every_seconds:f} s"
            return f"metric {read} {_bound(trigger)} every {every}"
        case Webhook():
            return "webhook"
        case Custom():
            return f"custom {trigger.producer}{_where(trigger.options)}"


def _on(chain: str | None) -> str:
    return f" on {chain}" if chain is not None else ""


def _deep(confirmations: int) -> str:
    return f" {confirmations} deep" if confirmations else ""


def _where(where: Mapping[str, object]) -> str:
    return f" where {msgspec.json.encode(dict(sorted(where.items()))).decode()}" if where else ""


def _bound(trigger: Metric) -> str:
    if trigger.change_bps is not None:
        return f"changes by {trigger.change_bps} bps"
    bound = f"above {trigger.above}" if trigger.above is not None else f"below {trigger.below}"
    return f"{bound} by {trigger.hysteresis}" if trigger.hysteresis else bound

"""A plugin that follows a topic of an outbox: where it is, and what `runnerctl outbox status` shows of it."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg

from runnerd.triggers.outbox_calls import Wanted
from runnerd.triggers.outbox_link import Lag, open_link
from runnerd.triggers.outbox_position import Position, key_of, plugin_of, topic_of


@dataclass(slots=True)
class Follower:
    """A plugin on one topic. `position` is None until it is known."""

    wanted: Wanted
    position: Position | None = None
    is_behind: bool = True
    """There may be more for it."""
    refused: str = ""
    """Why the ledger did not take its calls."""
    retry_at: float = 0.0

    @property
    def key(self) -> str:
        return key_of(self.wanted.plugin, self.wanted.topic)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerView:
    """How far a plugin has come on a topic. `events` and `since` are of what waits for it, if the outbox answers."""

    plugin: str
    topic: str
    position: int | None
    events: int | None
    since: datetime | None
    waits_for: str


async def fetch_views(
    dsn: str, keys: Collection[str], places: Mapping[str, Position], why: Callable[[str], str]
) -> list[FollowerView]:
    """One for each key; `places` are the positions in the outbox that is there now, `why` what keeps a follower."""
    lags: dict[str, Lag] = {}
    with suppress(psycopg.Error, OSError):
        if places:
            async with open_link(dsn, asyncio.Event()) as link:
                asked = [(topic_of(key), place.id) for key, place in places.items()]
                lags = dict(zip(places, await link.fetch_lags(asked), strict=True))
    views = []
    for key in sorted(keys):
        place, lag = places.get(key), lags.get(key)
        views.append(
            FollowerView(
                plugin=plugin_of(key),
                topic=topic_of(key),
                position=place.id if place is not None else None,
                events=lag.events if lag is not None else None,
                since=lag.since if lag is not None else None,
                waits_for=why(key),
            )
        )
    return views

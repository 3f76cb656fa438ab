"""The producer of event triggers of mode `outbox`: who follows which topic, and a connection as long as anybody does.

How rows become calls is in `outbox_reading.py`; of the table and its ids `outbox.sql` tells.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

from protocol.triggers import Event, Trigger
from runnerd.clock import Clock
from runnerd.log import fields
from runnerd.services.metrics import Metrics
from runnerd.store import positions
from runnerd.store.ledger import Ledger
from runnerd.triggers.outbox_calls import Wanted
from runnerd.triggers.outbox_follower import Follower, FollowerView, fetch_views
from runnerd.triggers.outbox_link import open_link
from runnerd.triggers.outbox_position import NAME, Head, from_text, key_of
from runnerd.triggers.outbox_reading import Reading, open_reading
from runnerd.triggers.outbox_trouble import EXPECTED, reason_of
from runnerd.triggers.producer import Submit, Terms

logger = logging.getLogger("runnerd.outbox")

RECONNECT_S: Final = (0.05, 5.0)


class OutboxProducer:
    """A Producer that owns the connection to the outbox. It connects when somebody follows a topic."""

    name = NAME

    def __init__(self, dsn: str, router: Submit, store: Ledger, metrics: Metrics, clock: Clock) -> None:
        self._dsn = dsn
        self._router = router
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._followers: dict[str, Follower] = {}
        self._reading: Reading | None = None
        self._wake = asyncio.Event()
        self._trouble: str | None = None
        self.is_connected = False

    def serves(self, trigger: Trigger) -> bool:
        """Rows of the outbox."""
        return isinstance(trigger, Event) and trigger.mode == "outbox"

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        """Call `plugin` for the events of exactly these topics, from where it was; or from now on if it is new."""
        self.forget(plugin)
        by_topic: dict[str, list[Event]] = defaultdict(list)
        for trigger in triggers:
            if isinstance(trigger, Event):
                by_topic[trigger.topic].append(trigger)
        for topic, its in by_topic.items():
            wanted = Wanted(plugin=plugin, topic=topic, triggers=tuple(its), call_deadline=terms.call_deadline)
            self._followers[key_of(plugin, topic)] = follower = Follower(wanted)
            self._metrics.watch_outbox(plugin, topic, partial(self._behind, follower))
        self._wake.set()

    def forget(self, plugin: str) -> None:
        """Call `plugin` for nothing any more. Its positions stay: it goes on there when it is back."""
        for key in [key for key, follower in self._followers.items() if follower.wanted.plugin == plugin]:
            self._metrics.forget_outbox(plugin, self._followers.pop(key).wanted.topic)

    @property
    def trouble(self) -> str | None:
        """Nothing is lost meanwhile: events wait in the table."""
        if self._followers and self._trouble is not None:
            return self._trouble
        refused = [f"{one.key}: {one.refused}" for one in self._followers.values() if one.refused]
        return f"the ledger takes no calls for {'; '.join(refused)}" if refused else None

    def next_due(self, plugin: str) -> datetime | None:
        """Nobody knows."""
        return None

    @property
    def _head(self) -> Head | None:
        """Of the outbox, as it was seen last."""
        return self._reading.head if self._reading is not None else None

    def _behind(self, follower: Follower) -> int:
        """Ids between the last event that it has seen and the last of all: at least as many as events wait for it."""
        if self._head is None or follower.position is None or not follower.is_behind:
            return 0
        return max(0, self._head.newest - follower.position.id)

    def progress(self) -> str:
        """The last event of all, and who has not seen the last of its topics."""
        if not self._followers:
            return ""
        # What was seen may be pruned: then the table has none of it.
        seen = [one.position.id for one in self._followers.values() if one.position is not None]
        head = f"last event {max(self._head.newest, *seen, 0)}" if self._head is not None else "not read yet"
        behind = [
            f"{one.wanted.plugin} at {one.position.id} on {one.wanted.topic}{f' ({why})' if why else ''}"
            for _, one in sorted(self._followers.items())
            if one.position is not None and one.is_behind
            for why in [self._why(one)]
        ]
        return "; ".join([head, *(["behind: " + ", ".join(behind)] if behind else [])])

    async def view(self) -> list[FollowerView]:
        """All that have a position, also those whose plugin does not run, with what waits for each. Raises StoreError.

        What waits is asked over a connection of its own.
        """
        stored = {row["key"]: from_text(row["position"]) for row in await self._store.fetch(positions.positions(NAME))}
        places = {key: one for key, one in stored.items() if self._head is None or one.outbox == self._head.outbox}
        return await fetch_views(self._dsn, {*stored, *self._followers}, places, self._why_of)

    def _why_of(self, key: str) -> str:
        follower = self._followers.get(key)
        return self._why(follower) if follower is not None else "it does not run, or follows no more"

    def _why(self, follower: Follower) -> str:
        if follower.refused:
            return "the ledger refuses its calls"
        return "it takes no calls now" if self._router.room(follower.wanted.plugin, follower.wanted.jobs) <= 0 else ""

    async def run(self) -> None:
        """Until cancelled: connect, follow, and connect again when the connection is gone."""
        delay_s, longest_s = RECONNECT_S
        while True:
            while not self._followers:
                self._wake.clear()
                await self._wake.wait()
            try:
                async with open_link(self._dsn, self._wake) as link:
                    self._reading = await open_reading(link, self._followers, self._router, self._store, self._clock)
                    await self._reading.follow(self._wake, self._on_begun)
            except Exception as error:  # of libpq, of the network, or a defect of ours: following must not end with it
                if self.is_connected:
                    delay_s = RECONNECT_S[0]
                self.is_connected = False
                reason = reason_of(error)
                if reason != self._trouble:
                    logger.warning(
                        "the outbox is not read; its events wait: %s", reason,
                        exc_info=None if isinstance(error, EXPECTED) else error,
                        extra=fields("outbox_lost", reason=reason),
                    )  # fmt: skip
                self._trouble = reason
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)

    def _on_begun(self, head: Head) -> None:
        if not self.is_connected:
            logger.info(
                "following the outbox from event %d on", head.newest,
                extra=fields("outbox_followed", outbox=head.outbox, newest=head.newest),
            )  # fmt: skip
        self.is_connected, self._trouble = True, None

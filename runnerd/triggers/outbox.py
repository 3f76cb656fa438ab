"""Fires event triggers of mode `outbox`: rows of a table become calls, none lost, none twice, in the table's order.

The table is the truth, its notification only the doorbell. What was read and the calls made of it are one commit, and a
plugin that takes no calls now leaves its events in the table. Of the table and its ids `outbox.sql` tells.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from protocol.triggers import Event, Trigger
from runnerd.clock import Clock
from runnerd.crash_points import reached
from runnerd.log import fields
from runnerd.services.metrics import Metrics
from runnerd.store import positions
from runnerd.store.errors import CommitRefused
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement
from runnerd.triggers.outbox_calls import Examined, Wanted, calls_of
from runnerd.triggers.outbox_examining import examine_row
from runnerd.triggers.outbox_follower import Follower, FollowerView, fetch_views
from runnerd.triggers.outbox_link import OutboxLink, open_link
from runnerd.triggers.outbox_position import Head, Position, end_of, from_text, key_of, setback, to_text
from runnerd.triggers.outbox_trouble import EXPECTED, OutboxSetBack, reason_of
from runnerd.triggers.producer import Submit, Terms

logger = logging.getLogger("runnerd.outbox")

NAME: Final = "outbox"
PROBE_EVERY_S: Final = 3.0
"""How often the table is looked at though nobody has rung: a doorbell may be broken, and the connection dead."""
FULL_EVERY_S: Final = 0.01
STUCK_EVERY_S: Final = 0.1
"""How often a plugin that took no more is asked again: while events move, and once none has for a second."""
BUSY_S: Final = 1.0
REFUSED_EVERY_S: Final = 30.0
"""How often calls that the ledger refused are tried again."""
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
        self._positions: dict[str, Position] | None = None
        self._wake = asyncio.Event()
        self._head: Head | None = None
        self._moved_at = 0.0
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

    def _behind(self, follower: Follower) -> int:
        """Ids between the last event that it has seen and the last of all: at least as many as events wait for it."""
        if self._head is None or follower.position is None or not follower.is_behind:
            return 0
        return max(0, self._head.newest - follower.position.id)

    def progress(self) -> str:
        """The last event of all, and who has not seen the last of its topics."""
        if not self._followers:
            return ""
        head = f"last event {self._head.newest}" if self._head is not None else "not read yet"
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
                    await self._follow(link)
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

    async def _follow(self, link: OutboxLink) -> None:
        """Until the link breaks."""
        loop = asyncio.get_running_loop()
        self._head = await link.fetch_head()
        self._positions = {}
        for row in await self._store.fetch(positions.positions(NAME)):
            self._positions[row["key"]] = from_text(row["position"])
        for follower in self._followers.values():
            # Looked at anew: this may be another outbox than before, and nobody has heard it ring meanwhile.
            follower.position, follower.is_behind = None, True
        probe_at = loop.time() + PROBE_EVERY_S
        while True:
            self._wake.clear()
            if any(follower.position is None for follower in self._followers.values()):
                await self._begin(link)
                self._on_connected()
            rung = link.take_rung()
            self._mark_behind(rung)
            if loop.time() >= probe_at:
                await self._probe(link)
                probe_at = loop.time() + PROBE_EVERY_S
            if await self._deliver(link) or self._wake.is_set():
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._patience_s(), probe_at - loop.time())):
                    await self._wake.wait()

    def _patience_s(self) -> float:
        if not any(follower.is_behind for follower in self._followers.values()):
            return PROBE_EVERY_S
        is_busy = asyncio.get_running_loop().time() - self._moved_at < BUSY_S
        return FULL_EVERY_S if is_busy else STUCK_EVERY_S

    def _on_connected(self) -> None:
        if not self.is_connected:
            assert self._head is not None
            logger.info(
                "following the outbox from event %d on", self._head.newest,
                extra=fields("outbox_followed", outbox=self._head.outbox, newest=self._head.newest),
            )  # fmt: skip
        self.is_connected, self._trouble = True, None

    async def _probe(self, link: OutboxLink) -> None:
        """Is anybody there, and is there anything that nobody has rung for?"""
        before, self._head = self._head, await link.fetch_head()
        if before is None or before.outbox != self._head.outbox or self._head.given < before.given:
            raise OutboxSetBack("the outbox was changed")  # which of the two is found out by who connects anew
        if self._head.newest != before.newest:
            self._mark_behind({follower.wanted.topic for follower in self._followers.values()})

    def _saw(self, event_id: int) -> None:
        assert self._head is not None
        self._head = replace(
            self._head, given=max(self._head.given, event_id), newest=max(self._head.newest, event_id)
        )  # fmt: skip

    def _mark_behind(self, topics: Collection[str]) -> None:
        for follower in self._followers.values():
            if follower.wanted.topic in topics:
                follower.is_behind = True

    # --- where to go on ----------------------------------------------------------------------------------------------

    async def _begin(self, link: OutboxLink) -> None:
        """Give each follower its position; one that has none begins at the end, from now on and for good."""
        assert self._positions is not None
        self._head = head = await link.fetch_head()
        fresh: list[Follower] = []
        for follower in [follower for follower in self._followers.values() if follower.position is None]:
            known = self._positions.get(follower.key)
            if known is not None and known.outbox == head.outbox:
                reason = setback(known, head, await link.fetch_created_at(known.id))
                if reason is not None:
                    raise OutboxSetBack(f"{reason}: was the event database restored from a backup?")
                follower.position = known
            else:
                if known is not None:
                    logger.warning(
                        "%s follows another outbox from now on, from its end", follower.key,
                        extra=fields("outbox_replaced", plugin=follower.wanted.plugin, topic=follower.wanted.topic,
                                     former=known.outbox, outbox=head.outbox, newest=head.newest),
                    )  # fmt: skip
                fresh.append(follower)
        if fresh:
            end = end_of(head)
            await self._router.submit([], *(self._move(follower, end) for follower in fresh))
            for follower in fresh:
                follower.position = self._positions[follower.key] = end
                logger.info(
                    "%s is called for what comes on %s after event %d", follower.wanted.plugin, follower.wanted.topic,
                    end.id, extra=fields("outbox_begun", plugin=follower.wanted.plugin, topic=follower.wanted.topic,
                                         after=end.id),
                )  # fmt: skip

    def _move(self, follower: Follower, position: Position) -> Statement:
        return positions.move(NAME, follower.key, to_text(position), self._clock.now())

    # --- from rows to calls ------------------------------------------------------------------------------------------

    async def _deliver(self, link: OutboxLink) -> bool:
        """The next events of one group of followers after the other; whether anything moved."""
        has_moved = False
        for topic in sorted({one.wanted.topic for one in self._followers.values() if self._can_move(one)}):
            group = self._first_group(topic)
            if group:
                has_moved = await self._deliver_to(link, topic, group) or has_moved
        return has_moved

    def _can_move(self, follower: Follower) -> bool:
        now = asyncio.get_running_loop().time()
        return (
            follower.is_behind
            and follower.position is not None
            and now >= follower.retry_at
            and self._router.room(follower.wanted.plugin, follower.wanted.jobs) > 0
        )

    def _first_group(self, topic: str) -> list[Follower]:
        """Those of a topic that have come least far, and stand at one place: they share what is read."""
        able = [one for one in self._followers.values() if one.wanted.topic == topic and self._can_move(one)]
        lowest = min((one.position.id for one in able if one.position is not None), default=0)
        return [one for one in able if one.position is not None and one.position.id == lowest]

    async def _deliver_to(self, link: OutboxLink, topic: str, group: Sequence[Follower]) -> bool:
        assert group[0].position is not None
        rows, is_end = await link.fetch_rows(topic, group[0].position.id)
        if not rows:
            for follower in group:
                follower.is_behind = False
            return False
        self._saw(rows[-1].id)
        is_filtered = any(trigger.where for follower in group for trigger in follower.wanted.triggers)
        events = [await examine_row(link, row, is_filtered=is_filtered) for row in rows]
        reached("outbox.read")
        try:
            return await self._submit(group, events, is_end=is_end)
        except CommitRefused:  # of one of them, and that must not keep the others
            return any([await self._submit([follower], events, is_end=is_end) for follower in group])

    async def _submit(self, group: Sequence[Follower], events: Sequence[Examined], *, is_end: bool) -> bool:
        """One commit: the calls, and how far each has come. Nothing waits between asking for room and the router."""
        assert self._head is not None
        assert self._positions is not None
        now = self._clock.now()
        calls, moves, targets = [], [], []
        for follower in group:
            room = max(0, self._router.room(follower.wanted.plugin, follower.wanted.jobs))
            made, count = calls_of(follower.wanted, events, self._head.outbox, room, now)
            if count:
                last = events[count - 1].row
                target = Position(outbox=self._head.outbox, id=last.id, at=last.created_at)
                calls += made
                moves.append(self._move(follower, target))
                targets.append((follower, target, is_end and count == len(events)))
        if not targets:
            return False
        try:
            await self._router.submit(calls, *moves)
        except CommitRefused as error:
            if len(group) > 1:
                raise
            self._on_refused(group[0], str(error))
            return False
        self._moved_at = asyncio.get_running_loop().time()
        for follower, target, is_all in targets:
            follower.position = self._positions[follower.key] = target
            follower.is_behind, follower.refused = not is_all, ""
        return True

    def _on_refused(self, follower: Follower, reason: str) -> None:
        follower.refused = reason
        follower.retry_at = asyncio.get_running_loop().time() + REFUSED_EVERY_S
        logger.error(
            "the ledger takes no calls for %s: %s", follower.key, reason,
            extra=fields("outbox_refused", plugin=follower.wanted.plugin, topic=follower.wanted.topic),
        )  # fmt: skip

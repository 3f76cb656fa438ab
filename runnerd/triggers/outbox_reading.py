"""Reads one outbox over one connection: rows become calls, none lost, none twice, in the table's order.

The table is the truth, its notification only the doorbell. What was read and the calls made of it are one commit, and a
plugin that takes no calls now leaves its events in the table.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from runnerd.clock import Clock
from runnerd.crash_points import reached
from runnerd.log import fields
from runnerd.store import positions
from runnerd.store.errors import CommitRefused
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement
from runnerd.triggers.outbox_calls import Examined, calls_of
from runnerd.triggers.outbox_examining import examine_row
from runnerd.triggers.outbox_follower import Follower
from runnerd.triggers.outbox_link import OutboxLink
from runnerd.triggers.outbox_position import NAME, Head, Position, end_of, from_text, setback, to_text
from runnerd.triggers.outbox_trouble import OutboxSetBack
from runnerd.triggers.producer import Submit

logger = logging.getLogger("runnerd.outbox")

PROBE_EVERY_S: Final = 3.0
"""How often the table is looked at though nobody has rung: a doorbell may be broken, and the connection dead."""
FULL_EVERY_S: Final = 0.01
STUCK_EVERY_S: Final = 0.1
"""How often a plugin that took no more is asked again: while events move, and once none has for a second."""
BUSY_S: Final = 1.0
REFUSED_EVERY_S: Final = 30.0
"""How often calls that the ledger refused are tried again."""


async def open_reading(
    link: OutboxLink, followers: Mapping[str, Follower], router: Submit, store: Ledger, clock: Clock
) -> "Reading":
    """A reading of what `link` leads to, for `followers`, of whom some may come and go meanwhile.

    All are looked at anew: this may be another outbox than before, and nobody has heard it ring meanwhile.
    """
    head = await link.fetch_head()
    stored = {row["key"]: from_text(row["position"]) for row in await store.fetch(positions.positions(NAME))}
    for follower in followers.values():
        follower.position, follower.is_behind = None, True
    return Reading(link, followers, head, stored, router, clock)


class Reading:
    """Of one outbox, until its connection breaks. `head` is its end as it was seen last."""

    def __init__(
        self,
        link: OutboxLink,
        followers: Mapping[str, Follower],
        head: Head,
        stored: Mapping[str, Position],
        router: Submit,
        clock: Clock,
    ) -> None:
        self._link = link
        self._followers = followers
        self.head = head
        self._positions = dict(stored)
        self._router = router
        self._clock = clock
        self._moved_at = 0.0

    async def follow(self, wake: asyncio.Event, on_begun: Callable[[Head], None]) -> None:
        """Until the link breaks: `wake` is set when something may have come; `on_begun` hears that all know where they
        are."""
        loop = asyncio.get_running_loop()
        probe_at = loop.time() + PROBE_EVERY_S
        while True:
            wake.clear()
            if any(follower.position is None for follower in self._followers.values()):
                await self._begin()
                on_begun(self.head)
            self._mark_behind(self._link.take_rung())
            if loop.time() >= probe_at:
                await self._probe()
                probe_at = loop.time() + PROBE_EVERY_S
            if await self._deliver() or wake.is_set():
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._patience_s(), probe_at - loop.time())):
                    await wake.wait()

    def _patience_s(self) -> float:
        if not any(follower.is_behind for follower in self._followers.values()):
            return PROBE_EVERY_S
        is_busy = asyncio.get_running_loop().time() - self._moved_at < BUSY_S
        return FULL_EVERY_S if is_busy else STUCK_EVERY_S

    async def _probe(self) -> None:
        """Is anybody there, and is there anything that nobody has rung for?"""
        before, self.head = self.head, await self._link.fetch_head()
        if before.outbox != self.head.outbox or self.head.given < before.given:
            raise OutboxSetBack("the outbox was changed")  # which of the two is found out by who connects anew
        if self.head.newest != before.newest:
            self._mark_behind({follower.wanted.topic for follower in self._followers.values()})

    def _saw(self, event_id: int) -> None:
        self.head = replace(
            self.head, given=max(self.head.given, event_id), newest=max(self.head.newest, event_id)
        )  # fmt: skip

    def _mark_behind(self, topics: Collection[str]) -> None:
        for follower in self._followers.values():
            if follower.wanted.topic in topics:
                follower.is_behind = True

    # --- where to go on ----------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Give each follower its position; one that has none begins at the end, from now on and for good."""
        self.head = head = await self._link.fetch_head()
        fresh: list[Follower] = []
        for follower in [follower for follower in self._followers.values() if follower.position is None]:
            known = self._positions.get(follower.key)
            if known is not None and known.outbox == head.outbox:
                reason = setback(known, head, await self._link.fetch_created_at(known.id))
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

    async def _deliver(self) -> bool:
        """The next events of one group of followers after the other; whether anything moved."""
        has_moved = False
        for topic in sorted({one.wanted.topic for one in self._followers.values() if self._can_move(one)}):
            group = self._first_group(topic)
            if group:
                has_moved = await self._deliver_to(topic, group) or has_moved
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

    async def _deliver_to(self, topic: str, group: Sequence[Follower]) -> bool:
        assert group[0].position is not None
        rows, is_end = await self._link.fetch_rows(topic, group[0].position.id)
        if not rows:
            for follower in group:
                follower.is_behind = False
            return False
        self._saw(rows[-1].id)
        is_filtered = any(trigger.where for follower in group for trigger in follower.wanted.triggers)
        events = [await examine_row(self._link, row, is_filtered=is_filtered) for row in rows]
        reached("outbox.read")
        try:
            return await self._submit(group, events, is_end=is_end)
        except CommitRefused:  # of one of them, and that must not keep the others
            return any([await self._submit([follower], events, is_end=is_end) for follower in group])

    async def _submit(self, group: Sequence[Follower], events: Sequence[Examined], *, is_end: bool) -> bool:
        """One commit: the calls, and how far each has come. Nothing waits between asking for room and the router."""
        now = self._clock.now()
        calls, moves, targets = [], [], []
        for follower in group:
            room = max(0, self._router.room(follower.wanted.plugin, follower.wanted.jobs))
            made, count = calls_of(follower.wanted, events, self.head.outbox, room, now)
            if count:
                last = events[count - 1].row
                target = Position(outbox=self.head.outbox, id=last.id, at=last.created_at)
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

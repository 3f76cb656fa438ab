"""Fires event triggers: PostgreSQL notifications on the topics that plugins declare, over one LISTEN connection.

A plain notification is lossless only while this connection stands; a gap is logged when it did not. The payload is
never trusted as more than text.
"""

import asyncio
import logging
import os
import socket
import uuid
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import LiteralString

import psycopg
from psycopg import AsyncConnection, sql

from protocol.triggers import Event, Trigger
from runnerd.clock import Clock
from runnerd.errors import explain
from runnerd.log import fields
from runnerd.services.metrics import Metrics
from runnerd.store.errors import StoreError
from runnerd.store.reason import connect_reason
from runnerd.triggers.event_calls import Heard, Wanted, calls_of, untaken
from runnerd.triggers.producer import Submit, Terms

logger = logging.getLogger("runnerd.events")

PROBE_EVERY_S = 3.0
PROBE_DEADLINE_S = 3.0
RECONNECT_S = (0.05, 5.0)
ADJUST_EVERY_S = 0.05
"""Topics of plugins that start one after the other are listened to in groups: each LISTEN is a commit."""
MAX_HEARD = 10_000
"""Notifications that wait here at most while the ledger is away; the next ones wait in PostgreSQL."""
MAX_GROUP = 256
"""JobCalls committed at once when notifications come faster than commits; and topics that are listened to at once."""


class EventProducer:
    """A Producer that owns the LISTEN connection."""

    name = "event"

    def __init__(
        self,
        dsn: str,
        router: Submit,
        clock: Clock,
        metrics: Metrics | None = None,
        also: Collection[str] = (),
    ) -> None:
        """`also`: topics to listen to for the router's fallback, which gets what no trigger takes of them."""
        self._dsn = dsn
        self._router = router
        self._clock = clock
        self._metrics = metrics
        self._topics: dict[str, dict[str, list[Wanted]]] = {}
        self._also = frozenset(also)
        self._heard: deque[tuple[str, str]] = deque()
        self._wake = asyncio.Event()
        self._listening: set[str] = set()
        self._is_reading = False
        self._stream = uuid.uuid4().hex
        self._count = 0
        self._deaf_since: datetime | None = None
        self._alive_at: datetime | None = None
        self._gaps = 0
        self._last_gap = ""
        self.is_connected = False

    def serves(self, trigger: Trigger) -> bool:
        """Plain notifications."""
        return isinstance(trigger, Event) and trigger.mode == "notify"

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        """Call `plugin` for notifications on exactly these topics."""
        self.forget(plugin)
        for trigger in triggers:
            if isinstance(trigger, Event):
                wanted = self._topics.setdefault(trigger.topic, {}).setdefault(plugin, [])
                wanted.append(Wanted(trigger, terms.call_deadline))
        self._wake.set()

    def forget(self, plugin: str) -> None:
        """Call `plugin` for nothing any more."""
        for topic in [topic for topic, plugins in self._topics.items() if plugin in plugins]:
            del self._topics[topic][plugin]
            if not self._topics[topic]:
                del self._topics[topic]
        self._wake.set()

    @property
    def trouble(self) -> str | None:
        """While it does not listen notifications are lost."""
        return None if self.is_connected else "not listening: the event database is not reachable"

    def next_due(self, plugin: str) -> datetime | None:
        """Nobody knows."""
        return None

    def progress(self) -> str:
        """Notifications leave no trace."""
        if not self._channels:
            return ""
        gaps = f", {self._gaps} gaps, the last {self._last_gap}" if self._gaps else ""
        return f"{len(self._listening)} topics, {self._count} notifications{gaps}"

    async def run(self) -> None:
        """Until cancelled: connect, listen, and connect again when the connection is gone."""
        delay_s, longest_s = RECONNECT_S
        told = ""
        while True:
            try:
                await self._listen()
            except Exception as error:  # of libpq, of the network, or a defect of ours: listening must not end with it
                lost_at = self._clock.now()
                if self.is_connected:
                    delay_s = RECONNECT_S[0]
                if self._deaf_since is None and self._channels:
                    # The last that is known to have been heard: what was sent behind that may be lost.
                    self._deaf_since = self._alive_at or lost_at
                reason = _reason(error)
                if self.is_connected or reason != told:  # not at each trial: an outage may be long
                    logger.warning(
                        "not listening; notifications sent now are lost: %s", reason,
                        exc_info=None if isinstance(error, psycopg.Error | OSError) else error,
                        extra=fields("listen_lost", since=lost_at.isoformat(), topics=sorted(self._channels)),
                    )  # fmt: skip
                    told = reason
                self.is_connected = False
                self._listening.clear()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)

    async def _listen(self) -> None:
        async with await AsyncConnection.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=5,
            client_encoding="utf8",
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=2,
        ) as connection:
            self.is_connected = True
            connection.add_notify_handler(self._on_notify)
            loop = asyncio.get_running_loop()
            # A descriptor of our own: libpq closes its one when the connection breaks, and the next who opens something
            # gets that number. Removing a reader by it would then be removing theirs.
            fd = os.dup(connection.fileno())
            try:
                self._read_on(connection, fd)
                await self._serve(connection, fd)
            finally:
                loop.remove_reader(fd)
                os.close(fd)

    def _read_on(self, connection: AsyncConnection[tuple[object, ...]], fd: int) -> None:
        self._is_reading = True
        asyncio.get_running_loop().add_reader(fd, self._on_readable, connection, fd)

    async def _serve(self, connection: AsyncConnection[tuple[object, ...]], fd: int) -> None:
        loop = asyncio.get_running_loop()
        adjust_at = loop.time()
        while True:
            self._wake.clear()
            if self._is_behind and loop.time() >= adjust_at:
                await self._adjust(connection, fd)
                adjust_at = loop.time() + ADJUST_EVERY_S
            if self._heard:
                await self._fire()
                if not self._is_reading and len(self._heard) < MAX_HEARD:
                    self._read_on(connection, fd)
                continue
            probe_at = loop.time() + PROBE_EVERY_S
            try:
                async with asyncio.timeout_at(adjust_at if self._is_behind else probe_at):
                    await self._wake.wait()
            except TimeoutError:
                if loop.time() >= probe_at:
                    # A half-open connection looks alive for minutes: ask it something.
                    await self._execute(connection, fd, sql.SQL("select 1"))

    @property
    def _is_behind(self) -> bool:
        return self._channels != self._listening

    @property
    def _channels(self) -> set[str]:
        return self._topics.keys() | self._also

    async def _adjust(self, connection: AsyncConnection[tuple[object, ...]], fd: int) -> None:
        """A group in one message: a thousand plugins that start would be a thousand round trips."""
        if wanted := sorted(self._channels - self._listening)[:MAX_GROUP]:
            await self._execute(connection, fd, _for_each("listen {}", wanted))
            self._listening.update(wanted)
            logger.info("listening on %s", ", ".join(wanted), extra=fields("listening", topics=wanted))
            if not self._is_behind:
                self._end_gap()
        if unwanted := sorted(self._listening - self._channels)[:MAX_GROUP]:
            await self._execute(connection, fd, _for_each("unlisten {}", unwanted))
            self._listening.difference_update(unwanted)

    def _end_gap(self) -> None:
        """All topics are listened to again: say what may have been lost meanwhile."""
        if self._deaf_since is None:
            return
        since, until = self._deaf_since, self._clock.now()
        self._deaf_since = None
        seconds = max(0.0, (until - since).total_seconds())
        self._gaps += 1
        self._last_gap = f"of {seconds:.1f} s until {until:%Y-%m-%d %H:%M:%S} UTC"
        if self._metrics is not None:
            self._metrics.listen_gap(seconds)
        logger.warning(
            "nobody listened for %.1f s: notifications sent in that time are lost", seconds,
            extra=fields("listen_gap", since=since.isoformat(), until=until.isoformat(), topics=sorted(self._channels)),
        )  # fmt: skip

    async def _execute(
        self, connection: AsyncConnection[tuple[object, ...]], fd: int, statement: sql.SQL | sql.Composed
    ) -> None:
        loop = asyncio.get_running_loop()
        # psycopg waits on the same socket itself while it executes.
        loop.remove_reader(fd)
        # Cancelling would make psycopg ask the server to cancel, and wait for that: a silent one is cut off instead.
        deadline = loop.call_later(PROBE_DEADLINE_S, _cut, fd)
        try:
            await connection.execute(statement)
        finally:
            deadline.cancel()
            if not connection.closed:
                self._read_on(connection, fd)
        self._alive_at = self._clock.now()
        self._hear_all(connection)  # what came right behind the answer is read already, and wakes nobody

    def _on_readable(self, connection: AsyncConnection[tuple[object, ...]], fd: int) -> None:
        """Straight from libpq: half the latency of the `notifies()` generator, and LISTEN stays possible meanwhile."""
        try:
            connection.pgconn.consume_input()
        except psycopg.Error:
            # The next statement on this connection raises and ends it; wake the loop so that this is now.
            asyncio.get_running_loop().remove_reader(fd)
            self._listening.clear()
            self._wake.set()
            return
        self._hear_all(connection)
        if len(self._heard) >= MAX_HEARD:
            asyncio.get_running_loop().remove_reader(fd)
            self._is_reading = False

    def _hear_all(self, connection: AsyncConnection[tuple[object, ...]]) -> None:
        while (notification := connection.pgconn.notifies()) is not None:
            self._hear(notification.relname.decode(errors="replace"), notification.extra.decode(errors="replace"))

    def _on_notify(self, notification: psycopg.Notify) -> None:
        """Notifications that came while psycopg itself was reading."""
        self._hear(notification.channel, notification.payload)

    def _hear(self, topic: str, payload: str) -> None:
        self._alive_at = self._clock.now()
        self._heard.append((topic, payload))
        self._wake.set()

    async def _fire(self) -> None:
        now = self._clock.now()
        new_calls = []
        for _ in range(min(len(self._heard), MAX_GROUP)):
            topic, payload = self._heard.popleft()
            self._count += 1
            heard = Heard(f"notify {self._stream} {self._count}", topic, payload, now)
            taken = calls_of(heard, self._topics.get(topic, {}))
            new_calls += taken or ([untaken(heard)] if topic in self._also else [])
        if not new_calls:
            return
        try:
            await self._router.submit(new_calls)
        except StoreError as error:
            logger.error("notifications are lost: %s", error, extra=fields("events_lost", calls=len(new_calls)))


def _for_each(statement: LiteralString, topics: Sequence[str]) -> sql.Composed:
    return sql.SQL("; ").join(sql.SQL(statement).format(sql.Identifier(topic)) for topic in topics)


def _reason(error: Exception) -> str:
    is_expected = isinstance(error, psycopg.Error | OSError)
    return connect_reason(error) if is_expected else explain(error)


def _cut(fd: int) -> None:
    """End the conversation: whoever waits on this socket hears that it is over."""
    with socket.socket(fileno=os.dup(fd)) as connected, suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)

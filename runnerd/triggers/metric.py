"""Fires metric triggers: a read of the vault's catalogue is taken at new blocks, or at slots of the clock as cron has
them, and calls when it crosses a bound.

Only values of now are seen: what was crossed and came back while nothing looked, or between two looks, calls for
nothing; and a reorg takes nothing back. When it looks and calls is `threshold`'s.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from protocol.messages import TriggerKind
from protocol.triggers import Metric, Trigger
from protocol.values import Value
from runnerd.chain.errors import ChainError
from runnerd.clock import Clock
from runnerd.log import fields
from runnerd.network import Network
from runnerd.store import positions
from runnerd.store.calls import NewCall
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.supervisor.context import Snapshot, SnapshotFailed, Snapshots
from runnerd.triggers.chain_producer import ChainProducer, Follower
from runnerd.triggers.producer import Submit, Terms
from runnerd.triggers.source import source_of
from runnerd.triggers.threshold import Level, due_slot, is_due, judge, slot_after

logger = logging.getLogger("runnerd.chain_triggers")

RETRY_S = (0.2, 10.0)
FULL_S = 0.1
"""Before the next look at a plugin that takes no call now: the value is taken when it does."""
WAIT_S = 1.0
UNSTORED = timedelta(seconds=10)
"""So far the slot in the ledger may lie behind while nothing came of the values: a commit for each, 20 times a second,
would tell no more. After a crash the value is taken once more than it was due, which does no harm."""


class MetricWatch:
    """A `Follower`: one metric trigger of one plugin."""

    def __init__(
        self,
        plugin: str,
        vault: str,
        trigger: Metric,
        network: Network,
        snapshots: Snapshots,
        router: Submit,
        store: Ledger,
        clock: Clock,
        call_deadline: timedelta,
    ) -> None:
        self.is_wanted = True
        self.call_deadline = call_deadline
        self._plugin = plugin
        self._vault = vault
        self._trigger = trigger
        self._source = source_of(trigger)
        self._network = network
        self._snapshots = snapshots
        self._router = router
        self._store = store
        self._clock = clock
        self._level: Level | None = None
        self._stored_slot: datetime | None = None
        self._value: int | None = None
        self._problem: str | None = None

    @property
    def key(self) -> str:
        """See Follower."""
        return f"{self._plugin} on {self._vault}: {self._source}"

    @property
    def trouble(self) -> str | None:
        """See Follower."""
        problem = self._problem or self._network.head.problem
        return None if problem is None else f"read {self._trigger.read.key} for {self._plugin}: {problem}"

    @property
    def behind(self) -> int:
        """It looks at the newest block alone."""
        return 0

    def progress(self) -> str:
        """See Follower."""
        read = f"{self._plugin} on {self._vault} {self._trigger.read.key}"
        if self._value is None or self._level is None:
            return f"{read} not taken yet"
        return f"{read} = {self._value} at {self._level.number:,}"

    async def begin(self) -> None:
        """See Follower. Without a position nothing is known of the past, and nothing stored."""
        if self._level is None:
            rows = await self._store.fetch(positions.position("metric", self.key))
            self._level = msgspec.json.decode(rows[0]["position"], type=Level) if rows else Level()
            self._stored_slot = self._level.slot

    def reload(self) -> None:
        """See Follower."""
        self._level = None

    async def run(self) -> None:
        """See Follower."""
        delay_s, longest_s = RETRY_S
        while self.is_wanted:
            head = self._network.head.latest
            try:
                await self.begin()
                if head is None:
                    head = await self._network.head.fetch()
                is_held = await self._look_if_due(head.number)
            except Exception as error:  # a producer's loop: one trigger's failure is not the others'
                self._tell(error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)
                continue
            self._problem, delay_s = None, RETRY_S[0]
            if is_held:
                await asyncio.sleep(FULL_S)
            elif self._trigger.every_seconds is None:
                await self._network.head.wait_change(head, WAIT_S)
            else:
                now = self._clock.now()
                left_s = (slot_after(self._trigger, now) - now).total_seconds()
                await asyncio.sleep(min(left_s, WAIT_S))

    async def _look_if_due(self, number: int) -> bool:
        """Whether the plugin takes no call now, and the value is due."""
        level = self._level
        assert level is not None  # it has begun
        if self._trigger.every_seconds is None:
            return is_due(self._trigger, level, number) and await self._look(level, None)
        slot = due_slot(self._trigger, level, self._clock.now())
        return slot is not None and await self._look(level, slot)

    async def _look(self, level: Level, slot: datetime | None) -> bool:
        """Take the value, for this slot if there are any. Whether the plugin takes no call now."""
        if not self._router.room(self._plugin, (self._trigger.job,)):
            return True
        snapshot = await self._snapshots.take(self._vault, [self._trigger.read])
        value = snapshot.reads[self._trigger.read.key]
        if not isinstance(value, int) or isinstance(value, bool):
            raise SnapshotFailed(f"it gives no integer: {value!r}")
        after, is_call = judge(self._trigger, level, value, snapshot.block.number)
        after = msgspec.structs.replace(after, slot=slot)
        if is_call and not self._router.room(self._plugin, (self._trigger.job,)):
            return True
        if not self.is_wanted:
            return False
        is_changed = (after.is_armed, after.base) != (level.is_armed, level.base)
        if is_call or is_changed or (slot is not None and self._is_long_unstored(slot)):
            now = self._clock.now()
            new_calls = [self._call(value, snapshot, slot)] if is_call else []
            position = msgspec.json.encode(after).decode()
            await self._router.submit(new_calls, positions.move("metric", self.key, position, now))
            self._stored_slot = slot
        self._level, self._value = after, value
        return False

    def _is_long_unstored(self, slot: datetime) -> bool:
        return self._stored_slot is None or abs(slot - self._stored_slot) >= UNSTORED

    def _call(self, value: Value, snapshot: Snapshot, slot: datetime | None) -> NewCall:
        now, block = self._clock.now(), snapshot.block
        payload = {
            "read": self._trigger.read.key,
            "value": value,
            "previous": self._value,
            "block": {"number": block.number, "hash": block.hash, "timestamp": block.timestamp},
        }
        return NewCall(
            plugin=self._plugin,
            trigger=TriggerKind.METRIC,
            identity=f"metric {block.hash if slot is None else f'@ {slot.isoformat()}'} {self._source}",
            principal=f"chain:{self._network.name}",
            due_at=slot or now,
            fired_at=now,
            deadline_at=now + self.call_deadline,
            payload=msgspec.json.encode(payload).decode(),
            source=self._source,
            job=self._trigger.job,
            overlap=self._trigger.overlap,
            block=block,
            is_owed=True,  # several triggers of a plugin may have found the same room
        )

    def _tell(self, error: Exception) -> None:
        is_expected = isinstance(error, ChainError | StoreError | SnapshotFailed)
        problem = str(error) if is_expected else f"internal error: {type(error).__name__}: {error}"
        if problem != self._problem:
            logger.warning(
                "%s waits: %s", self.key, problem, exc_info=None if is_expected else error,
                extra=fields("chain_trigger_waits", key=self.key),
            )  # fmt: skip
        self._problem = problem


class MetricProducer(ChainProducer):
    """A Producer for all vaults."""

    name = "metric"

    def __init__(
        self,
        networks: Mapping[str, Network],
        snapshots: Snapshots,
        router: Submit,
        store: Ledger,
        clock: Clock,
    ) -> None:
        super().__init__(networks, router, store, clock)
        self._snapshots = snapshots

    def serves(self, trigger: Trigger) -> bool:
        """Reads."""
        return isinstance(trigger, Metric)

    def _make(self, plugin: str, trigger: Trigger, terms: Terms) -> Follower:
        assert isinstance(trigger, Metric)  # it serves no other
        return MetricWatch(
            plugin, terms.vault, trigger, self._network(terms.chain), self._snapshots, self._router, self._store,
            self._clock, terms.call_deadline,
        )  # fmt: skip

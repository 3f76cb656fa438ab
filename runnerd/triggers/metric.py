"""Fires metric triggers: a read of the vault's catalogue is taken at new blocks, or at slots of the clock as cron has
them, and calls when it crosses a bound.

Only values of now are seen: what was crossed and came back while nothing looked, or between two looks, calls for
nothing; and a reorg takes nothing back. When it looks and calls is `threshold`'s.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from protocol.messages import TriggerKind
from protocol.triggers import Metric, Trigger
from protocol.values import Value
from runnerd.chain.types import Block
from runnerd.clock import Clock
from runnerd.network import Network
from runnerd.store import positions
from runnerd.store.calls import NewCall
from runnerd.store.ledger import Ledger
from runnerd.supervisor.context import Snapshot, SnapshotFailed, Snapshots
from runnerd.triggers.chain_producer import ChainProducer
from runnerd.triggers.follower import WAIT_S, Follower
from runnerd.triggers.producer import Submit, Terms
from runnerd.triggers.source import source_of
from runnerd.triggers.threshold import Level, due_slot, is_due, judge, slot_after

FULL_S = 0.1
"""Before the next look at a plugin that takes no call now: the value is taken when it does."""
UNSTORED = timedelta(seconds=10)
"""So far the slot in the ledger may lie behind while nothing came of the values: a commit for each, 20 times a second,
would tell no more. After a crash the value is taken once more than it was due, which does no harm."""


class MetricWatch(Follower):
    """One metric trigger."""

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
        super().__init__(network, router, store, clock, call_deadline)
        self._plugin = plugin
        self._vault = vault
        self._trigger = trigger
        self._source = source_of(trigger)
        self._snapshots = snapshots
        self._level: Level | None = None
        self._stored_slot: datetime | None = None
        self._value: int | None = None
        self._is_held = False

    @property
    def key(self) -> str:
        """See Follower."""
        return f"{self._plugin} on {self._vault}: {self._source}"

    @property
    def trigger(self) -> Trigger:
        """See Follower."""
        return self._trigger

    @property
    def _about(self) -> str:
        return f"read {self._trigger.read.key} for {self._plugin}"

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

    async def _step(self, head: Block) -> bool:
        """Take the value if it is due."""
        level = self._level
        assert level is not None  # it has begun
        if self._trigger.every_seconds is None:
            self._is_held = is_due(self._trigger, level, head.number) and await self._look(level, None)
        else:
            slot = due_slot(self._trigger, level, self._clock.now())
            self._is_held = slot is not None and await self._look(level, slot)
        return False

    async def _rest(self, head: Block) -> None:
        if self._is_held:
            await asyncio.sleep(FULL_S)
        elif self._trigger.every_seconds is None:
            await super()._rest(head)
        else:
            now = self._clock.now()
            left_s = (slot_after(self._trigger, now) - now).total_seconds()
            await asyncio.sleep(min(left_s, WAIT_S))

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

"""What a call's context is made of, and the seams through which a plugin's host reaches the rest of the supervisor."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from protocol.messages import BlockRef, Call, Decide, VaultRef
from protocol.triggers import Read, Trigger
from protocol.values import Value
from runnerd.clock import Clock
from runnerd.errors import RunnerdError
from runnerd.executor.decided import Decided
from runnerd.pauses import Pauses
from runnerd.routing.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store.calls import JobCall
from runnerd.store.ledger import Ledger
from runnerd.supervisor.cgroups import Cgroups
from runnerd.supervisor.monitor import Monitor
from runnerd.supervisor.noise import Noise
from runnerd.supervisor.places import AllRoutes
from runnerd.supervisor.worker import Birthplace


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the chain looked like at one block, for one call."""

    block: BlockRef
    vault: VaultRef
    reads: dict[str, Value]


def decide_message(call: JobCall, snapshot: Snapshot, now: datetime) -> Decide:
    """What the worker is told of a call."""
    return Decide(
        call=Call(
            id=call.id,
            attempt=call.attempts + 1,
            trigger=call.trigger,
            topic=call.topic,
            payload=call.payload,
            due_at=call.due_at,
            fired_at=call.fired_at,
            origin=call.origin,
            job=call.job,
            is_dry_run=call.is_dry_run,
        ),
        now=now,
        block=snapshot.block,
        vault=snapshot.vault,
        reads=snapshot.reads,
    )


class SnapshotFailed(RunnerdError):
    """The reads of a call could not be taken; the call failed and nothing was done. See the named read or the node."""


class PluginHeld(RunnerdError):
    """The plugin may not be started now; the text says what keeps it. Mend that, or wait for it, and ask again."""


class Snapshots(Protocol):
    """Where a call's context comes from."""

    def check(self, vault: str, reads: Sequence[Read]) -> str | None:
        """Why these reads cannot be served from the vault's catalogue, or None."""

    def at_hand(self, vault: str, reads: Sequence[Read]) -> Snapshot | None:
        """What `take` would give, if nobody need be asked for it; else None."""

    async def take(self, vault: str, reads: Sequence[Read]) -> Snapshot:
        """All reads at one block. Raises SnapshotFailed."""


class Executor(Protocol):
    """Where a Decision goes."""

    async def accept(self, decided: Decided) -> None:
        """Judge it, store it, act on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostServices:
    """What all hosts share: references to the parts they work with."""

    clock: Clock
    store: Ledger
    results: Results
    metrics: Metrics
    pauses: Pauses
    birthplace: Birthplace
    monitor: Monitor | None = None
    """Looks at what workers use. None: nobody does, and the walls are all there is."""
    cgroups: Cgroups | None = None
    """None where nothing was delegated."""
    noise: Noise = field(default_factory=Noise)
    runtime_dir: str
    snapshots: Snapshots
    executor: Executor
    all_routes: AllRoutes = field(default_factory=AllRoutes)
    """What bounds all plugins together."""
    on_declared: Callable[[str, tuple[Trigger, ...]], None]
    """Called with the plugin's triggers each time a worker is ready."""
    chains: Collection[str] | None = None
    """The names of those that are configured, where that is known."""
    producers: Collection[str] | None = None
    """Those of third parties, in the same way."""

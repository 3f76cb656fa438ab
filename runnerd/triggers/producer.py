"""What a producer is: an adapter that turns one kind of stimulus into JobCalls, durably.

The rule of all of them: what it has seen, and the calls that it made of that, are one commit (`Submit.submit` with a
statement that moves its position). A crash before it has seen nothing, a crash after it has made the calls; and the
identity of a call makes a second one of the same stimulus impossible.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from protocol.triggers import Trigger
from runnerd.store.calls import NewCall
from runnerd.store.statement import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What of a plugin's configuration a producer goes by. `chain`: that of its vault."""

    call_deadline: timedelta
    spread_s: float = 0.0
    chain: str = ""
    vault: str = ""


class Submit(Protocol):
    """What a producer asks of the router."""

    async def submit(self, new_calls: Sequence[NewCall], *cursors: Statement) -> object:
        """Commit the calls together with the producer's position, and hand on those that are new. Raises StoreError.

        Calls beyond their plugin's bounds are counted and dropped, but for those that are owed (`NewCall.is_owed`).
        """

    def room(self, plugin: str, jobs: Collection[str] = ()) -> int:
        """How many calls of `jobs` a producer may make now that leaves the others where they are until then."""

    def is_quarantined(self, plugin: str) -> bool:
        """Whether a call of `plugin` would end at once, because nothing runs it until it is mended."""


@runtime_checkable
class Retiring(Protocol):
    """A Producer that makes up for what a plugin has missed, and so has to know when that is nothing missed."""

    def retire(self, plugin: str) -> None:
        """`forget`, and more: the operator took the plugin away or switched it off."""


class Producer(Protocol):
    """One kind of stimulus for all plugins. All methods belong to the supervisor's loop."""

    name: str
    """For tasks, logs and `status`: "cron"."""

    def serves(self, trigger: Trigger) -> bool:
        """Whether it is the one that fires this trigger."""

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        """Fire exactly these for `plugin` from now on; none, if there are none. Raises ProducerError, StoreError."""

    def forget(self, plugin: str) -> None:
        """Fire nothing for `plugin` any more."""

    async def run(self) -> None:
        """Until cancelled; or until there is nothing more to come, for a producer that is finite.

        Raises ProducerUnavailable, to be started again later, and ProducerBroken, to stay down.
        """

    @property
    def trouble(self) -> str | None:
        """What keeps it from firing now, in words, while it helps itself; None if it works."""

    def next_due(self, plugin: str) -> datetime | None:
        """When `plugin` is called next, if that is known."""

    def progress(self) -> str:
        """How far it has come, in a line for `status`; may be empty."""

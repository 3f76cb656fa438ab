"""The producer of webhook triggers: knows which plugins take them. The requests themselves come through `webhooks`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from protocol.triggers import Trigger, Webhook
from runnerd.triggers.producer import Terms


@dataclass(frozen=True, slots=True)
class Taken:
    """A trigger that a plugin has declared, and its plugin's terms."""

    trigger: Webhook
    terms: Terms


class WebhookProducer:
    """See Producer. Durable without a position: a caller has its call's id only when the call is committed."""

    name = "webhook"

    def __init__(self, trouble: Callable[[], str | None] = lambda: None) -> None:
        """`trouble`: what keeps requests from arriving, if anything does."""
        self._taken: dict[str, dict[str, Taken]] = {}
        self._trouble = trouble
        self._count = 0

    def serves(self, trigger: Trigger) -> bool:
        """See Producer."""
        return isinstance(trigger, Webhook)

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        """See Producer."""
        taken = {trigger.job: Taken(trigger, terms) for trigger in triggers if isinstance(trigger, Webhook)}
        if taken:
            self._taken[plugin] = taken
        else:
            self.forget(plugin)

    def forget(self, plugin: str) -> None:
        """See Producer."""
        self._taken.pop(plugin, None)

    async def run(self) -> None:
        """Nothing to do but to be there: see Producer."""
        await asyncio.get_running_loop().create_future()

    @property
    def trouble(self) -> str | None:
        """See Producer. None where no plugin takes webhooks: then nobody misses them."""
        return self._trouble() if self._taken else None

    def next_due(self, plugin: str) -> datetime | None:
        """Nobody knows."""
        return None

    def progress(self) -> str:
        """See Producer."""
        return f"{len(self._taken)} plugins, {self._count} calls" if self._taken else ""

    def find(self, plugin: str, job: str) -> Taken | None:
        """The trigger for this job of a plugin; None if it has not declared one."""
        return self._taken.get(plugin, {}).get(job)

    def count(self) -> None:
        """A request became a call."""
        self._count += 1

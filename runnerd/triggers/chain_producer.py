"""What the producers of a chain's triggers share: a follower for each trigger of each plugin, all beside each other."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from protocol.triggers import Trigger
from runnerd.chain.errors import ChainError
from runnerd.clock import Clock
from runnerd.log import fields
from runnerd.network import Network
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.tasks import Tasks
from runnerd.triggers.errors import ProducerBroken
from runnerd.triggers.follower import Follower
from runnerd.triggers.producer import Submit, Terms

logger = logging.getLogger("runnerd.chain_triggers")

BEGIN_PATIENCE_S = 3.0
"""How long a declaration waits for its chain, to begin at the head of that moment; else it begins when there is one."""
MAX_SHOWN = 8


class ChainProducer(ABC):
    """A Producer without its kind: the subclasses give it."""

    name: str

    def __init__(self, networks: Mapping[str, Network], router: Submit, store: Ledger, clock: Clock) -> None:
        self._networks = networks
        self._router = router
        self._store = store
        self._clock = clock
        self._followers: dict[str, dict[str, Follower]] = {}
        self._running: dict[str, tuple[Follower, asyncio.Task[None]]] = {}
        self._tasks = Tasks()
        self._is_running = False

    @abstractmethod
    def serves(self, trigger: Trigger) -> bool:
        """Whether it is the one that fires this trigger."""

    @abstractmethod
    def _make(self, plugin: str, trigger: Trigger, terms: Terms) -> Follower:
        """The follower of a trigger that it serves. Raises ProducerBroken."""

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        """Follow exactly these for `plugin`: from their positions, or from the head of now. Raises ProducerBroken for
        the first that cannot be followed.
        """
        before = self._followers.get(plugin, {})
        made = [self._make(plugin, trigger, terms) for trigger in triggers if self.serves(trigger)]
        wanted = {new.key: _kept(before.get(new.key), new) for new in made}
        for key, follower in before.items():
            follower.is_wanted = wanted.get(key) is follower
        self._followers[plugin] = wanted
        for follower in wanted.values():
            follower.call_deadline = terms.call_deadline
        with suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_PATIENCE_S):
                for follower in wanted.values():
                    with suppress(ChainError, StoreError):  # it begins in `run`, when there is an answer
                        await follower.begin()
        for follower in wanted.values():
            if self._is_running and follower.is_wanted:
                self._start(follower)

    def forget(self, plugin: str) -> None:
        """Follow nothing for `plugin` any more. The positions stay."""
        for follower in self._followers.pop(plugin, {}).values():
            follower.is_wanted = False

    async def run(self) -> None:
        """Until cancelled."""
        self._is_running = True
        try:
            for follower in self._all():
                self._start(follower)
            await asyncio.Event().wait()
        finally:
            self._is_running = False
            await self._tasks.cancel()
            self._running.clear()

    @property
    def trouble(self) -> str | None:
        """What keeps some of them from going on."""
        troubles = {trouble for follower in self._all() if (trouble := follower.trouble) is not None}
        return "; ".join(sorted(troubles)) or None

    def next_due(self, plugin: str) -> datetime | None:
        """Nobody knows."""
        return None

    def progress(self) -> str:
        """Of those that are furthest behind."""
        shown = sorted(self._all(), key=lambda follower: (-follower.behind, follower.key))
        more = f"; and {len(shown) - MAX_SHOWN} more" if len(shown) > MAX_SHOWN else ""
        return "; ".join(follower.progress() for follower in shown[:MAX_SHOWN]) + more

    def _all(self) -> list[Follower]:
        return [follower for followers in self._followers.values() for follower in followers.values()]

    def _network(self, chain: str) -> Network:
        network = self._networks.get(chain)
        if network is None:
            known = ", ".join(self._networks) or "none"
            raise ProducerBroken(f"chain {chain!r} is not configured; configured: {known}")
        return network

    def _start(self, follower: Follower) -> None:
        """Run it, unless it runs; after one of the same position that is about to end."""
        former, task = self._running.get(follower.key, (None, None))
        if task is not None and task.done():
            task = None
        if former is not follower or task is None:
            name = f"{self.name}:{follower.key}"
            self._running[follower.key] = follower, self._tasks.spawn(self._follow(follower, task), name)

    async def _follow(self, follower: Follower, former: "asyncio.Task[None] | None") -> None:
        if former is not None:
            await asyncio.wait([former])
            follower.reload()
        logger.info(
            "following %s", follower.key, extra=fields("chain_trigger_follows", producer=self.name, key=follower.key)
        )  # fmt: skip
        await follower.run()


def _kept(former: Follower | None, new: Follower) -> Follower:
    """The former one of this position goes on if nothing of its trigger has changed, also what is not in its name, as
    `overlap` is not; else `new` goes on where it was."""
    return former if former is not None and former.trigger == new.trigger else new

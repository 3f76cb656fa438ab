"""What the producers of blocks and of logs share: one follower for each trigger of each plugin, run beside each other."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from protocol.triggers import Block, Log, Trigger
from runnerd.chain.errors import ChainError
from runnerd.clock import Clock
from runnerd.log import fields
from runnerd.network import Network
from runnerd.store.ledger import Ledger
from runnerd.tasks import Tasks
from runnerd.triggers.chain_follower import ChainFollower, Task
from runnerd.triggers.chain_source import ChainSource
from runnerd.triggers.errors import ProducerBroken
from runnerd.triggers.producer import Submit, Terms

logger = logging.getLogger("runnerd.chain_triggers")

BEGIN_PATIENCE_S = 3.0
"""How long a declaration waits for its chain, to begin at the head of that moment; later, it begins when there is one."""
MAX_SHOWN = 8


class ChainProducer:
    """A Producer without its kind: `blocks` and `logs` give it."""

    name: str

    def __init__(self, networks: Mapping[str, Network], router: Submit, store: Ledger, clock: Clock) -> None:
        self._networks = networks
        self._router = router
        self._store = store
        self._clock = clock
        self._followers: dict[str, dict[str, ChainFollower]] = {}
        self._running: dict[str, tuple[ChainFollower, asyncio.Task[None]]] = {}
        self._tasks = Tasks()
        self._is_running = False

    def serves(self, trigger: Trigger) -> bool:
        """Whether it is the one that fires this trigger."""
        raise NotImplementedError

    def _source(self, trigger: Block | Log, network: Network) -> ChainSource:
        """What to look for. Raises AbiError."""
        raise NotImplementedError

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        """Follow exactly these for `plugin`: from their positions, or from the head of now. Raises ProducerBroken for
        the first that cannot be followed, StoreError.
        """
        before = self._followers.get(plugin, {})
        wanted: dict[str, ChainFollower] = {}
        for trigger in triggers:
            if isinstance(trigger, Block | Log) and self.serves(trigger):
                follower = self._follower(plugin, trigger, terms)
                wanted[follower.task.key] = before.get(follower.task.key, follower)
        for key, follower in before.items():
            follower.is_wanted = key in wanted
        self._followers[plugin] = wanted
        for follower in wanted.values():
            follower.is_wanted, follower.call_deadline = True, terms.call_deadline
        for follower in wanted.values():
            with suppress(ChainError, TimeoutError):  # it begins in `run`, when its chain answers
                async with asyncio.timeout(BEGIN_PATIENCE_S):
                    await follower.begin()
            if self._is_running:
                self._start(follower)

    def forget(self, plugin: str) -> None:
        """Follow nothing for `plugin` any more. The positions stay."""
        for follower in self._followers.pop(plugin, {}).values():
            follower.is_wanted = False

    async def run(self) -> None:
        """Until cancelled."""
        self._is_running = True
        try:
            for followers in self._followers.values():
                for follower in followers.values():
                    self._start(follower)
            await asyncio.Event().wait()
        finally:
            self._is_running = False
            await self._tasks.cancel()
            self._running.clear()

    @property
    def trouble(self) -> str | None:
        """What keeps some of them from going on."""
        troubles = {follower.trouble for follower in self._all()} - {None}
        return "; ".join(sorted(filter(None, troubles))) or None

    def next_due(self, plugin: str) -> datetime | None:
        """Nobody knows."""
        return None

    def progress(self) -> str:
        """Those that are furthest behind."""
        shown = sorted(self._all(), key=lambda follower: (-follower.behind, follower.task.key))
        lines = [f"{follower.task.plugin} on {follower.task.chain} {follower.progress()}" for follower in shown]
        more = f"; and {len(lines) - MAX_SHOWN} more" if len(lines) > MAX_SHOWN else ""
        return "; ".join(lines[:MAX_SHOWN]) + more

    def _all(self) -> list[ChainFollower]:
        return [follower for followers in self._followers.values() for follower in followers.values()]

    def _follower(self, plugin: str, trigger: Block | Log, terms: Terms) -> ChainFollower:
        chain = trigger.chain or terms.chain
        network = self._networks.get(chain)
        if network is None:
            known = ", ".join(self._networks) or "none"
            raise ProducerBroken(f"chain {chain!r} is not configured; configured: {known}")
        try:
            source = self._source(trigger, network)
        except ChainError as error:
            raise ProducerBroken(str(error)) from error
        task = Task(producer=self.name, plugin=plugin, trigger=trigger, chain=chain)
        return ChainFollower(task, source, network, self._router, self._store, self._clock, terms.call_deadline)

    def _start(self, follower: ChainFollower) -> None:
        """Run it, unless it runs; after one of the same position that is about to end."""
        key = follower.task.key
        former, task = self._running.get(key, (None, None))
        if task is not None and task.done():
            task = None
        if former is not follower or task is None:
            self._running[key] = follower, self._tasks.spawn(self._follow(follower, task), f"{self.name}:{key}")

    async def _follow(self, follower: ChainFollower, former: "asyncio.Task[None] | None") -> None:
        if former is not None:
            await asyncio.wait([former])
            follower.reload()
        logger.info(
            "following %s", follower.task.key,
            extra=fields("chain_trigger_follows", producer=self.name, key=follower.task.key),
        )  # fmt: skip
        await follower.run()

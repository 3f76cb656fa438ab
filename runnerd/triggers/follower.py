"""One trigger of one plugin on its way along a chain: step by step, and again what failed, more and more seldom.

What a step is, its subclasses say: `chain_follower` for blocks and logs, `metric` for reads.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from datetime import timedelta

from protocol.triggers import Trigger
from runnerd.chain.errors import ChainError
from runnerd.chain.types import Block
from runnerd.clock import Clock
from runnerd.errors import explain
from runnerd.log import fields
from runnerd.network import Network
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.supervisor.context import SnapshotFailed
from runnerd.triggers.producer import Submit

logger = logging.getLogger("runnerd.chain_triggers")

RETRY_S = (0.2, 10.0)
WAIT_S = 1.0
"""For a new head, before the next look at whether it is still wanted."""


class Follower(ABC):
    """`call_deadline` may be changed at any time."""

    def __init__(self, network: Network, router: Submit, store: Ledger, clock: Clock, call_deadline: timedelta) -> None:
        self.call_deadline = call_deadline
        self.is_wanted = True
        """False: it makes no call any more, and ends."""
        self._problem: str | None = None
        self._network = network
        self._router = router
        self._store = store
        self._clock = clock

    @property
    @abstractmethod
    def key(self) -> str:
        """Of its position in the ledger, beside the producer's name."""

    @property
    @abstractmethod
    def trigger(self) -> Trigger:
        """What it follows the chain for."""

    @property
    def trouble(self) -> str | None:
        """Why it cannot go on now."""
        problem = self._problem or self._network.head.problem
        return None if problem is None else f"{self._about}: {problem}"

    @property
    @abstractmethod
    def behind(self) -> int:
        """Blocks that are to be looked at."""

    @abstractmethod
    def progress(self) -> str:
        """How far it has come, with whose it is."""

    @abstractmethod
    async def begin(self) -> None:
        """Find its position, or make one at the head of now, which is stored. Raises ChainError, StoreError."""

    @abstractmethod
    def reload(self) -> None:
        """Another one moved its position: begin from what the ledger has. Before it runs."""

    @property
    @abstractmethod
    def _about(self) -> str:
        """What its trouble is about."""

    @abstractmethod
    async def _step(self, head: Block) -> bool:
        """After `begin`. Whether there is more to do at once."""

    async def _rest(self, head: Block) -> None:
        """Until there may be more to do than there was at this head."""
        await self._network.head.wait_change(head, WAIT_S)

    async def run(self) -> None:
        """Until it is not wanted, or cancelled."""
        delay_s, longest_s = RETRY_S
        while self.is_wanted:
            head = self._network.head.latest
            try:
                await self.begin()
                if head is None:
                    head = await self._network.head.fetch()
                has_more = await self._step(head)
            except Exception as error:  # a producer's loop: one trigger's failure is not the others'
                self._tell(error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)
                continue
            if self._problem is not None:
                logger.info("%s goes on", self.key, extra=fields("chain_trigger_recovered", key=self.key))
            self._problem, delay_s = None, RETRY_S[0]
            if not has_more:
                await self._rest(head)

    def _tell(self, error: Exception) -> None:
        is_expected = isinstance(error, ChainError | StoreError | SnapshotFailed)
        problem = explain(error)
        if problem != self._problem:
            logger.warning(
                "%s waits: %s", self.key, problem, exc_info=None if is_expected else error,
                extra=fields("chain_trigger_waits", key=self.key),
            )  # fmt: skip
        self._problem = problem

"""One chain in operation: admitted and opened once, then its head is polled, wallets write, intents are followed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from runnerd.admission import Admission, admit
from runnerd.catalogue import Catalogue
from runnerd.chain.address import parse_address
from runnerd.chain.errors import ChainError
from runnerd.clock import Clock
from runnerd.config.model import VaultConfig
from runnerd.executor.aftermath import Aftermath
from runnerd.executor.effect_checks import EffectChecks, Ground
from runnerd.executor.follow import Follower
from runnerd.executor.lane import Lane
from runnerd.executor.tracked import Book
from runnerd.log import fields
from runnerd.network import Network
from runnerd.pauses import Pauses
from runnerd.services.metrics import Metrics
from runnerd.store.errors import StoreError
from runnerd.store.store import Store
from runnerd.tasks import Tasks
from runnerd.wallets.signer import Signer

logger = logging.getLogger("runnerd.chains")

RETRY_S = (0.2, 10.0)


class ChainDesk:
    """Owns the tasks of one chain."""

    def __init__(
        self,
        network: Network,
        vaults: Mapping[str, VaultConfig],
        signers: Mapping[str, Signer],
        catalogues: Mapping[str, Catalogue],
        store: Store,
        book: Book,
        pauses: Pauses,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.network = network
        self.vaults = vaults
        self._problem: str | None = "not yet looked at"
        self.admission: Admission | None = None
        self._signers = signers
        self._catalogues = catalogues
        self._store = store
        self._book = book
        self._pauses = pauses
        self._metrics = metrics
        self._clock = clock
        self._tasks = Tasks()
        self._follower: Follower | None = None
        grounds = {name: Ground(parse_address(vault.address), catalogues[name]) for name, vault in vaults.items()}
        self._checks = EffectChecks(network, grounds)
        self.lanes: dict[str, Lane] = {}

    @property
    def problem(self) -> str | None:
        """What keeps the chain from working, in words."""
        if self._problem is None and self.network.head.problem is not None:
            return f"node {self.network.rpc.url_for_display}: {self.network.head.problem}"
        return self._problem

    def start(self, open_vaults: Callable[["ChainDesk"], Awaitable[None]]) -> "asyncio.Task[None]":
        """Begin to ask, and `open_vaults` when the chain has answered; the task ends then.

        What fails because a node or the ledger is away is tried again, `open_vaults` as well: from its beginning.
        """
        return self._tasks.spawn(self._open(open_vaults), f"admission:{self.network.name}")

    async def close(self) -> None:
        """Stop signing, sending and looking. What is in flight stands in the ledger."""
        if self._follower is not None:
            await self._follower.close()
        await self._tasks.cancel()
        await self.network.rpc.close()

    def lane_of(self, vault: str) -> Lane:
        """The wallet of a vault on this chain."""
        return self.lanes[self._signers[self.vaults[vault].wallet].address]

    def run(self, on_failure: Callable[[str], None]) -> None:
        """Begin to poll, write and follow, once open intents were given to the lanes. `on_failure` if one ends."""
        name = self.network.name
        aftermath = Aftermath(self._checks, self._pauses, self._metrics, self._clock)
        self._follower = Follower(self.network, self.lanes, self._book, aftermath)
        self._tasks.spawn_vital(self.network.head.run(self.network.config.poll_s), f"head:{name}", on_failure)
        self._tasks.spawn_vital(self._follower.run(), f"follow:{name}", on_failure)
        for address, lane in self.lanes.items():
            self._tasks.spawn_vital(lane.run(), f"lane:{name}:{address}", on_failure)

    async def _open(self, open_vaults: Callable[["ChainDesk"], Awaitable[None]]) -> None:
        delay_s, longest_s = RETRY_S
        while True:
            try:
                admission = self.admission or await self._look()
                await open_vaults(self)
            except (ChainError, StoreError) as error:
                where = f"node {self.network.rpc.url_for_display}" if isinstance(error, ChainError) else "the ledger"
                self._problem = f"{where}: {error}"
                logger.warning(
                    "chain %s: %s", self.network.name, error, extra=fields("chain_waits", chain=self.network.name)
                )
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)
            else:
                self._problem = admission.chain_problem
                return

    async def _look(self) -> Admission:
        admission = await admit(self.network, self.vaults, self._signers, self._store, self._clock)
        for pause in admission.pauses:
            # An older one stays, as in the ledger.
            self._pauses.active.setdefault((pause.scope, pause.name), pause)
        for address, next_nonce in admission.next_nonces.items():
            self.lanes[address] = self._lane(address, next_nonce)
        self.admission = admission
        return admission

    def _lane(self, address: str, next_nonce: int) -> Lane:
        wallets = {name for name, signer in self._signers.items() if signer.address == address}
        errors = {
            error.signature: error
            for name, vault in self.vaults.items()
            if vault.wallet in wallets
            for error in self._catalogues[name].errors
        }
        signer = next(signer for signer in self._signers.values() if signer.address == address)
        return Lane(
            self.network, signer, next_nonce, tuple(errors.values()), self._book, self._pauses, self._metrics,
            self._checks,
        )  # fmt: skip

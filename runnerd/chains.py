"""One chain in operation: admitted and opened once, then its head is polled, wallets write, intents are followed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from runnerd.admission import Admission, admit
from runnerd.chain.address import parse_address
from runnerd.chain.errors import ChainError
from runnerd.clock import Clock
from runnerd.config.model import KeeperConfig, Place, WalletConfig
from runnerd.executor.aftermath import Aftermath
from runnerd.executor.auditor import Auditor
from runnerd.executor.effect_checks import EffectChecks, Ground
from runnerd.executor.follow import Follower
from runnerd.executor.lane import Lane
from runnerd.executor.push import Pusher
from runnerd.executor.tracked import Book, Tracked
from runnerd.executor.usage import GasBudget
from runnerd.log import fields
from runnerd.network import Network
from runnerd.pauses import Pauses
from runnerd.services.metrics import Metrics
from runnerd.store import knobs
from runnerd.store.errors import StoreError
from runnerd.store.store import Store
from runnerd.tasks import Tasks
from runnerd.vaults.caps_mirror import CapsMirror
from runnerd.vaults.catalogue import Catalogue
from runnerd.vaults.vaults import address_of
from runnerd.wallets.signer import Signer

logger = logging.getLogger("runnerd.chains")

RETRY_S = (0.2, 10.0)


class ChainDesk:
    """Owns the tasks of one chain. `vaults` are its vaults and its keepers, by name."""

    def __init__(
        self,
        network: Network,
        vaults: Mapping[str, Place],
        wallets: Mapping[str, WalletConfig],
        signers: Mapping[str, Signer],
        catalogues: Mapping[str, Catalogue],
        store: Store,
        book: Book,
        pauses: Pauses,
        gas: GasBudget,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.network = network
        self.vaults = vaults
        self._problem: str | None = "not yet looked at"
        self.admission: Admission | None = None
        self._wallets = wallets
        self._signers = signers
        self._catalogues = catalogues
        self._store = store
        self._book = book
        self._pauses = pauses
        self._gas = gas
        self._metrics = metrics
        self._clock = clock
        self._tasks = Tasks()
        self.follower: Follower | None = None
        """There while something may be sent to the chain."""
        grounds = {
            name: Ground(parse_address(address_of(place, signers[place.wallet].address)), catalogues[name])
            for name, place in vaults.items()
        }
        self._checks = EffectChecks(network, grounds)
        self.mirror: CapsMirror | None = None
        self.lanes: dict[str, Lane] = {}
        self.auditor: Auditor | None = None
        """There once the chain has answered."""

    @property
    def problem(self) -> str | None:
        """What keeps the chain from working, in words."""
        if self._problem is None and self.network.head.problem is not None:
            return f"{self._where}: {self.network.head.problem}"
        return self._problem

    async def load_knobs(self) -> None:
        """Take over what an operator turned, before anything is signed. Raises StoreUnavailable."""
        self.network.knobs.load(await self._store.fetch(knobs.of_chain(self.network.name)))

    def start(
        self, open_vaults: Callable[["ChainDesk"], Awaitable[None]], on_failure: Callable[[str], None]
    ) -> "asyncio.Task[None]":
        """Begin to poll and to ask, and `open_vaults` when the chain has answered; the task ends then.

        What fails because a node or the ledger is away is tried again, `open_vaults` as well: from its beginning.
        """
        self._warn_without_quorum()
        # Polled from now on: a node that is silent at first has no vote until it was seen well a few times.
        self._tasks.spawn_vital(
            self.network.head.run(self.network.config.poll_s), f"head:{self.network.name}", on_failure
        )
        return self._tasks.spawn(self._open(open_vaults), f"admission:{self.network.name}")

    async def close(self) -> None:
        """Stop signing, sending and looking. What is in flight stands in the ledger."""
        if self.follower is not None:
            await self.follower.close()
        await self._tasks.cancel()
        await self.network.close()

    def lane_of(self, vault: str) -> Lane:
        """The wallet of a vault on this chain."""
        return self.lanes[self._signers[self.vaults[vault].wallet].address]

    def run(self, on_failure: Callable[[str], None], replan: Callable[[Tracked], Coroutine[Any, Any, None]]) -> None:
        """Begin to poll, write and follow, once open intents were given to the lanes. `on_failure` if one ends."""
        name = self.network.name
        assert self.auditor is not None  # it has answered
        pushers = {address: Pusher(lane, self._book, self._pauses) for address, lane in self.lanes.items()}
        aftermath = Aftermath(self._checks, self._pauses, self._metrics, self._clock)
        self.follower = Follower(self.network, pushers, self._book, self.auditor, aftermath, replan)
        self._tasks.spawn_vital(self.follower.run(), f"follow:{name}", on_failure)
        if self.mirror is not None:
            self._tasks.spawn(self.mirror.run(), f"caps:{name}")
        for address, lane in self.lanes.items():
            self._tasks.spawn_vital(lane.run(), f"lane:{name}:{address}", on_failure)

    @property
    def _where(self) -> str:
        nodes = self.network.rpc.nodes
        return f"node {nodes[0].name}" if len(nodes) == 1 else f"all {len(nodes)} nodes"

    def _warn_without_quorum(self) -> None:
        if self.network.config.needed_nodes == 1:
            logger.warning(
                "CHAIN %s HAS NO QUORUM: what one node says is taken as proof. If it lies or is wrong, a transaction "
                "can be made twice. Name a second node of another operator in [chains.%s] rpc",
                self.network.name, self.network.name,
                extra=fields("no_quorum", chain=self.network.name, nodes=len(self.network.rpc.nodes)),
            )  # fmt: skip

    def also(self, coroutine: Coroutine[Any, Any, None], name: str, on_failure: Callable[[str], None]) -> None:
        """Run something more until the chain is closed; it is as vital as the rest."""
        self._tasks.spawn_vital(coroutine, name, on_failure)

    async def _open(self, open_vaults: Callable[["ChainDesk"], Awaitable[None]]) -> None:
        delay_s, longest_s = RETRY_S
        while True:
            try:
                admission = self.admission or await self._look()
                await open_vaults(self)
            except (ChainError, StoreError) as error:
                where = self._where if isinstance(error, ChainError) else "the ledger"
                self._problem = f"{where}: {error}"
                logger.warning(
                    "chain %s: %s", self.network.name, error, extra=fields("chain_waits", chain=self.network.name)
                )
            except Exception as error:  # a defect of ours, or of a node's: nobody else would open the chain
                self._problem = f"it cannot be opened, see the log: {type(error).__name__}"
                if self.follower is not None:
                    raise  # it works already: begun again, it would sign and send twice
                logger.exception(
                    "chain %s cannot be opened", self.network.name,
                    extra=fields("chain_failed", chain=self.network.name),
                )  # fmt: skip
            else:
                self._problem = admission.chain_problem
                return
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, longest_s)

    async def _look(self) -> Admission:
        admission = await admit(self.network, self.vaults, self._signers, self._store, self._clock)
        for pause in admission.pauses:
            # An older one stays, as in the ledger; one that is only reducing does not.
            if self._pauses.of("", pause.name) is None:
                self._pauses.add(pause)
        for address, next_nonce in admission.next_nonces.items():
            self.lanes[address] = self._lane(address, next_nonce)
        vaults_of: dict[str, list[str]] = {}
        for name, vault in self.vaults.items():
            vaults_of.setdefault(self._signers[vault.wallet].address, []).append(name)
        self.auditor = Auditor(self.network, self.lanes, vaults_of, self._book, self._pauses, self._metrics.saw_foreign)
        await self.auditor.load()
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
        name, signer = next((name, signer) for name, signer in self._signers.items() if signer.address == address)
        limits = self._wallets[name]
        return Lane(
            self.network, signer, next_nonce, limits, tuple(errors.values()), self._book, self._pauses, self._gas,
            self._metrics, self._checks,
            is_keeper=any(isinstance(one, KeeperConfig) and one.wallet in wallets for one in self.vaults.values()),
        )  # fmt: skip

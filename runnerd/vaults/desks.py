"""From configured vaults to those that may be acted on: each is opened once its chain has answered."""

from collections.abc import Callable, Mapping
from typing import Any

from runnerd.chain.vaults.safe_multisig import SafeMultisigVault
from runnerd.chains import ChainDesk
from runnerd.executor.executor import Executor, VaultDesk
from runnerd.executor.proposals import ProposalDesk
from runnerd.executor.tracked import Book
from runnerd.plugins import Plugins
from runnerd.vaults.catalogue import Catalogue
from runnerd.vaults.vaults import build_adapter, mirror_vaults


class VaultOpening:
    """`desks` are the vaults that stand open; the executor and `status` look at the same table."""

    def __init__(
        self,
        desks: dict[str, VaultDesk],
        catalogues: Mapping[str, Catalogue],
        book: Book,
        executor: Executor,
        plugins: Plugins,
        on_failure: Callable[[str], Any],
    ) -> None:
        """`on_failure` is told the name of a vital task that ended."""
        self._desks = desks
        self._catalogues = catalogues
        self._book = book
        self._executor = executor
        self._plugins = plugins
        self._on_failure = on_failure

    async def open(self, chain: ChainDesk) -> None:
        """The chain has answered: open its vaults, go on with what a former process left, let its plugins run.

        Called again, from the beginning, when the ledger was away meanwhile. Raises StoreError.
        """
        admission = chain.admission
        assert admission is not None  # it has answered
        refused = {name: admission.chain_problem or admission.refused.get(name) for name in chain.vaults}
        for name, reason in refused.items():
            if reason is not None:
                await self._executor.give_up_vault(name, reason)
            else:
                self._desks[name] = self._build(name, chain)
        desks = [self._desks[name] for name in chain.vaults if name in self._desks]
        chain.mirror = mirror_vaults(chain.network, desks, self._executor.ids_on_the_way)
        if admission.chain_problem is None:
            await self._executor.resume(frozenset(chain.vaults))
            chain.run(self._on_failure, self._executor.replan)
            for desk in desks:
                if desk.proposals is not None:
                    chain.also(desk.proposals.run(), f"proposals:{desk.name}", self._on_failure)
        for name, reason in refused.items():
            self._plugins.on_vault(name, reason)

    def _build(self, name: str, chain: ChainDesk) -> VaultDesk:
        lane = chain.lane_of(name)
        adapter = build_adapter(chain.vaults[name], lane.signer.address)
        proposals = ProposalDesk(name, adapter, lane, self._book) if isinstance(adapter, SafeMultisigVault) else None
        return VaultDesk(name, self._catalogues[name], adapter, lane, proposals)

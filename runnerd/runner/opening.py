"""What a start opens: key, zygote and ledger side by side, since none of them needs another; then what was used up."""

import asyncio
from collections.abc import Mapping

from runnerd.clock import Clock
from runnerd.config.model import Config, WalletConfig
from runnerd.config.plugins import BudgetConfig
from runnerd.executor.usage import Usage
from runnerd.routing.router import Router
from runnerd.runner.unlock import unlock
from runnerd.store.store import Store
from runnerd.vaults.catalogue import Catalogue
from runnerd.wallets.signer import Signer
from runnerd.zygotes import Zygotes


async def open_parts(
    wallets: Mapping[str, WalletConfig], zygotes: Zygotes, store: Store, signers: dict[str, Signer]
) -> None:
    """Open all three; the signers are put into `signers`. Raises what the first that fails raises.

    The others are ended before that. What is open by then, also in `signers`, is for the caller to close.
    """

    async def unlock_all() -> None:
        signers.update(await unlock(wallets))

    try:
        async with asyncio.TaskGroup() as opening:
            opening.create_task(unlock_all(), name="start:wallets")
            opening.create_task(zygotes.open(), name="start:zygote")
            opening.create_task(store.open(), name="start:store")
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def open_usage(
    config: Config,
    store: Store,
    clock: Clock,
    catalogues: Mapping[str, Catalogue],
    signers: Mapping[str, Signer],
    router: Router,
) -> Usage:
    """What the last day counts against."""
    wallets = {signers[name].address: wallet.max_gas_wei_per_day for name, wallet in config.wallets.items()}

    def budget_of(plugin: str) -> BudgetConfig:
        host = router.hosts.get(plugin)  # as it was last reloaded; there is none yet at the start
        plugin_config = host.config if host is not None else config.plugins.get(plugin)
        return plugin_config.budget if plugin_config is not None else BudgetConfig()

    usage = Usage(store, clock, catalogues, budget_of, wallets)
    await usage.load()
    return usage

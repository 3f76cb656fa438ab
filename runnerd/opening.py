"""The parts that a start opens side by side, since none of them needs another: key, zygote and ledger."""

import asyncio
from collections.abc import Mapping

from runnerd.config.model import WalletConfig
from runnerd.store.store import Store
from runnerd.unlock import unlock
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

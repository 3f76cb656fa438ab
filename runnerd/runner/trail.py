"""What the daemon itself leaves in the audit trail: when it started, with which configuration, and when it stopped.

The head of the chain goes into the log at both: a journal is a place that who owns the database may not own.
"""

import asyncio
import logging
from typing import Final

import msgspec
from msgspec import structs

from runnerd import __version__
from runnerd.clock import Clock
from runnerd.config.model import Config
from runnerd.config.plugins import PluginConfig
from runnerd.log import fields
from runnerd.store import audit
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger

logger = logging.getLogger("runnerd")

STOP_PATIENCE_S: Final = 2.0
"""A database that is away must not keep a process that was told to stop."""


class Trail:
    """Made by the app, once the ledger is open."""

    def __init__(self, store: Ledger, clock: Clock, config: Config) -> None:
        self._store = store
        self._clock = clock
        self._config = config
        """What runnerd works with: of a reload it takes over the plugins."""
        self._is_begun = False

    async def record_start(self) -> None:
        """Before anything else is done. Raises StoreError."""
        self._is_begun = True
        await self._record("started")

    async def record_reload(self, plugins: dict[str, PluginConfig]) -> None:
        """The plugins' tables were taken over. Raises StoreError."""
        self._config = structs.replace(self._config, plugins=plugins)
        await self._record("reloaded")

    async def record_stop(self) -> None:
        """If the ledger is there, and the start was to be recorded. A trail without it says that runnerd was killed."""
        if not self._is_begun:
            return
        try:
            async with asyncio.timeout(STOP_PATIENCE_S):
                await self._record("stopped")
        except (StoreError, TimeoutError) as error:
            logger.warning("the stop is not in the audit trail: %s", error, extra=fields("audit_stop_missing"))

    async def _record(self, event: str) -> None:
        record = audit.daemon(event, __version__, compute_configuration_digest(self._config), self._clock.now())
        await self._store.commit(audit.append(record))
        for row in await self._store.fetch(audit.head()):
            logger.info(
                "audit trail: record %d, head %s", row["seq"], row["hash"].hex(),
                extra=fields("audit_head", seq=row["seq"], head=row["hash"].hex()),
            )  # fmt: skip


def compute_configuration_digest(config: Config) -> str:
    """SHA-256 of what decides which transactions may be signed: vaults, keepers, plugins and the chains' ids.

    Neither a DSN nor a node's URL is part of it: a digest of a guessable secret gives it away.
    """
    decisive = {
        "chains": {name: chain.id for name, chain in config.chains.items()},
        "vaults": config.vaults,
        "keepers": config.keepers,
        "plugins": config.plugins,
    }
    return audit.digest(msgspec.json.encode(decisive, order="sorted", enc_hook=str))

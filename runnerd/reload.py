"""SIGHUP: reads the configuration again, and takes over what may change while runnerd runs: the plugins' tables.

One reload at a time, and each to its end. What may not change is named in a warning and waits for the next start.
"""

import asyncio
import logging
import time

from runnerd.config.load import ConfigError, load_config
from runnerd.config.model import Config
from runnerd.config.problem import Problem
from runnerd.log import fields
from runnerd.plugins import Plugins
from runnerd.services.systemd import Systemd
from runnerd.trail import Trail

logger = logging.getLogger("runnerd")

TABLES = ("chains", "wallets", "vaults", "address_lists", "database", "http", "consumers")
KEYS = ("log_level", "data_dir", "runtime_dir", "control_socket")


class Reloader:
    """`config` is what runnerd was started with: only a restart can change the rest of it."""

    def __init__(self, config: Config, plugins: Plugins, systemd: Systemd, trail: Trail) -> None:
        self._config = config
        self._trail = trail
        self._plugins = plugins
        self._systemd = systemd
        self._wanted = asyncio.Event()

    def request(self) -> None:
        """Read the file once more; after the reload that is under way, if there is one."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled: reload when it was requested. Two at once would stop each other's new hosts."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._reload()
            except ConfigError as error:
                logger.error("configuration not taken over: %s", error, extra=fields("reload_refused"))
            except Exception:  # a defect of ours: what runs goes on, and the next reload may mend it
                logger.exception("the reload failed half way", extra=fields("reload_failed"))

    async def _reload(self) -> None:
        monotonic_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._systemd.notify("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}")
        try:
            wanted = load_config(self._config.source)
            news = sorted({plugin.vault for plugin in wanted.plugins.values()} - self._config.vaults.keys())
            if news:
                problem = Problem("vaults", f"{', '.join(news)} are new; new vaults need a restart of runnerd")
                raise ConfigError(self._config.source, [problem])
            done = await self._plugins.reload(wanted.plugins)
        finally:
            self._systemd.notify("READY=1")
        logger.info("configuration read again: %s", ", ".join(done) or "no plugin changed", extra=fields("reloaded"))
        self._warn_of_the_rest(wanted)
        await self._trail.record_reload(wanted.plugins)

    def _warn_of_the_rest(self, wanted: Config) -> None:
        for name in (*TABLES, *KEYS):
            if getattr(wanted, name) != getattr(self._config, name):
                shown = f"[{name}]" if name in TABLES else name
                logger.warning("%s changed; it takes effect at the next start", shown, extra=fields("reload_partial"))

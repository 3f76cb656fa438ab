"""SIGHUP: reads the configuration again, and takes over what may change while runnerd runs: the plugins' tables.

One reload at a time, and each to its end. What may not change is named in a warning and waits for the next start.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterator

from runnerd.config.load import ConfigError, load_config
from runnerd.config.model import Config
from runnerd.config.problem import Problem
from runnerd.log import fields
from runnerd.plugins import Plugins
from runnerd.runner.trail import Trail
from runnerd.services.systemd import Systemd

logger = logging.getLogger("runnerd")

TABLES = (
    "chains", "wallets", "vaults", "keepers", "address_lists", "database", "http", "producers", "services", "consumers",
    "router",
)  # fmt: skip
KEYS = ("log_level", "data_dir", "runtime_dir", "control_socket", "drain_s")


class Reloader:
    """`config` is what runnerd was started with: only a restart can change the rest of it."""

    def __init__(
        self, config: Config, plugins: Plugins, systemd: Systemd, trail: Trail, own_producers: Collection[str] = ()
    ) -> None:
        self._config = config
        self._own_producers = own_producers
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
            wanted = load_config(self._config.source, self._own_producers)
            problems = list(self._new_places(wanted))
            if problems:
                raise ConfigError(self._config.source, problems)
            done = await self._plugins.reload(wanted.plugins)
        finally:
            self._systemd.notify("READY=1")
        logger.info("configuration read again: %s", ", ".join(done) or "no plugin changed", extra=fields("reloaded"))
        self._warn_of_the_rest(wanted)
        await self._trail.record_reload(wanted.plugins)

    def _new_places(self, wanted: Config) -> Iterator[Problem]:
        """Plugins cannot be moved to what was not opened at the start, and what was a vault then is one now."""
        for group, used in (
            ("vaults", {plugin.vault for plugin in wanted.plugins.values()}),
            ("keepers", {plugin.keeper for plugin in wanted.plugins.values()}),
        ):
            news = sorted(name for name in used - getattr(self._config, group).keys() if name is not None)
            if news:
                yield Problem(group, f"{', '.join(news)} are new; new {group} need a restart of runnerd")

    def _warn_of_the_rest(self, wanted: Config) -> None:
        for name in (*TABLES, *KEYS):
            if getattr(wanted, name) != getattr(self._config, name):
                shown = f"[{name}]" if name in TABLES else name
                logger.warning("%s changed; it takes effect at the next start", shown, extra=fields("reload_partial"))

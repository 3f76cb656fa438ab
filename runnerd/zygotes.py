"""Keeps one zygote alive: `supervisor.worker.Birthplace` for all plugins, across the death of a zygote.

If it dies its workers die with it; a new one is started at once, later with backoff, and births wait for it.
"""

import asyncio
import logging
import sys

from protocol.zygote import Exited, Spawn
from runnerd.log import fields
from runnerd.supervisor.birth import BirthFailed, BornWorker
from runnerd.supervisor.zygote import Zygote, ZygoteFailed
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.zygote")

BACKOFF_S = (0.1, 10.0)


class Zygotes:
    """One zygote at a time."""

    def __init__(self) -> None:
        self._zygote: Zygote | None = None
        self._ready = asyncio.Event()
        self._tasks = Tasks()
        self._is_closing = False
        self.deaths = 0

    async def open(self) -> None:
        """Start the first. Raises ZygoteFailed when this host cannot run one."""
        self._zygote = await self._start()
        self._ready.set()

    async def close(self) -> None:
        """End it, and with it every worker that is left."""
        self._is_closing = True
        await self._tasks.cancel()
        if self._zygote is not None:
            await self._zygote.stop()

    @property
    def pid(self) -> int | None:
        """For display; None while there is none."""
        return self._zygote.pid if self._zygote is not None and self._ready.is_set() else None

    async def spawn(self, request: Spawn, deadline_s: float) -> BornWorker:
        """See Birthplace. Waits for a zygote within the deadline. Raises BirthRefused, BirthFailed."""
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(deadline_s):
                await self._ready.wait()
        except TimeoutError:
            raise BirthFailed(f"no zygote within {deadline_s:g} s") from None
        assert self._zygote is not None  # it is ready
        return await self._zygote.spawn(request, deadline_s - (asyncio.get_running_loop().time() - started))

    async def _start(self) -> Zygote:
        return await Zygote.start(python=sys.executable, on_exit=_on_exit, on_death=self._on_death)

    def _on_death(self, reason: str) -> None:
        self._ready.clear()
        if self._is_closing:
            return
        self.deaths += 1
        logger.error("the zygote died: %s; all workers start again", reason, extra=fields("zygote_died"))
        self._tasks.spawn(self._restart(), "zygote:restart")

    async def _restart(self) -> None:
        delay_s, longest_s = BACKOFF_S
        while True:
            try:
                self._zygote = await self._start()
            except ZygoteFailed as error:
                logger.error("no new zygote: %s", error, extra=fields("zygote_failed"))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)
            else:
                self._ready.set()
                logger.info("a new zygote is ready", extra=fields("zygote_ready", pid=self._zygote.pid))
                return


def _on_exit(exited: Exited) -> None:
    """Each worker hears of its own exit through `BornWorker.exited`; here it is only on record."""
    logger.debug("reaped %s", exited.worker, extra=fields("worker_reaped", status=exited.status))

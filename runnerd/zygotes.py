"""Keeps the zygotes alive: `supervisor.worker.Birthplace` for all plugins, across the death of a zygote.

There is one per interpreter: our own, started with us, and one for each `python = …`, started when the first plugin
needs it. If one dies its workers die with it; a new one is started at once, and births wait for it. One that does not
start, or did not live long, is followed by a wait: else a host on which zygotes die would do nothing but start them.
"""

import asyncio
import logging
import sys
from functools import partial

from protocol.zygote import Exited, Spawn
from runnerd.log import fields
from runnerd.supervisor import interpreter
from runnerd.supervisor.birth import BirthFailed, BornWorker, CodeRefused, ZygoteGone
from runnerd.supervisor.patience import LONGEST, patient_timeout
from runnerd.supervisor.zygote import PROGRAM, Zygote, ZygoteFailed
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.zygote")

BACKOFF_S = (0.1, 10.0)
SHORT_LIFE_S = 1.0
"""A zygote that lived for less is followed by a wait, which doubles from one such to the next."""


class Zygotes:
    """A zygote of our own interpreter, and one of each other that a plugin asks for."""

    def __init__(self) -> None:
        self._own = ZygoteKeeper(sys.executable, PROGRAM)
        self._others: dict[str, ZygoteKeeper] = {}
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Start our own. Raises ZygoteFailed when this host cannot run one."""
        await self._own.open()

    async def close(self) -> None:
        """End them, and with them every worker that is left."""
        async with self._opening:
            for keeper in (self._own, *self._others.values()):
                await keeper.close()

    @property
    def pid(self) -> int | None:
        """Of our own, for display; None while there is none."""
        return self._own.pid

    async def spawn(self, request: Spawn, deadline_s: float) -> BornWorker:
        """See Birthplace. Raises BirthRefused, CodeRefused, BirthFailed, ZygoteGone."""
        if request.python is None:
            return await self._own.spawn(request, deadline_s)
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(deadline_s):
                keeper = await self._other(request.python)
        except TimeoutError:
            raise ZygoteGone(f"no zygote of {request.python} within {deadline_s:g} s") from None
        return await keeper.spawn(request, deadline_s - (asyncio.get_running_loop().time() - started))

    async def _other(self, python: str) -> "ZygoteKeeper":
        async with self._opening:
            keeper = self._others.get(python)
            if keeper is None:
                await interpreter.check(python)
                keeper = ZygoteKeeper(python, interpreter.program(PROGRAM[-1]))
                try:
                    await keeper.open()
                except ZygoteFailed as error:
                    raise CodeRefused(f"python {python} cannot run workers: {str(error)[-300:]}") from error
                self._others[python] = keeper
                logger.info(
                    "a zygote of %s is ready", python, extra=fields("zygote_ready", pid=keeper.pid, python=python)
                )
            return keeper


class ZygoteKeeper:
    """One zygote at a time, of one interpreter."""

    def __init__(self, python: str, program: tuple[str, ...]) -> None:
        self._python = python
        self._start = partial(Zygote.start, python=python, program=program, on_exit=_on_exit, on_death=self._on_death)
        self._zygote: Zygote | None = None
        self._ready = asyncio.Event()
        self._tasks = Tasks()
        self._is_closing = False
        self._born_at = 0.0
        self._delay_s = 0.0

    async def open(self) -> None:
        """Start the first. Raises ZygoteFailed when this host, or this interpreter, cannot run one."""
        self._serve(await self._start())

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
        """As `Zygotes.spawn`. Waits for a zygote within the deadline."""
        is_asked = False
        try:
            async with patient_timeout(deadline_s):
                await self._ready.wait()
                assert self._zygote is not None  # it is ready
                is_asked = True
                return await self._zygote.spawn(request, deadline_s * LONGEST)
        except TimeoutError:
            if is_asked:
                raise BirthFailed(f"not born within {deadline_s:g} s") from None
            raise ZygoteGone(f"no zygote within {deadline_s:g} s") from None

    def _on_death(self, reason: str) -> None:
        self._ready.clear()
        if self._is_closing:
            return
        logger.error(
            "the zygote died: %s; its workers start again", reason, extra=fields("zygote_died", python=self._python)
        )
        self._tasks.spawn(self._restart(), "zygote:restart")

    async def _restart(self) -> None:
        if asyncio.get_running_loop().time() - self._born_at >= SHORT_LIFE_S:
            self._delay_s = 0.0
        else:
            self._wait_longer()
        while True:
            await asyncio.sleep(self._delay_s)
            try:
                zygote = await self._start()
            except ZygoteFailed as error:
                logger.error("no new zygote: %s", error, extra=fields("zygote_failed"))
                self._wait_longer()
            else:
                self._serve(zygote)
                logger.info("a new zygote is ready", extra=fields("zygote_ready", pid=zygote.pid))
                return

    def _wait_longer(self) -> None:
        first_s, longest_s = BACKOFF_S
        self._delay_s = min(max(first_s, self._delay_s * 2), longest_s)

    def _serve(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._born_at = asyncio.get_running_loop().time()
        self._ready.set()


def _on_exit(exited: Exited) -> None:
    """Each worker hears of its own exit through `BornWorker.exited`; here it is only on record."""
    logger.debug("reaped %s", exited.worker, extra=fields("worker_reaped", status=exited.status))

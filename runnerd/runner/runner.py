"""One runnerd in a process: started, asked how it is, and ended. The daemon is one; an application may embed one."""

import asyncio
import inspect
import logging
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from runnerd.clock import SystemClock
from runnerd.config.load import load_config
from runnerd.config.model import Config
from runnerd.control.status_messages import Status
from runnerd.errors import RunExit, RunnerdError
from runnerd.extensions import Extensions, ShutdownHook, load_extensions
from runnerd.log import fields
from runnerd.process import protect_memory, raise_file_limit
from runnerd.runner.assembly import RELOAD, Ground, Parts, assemble
from runnerd.runner.database import Database
from runnerd.runner.directories import clear_links, prepare
from runnerd.runner.drain import Drain, in_order
from runnerd.runner.opening import open_parts
from runnerd.runner.trail import Trail
from runnerd.runner.unlock import close_signers
from runnerd.services.http import HttpProcess
from runnerd.services.systemd import Systemd
from runnerd.store.store import Store
from runnerd.tasks import within
from runnerd.vaults.keepers import refuse_shared_keys
from runnerd.wallets.signer import Signer
from runnerd.zygotes import Zygotes

logger = logging.getLogger("runnerd")

ADMISSION_PATIENCE_S: Final = 5.0
"""How long readiness waits for the chains: a node that is down must not keep the operator from a running daemon."""

HOOK_DEADLINE_S: Final = 10.0


class RunnerMisused(RunnerdError):
    """The handle was used out of order: see `Runner.start`."""


class Runner:
    """The handle of one runnerd: `start` it, `wait` for its end or await it, `shutdown` in any case.

    `async with` shuts it down at the end of the block. All methods belong to the loop in which it was started.
    """

    def __init__(
        self,
        config: Config,
        extensions: Extensions | None = None,
        *,
        http: HttpProcess | None = None,
        systemd: Systemd | None = None,
    ) -> None:
        """`http` was forked before the configuration was read, and listens; without it nothing is served over HTTP."""
        self.config = config
        self._extensions = extensions
        self._http = http
        self._systemd = systemd or Systemd({})
        self._drain = Drain(config.drain_s)
        self._exit_code = RunExit.DONE
        self._life: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()
        self._is_reload_wanted = False
        self._parts: Parts | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    def __await__(self) -> Generator[Any, None, int]:
        return self.wait().__await__()

    # --- for whoever embeds it ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything, and return when it is ready, or has ended because somebody asked for that first. Once.

        Raises what keeps it from running, RunnerdError or OSError, and RunnerMisused when it was started before.
        """
        if self._life is not None or self._drain.is_asked:
            raise RunnerMisused("a runner is started once; make another one")
        loop = asyncio.get_running_loop()
        self._life = loop.create_task(self._live(), name="runner:life")
        ready = loop.create_task(self._is_ready.wait(), name="runner:ready")
        try:
            await asyncio.wait([self._life, ready], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.shutdown(is_hurried=True)
            raise
        finally:
            ready.cancel()
        if self._life.done():
            self._life.result()

    async def wait(self) -> int:
        """Until it has ended, by whatever; returns its exit code: 0 in order, 1 when a vital part of it failed.

        Raises what kept it from running. Cancelling it ends nothing.
        """
        if self._life is None:
            if self._drain.is_asked:
                return RunExit.DONE
            raise RunnerMisused("nothing to wait for: the runner was not started")
        await asyncio.shield(self._life)
        return self._exit_code

    async def shutdown(self, *, is_hurried: bool = False) -> int:
        """Drain and end it, as often as anybody likes; returns its exit code, also when it failed.

        `is_hurried` waits for nothing that goes on with the next start, also in a shutdown that is under way.
        """
        if is_hurried:
            self._drain.hurry()
        else:
            self._drain.ask()
        if self._life is None:
            return RunExit.DONE
        await asyncio.wait([self._life])
        error = None if self._life.cancelled() else self._life.exception()
        if error is not None:  # `start` or `wait` raise it
            return error.exit_code if isinstance(error, RunnerdError) else RunExit.FAILED
        return self._exit_code

    async def status(self) -> Status:
        """What `runnerctl status` shows. Raises RunnerMisused while it does not run."""
        if self._parts is None:
            raise RunnerMisused("there is no status: the runner does not run")
        return await self._parts.status.read()

    # --- for the daemon's signals ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin to drain; asked a second time, hurry."""
        if self._drain.is_asked:
            self._drain.hurry()
        else:
            self._drain.ask()

    def reload(self) -> None:
        """Read the configuration again: at once, or as soon as it is ready."""
        self._is_reload_wanted = True
        if self._is_ready.is_set() and self._parts is not None and not self._drain.is_asked:
            self._parts.reloader.request()

    # --- its life ----------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """From the database to the database."""
        config, clock = self.config, SystemClock()
        started = time.monotonic()
        prepare(config)
        protect_memory()
        raise_file_limit()
        extensions = self._extensions if self._extensions is not None else load_extensions(config)
        async with Database(config) as dsn:
            store, zygotes = Store(dsn), Zygotes()
            signers: dict[str, Signer] = {}
            try:
                trail = Trail(store, clock, config)
                ground = Ground(
                    config=config, extensions=extensions, store=store, dsn=dsn, signers=signers, zygotes=zygotes,
                    http=self._http, systemd=self._systemd, clock=clock, trail=trail, drain=self._drain,
                    on_failure=self._fail,
                )  # fmt: skip
                # A start waits for others, such as a database that has gone away: who wants its end does not.
                self._parts = await self._drain.unless_asked(_build(ground))
                if self._parts is not None:
                    try:
                        await self._serve(self._parts, started)
                    finally:
                        await _call_hooks(extensions.on_shutdown)
                await trail.record_stop()
            finally:
                self._parts = None
                await in_order(zygotes.close, partial(close_signers, signers), store.close)
        logger.info("stopped", extra=fields("stopped"))

    async def _serve(self, parts: Parts, started: float) -> None:
        try:
            if await self._drain.unless_asked(self._start(parts)):
                self._on_ready(parts, started)
                await self._drain.wait()
        finally:
            await self._end(parts)

    async def _start(self, parts: Parts) -> bool:
        """True when everything runs."""
        await parts.services.start()
        parts.producers.start()
        await self._admit(parts)
        await parts.router.recover()
        return True

    def _on_ready(self, parts: Parts, started: float) -> None:
        config = self.config
        parts.pages.is_ready = True
        self._systemd.notify("READY=1", f"STATUS={len(config.plugins)} plugins")
        logger.info(
            "ready in %.2f s", time.monotonic() - started,
            extra=fields("ready", plugins=len(config.plugins), control=str(config.control_socket),
                         http=self._http.address if self._http else None),
        )  # fmt: skip
        self._is_ready.set()
        if self._is_reload_wanted:
            parts.reloader.request()

    async def _admit(self, parts: Parts) -> None:
        """Ask the chains, and wait for them a while."""
        admissions = [chain.start(parts.opening.open, self._fail) for chain in parts.chains.values()]
        if admissions:
            await asyncio.wait(admissions, timeout=ADMISSION_PATIENCE_S)

    async def _end(self, parts: Parts) -> None:
        """Intake, decisions, transactions in flight, services: in this order."""
        self._systemd.notify("STOPPING=1")
        logger.info("stopping", extra=fields("stopping"))
        parts.router.is_draining = True
        parts.pages.is_ready = False
        await in_order(
            partial(parts.services.stop, RELOAD),
            parts.producers.close,
            lambda: self._drain.patiently(parts.plugins.rest()),
            parts.webhooks.close,
            parts.plugins.close,
            lambda: self._drain.settle(parts.book, lambda words: self._systemd.notify(f"STATUS={words}")),
            parts.executor.close,
            parts.webhooks.let_go,  # who waited for an outcome has it by now, or is told where to ask for it
            parts.services.close,
            parts.commands.close,
            *(chain.close for chain in parts.chains.values()),
        )

    def _fail(self, part: str) -> None:
        """Stop, and say so with the exit code: systemd starts a whole runnerd again, a part of one helps nobody."""
        self._exit_code = RunExit.FAILED
        self._systemd.notify(f"STATUS={part} ended")
        self._drain.hurry()


def run(config: Config | Path | str, *, http: HttpProcess | None = None) -> Runner:
    """A runner of the configuration, or of the file with it: `async with runnerd.run("runnerd.toml") as runner`.

    Nothing is started: that is `runner.start()`. Raises ConfigError with everything that is wrong with the file.
    """
    return Runner(config if isinstance(config, Config) else load_config(Path(config)), http=http)


async def _build(ground: Ground) -> Parts:
    """All parts over an open ledger; the start is in its audit trail before anything is done."""
    await open_parts(ground.config.wallets, ground.zygotes, ground.store, ground.signers)
    refuse_shared_keys(ground.config, ground.signers)
    clear_links(ground.config)
    await ground.trail.record_start()
    return await assemble(ground)


async def _call_hooks(hooks: list[ShutdownHook]) -> None:
    """The last first. What one raises is logged, and the others are called."""
    for hook in reversed(hooks):
        try:
            waiting = hook()
            if inspect.isawaitable(waiting):
                await within(HOOK_DEADLINE_S, waiting, "hook:shutdown")
        except TimeoutError:
            logger.error(
                "a hook at shutdown took longer than %g s: %r", HOOK_DEADLINE_S, hook, extra=fields("hook_failed")
            )
        except Exception:
            logger.exception("a hook at shutdown failed", extra=fields("hook_failed"))

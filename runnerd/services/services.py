"""All background services: started in order, watched, started again as each one's policy says, stopped in reverse.

What a service raises is logged with its name and stands in `status`; the others go on.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from runnerd.errors import RunnerdError, explain
from runnerd.log import fields
from runnerd.services.service import Restart, Service, ServiceError, ServicePolicy
from runnerd.tasks import Tasks, end, within

logger = logging.getLogger("runnerd.services")


class ServiceState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    RETRYING = "retrying"
    FAILED = "failed"
    ENDED = "ended"


UP: Final = frozenset({ServiceState.STARTING, ServiceState.RUNNING})
"""Without a reason to worry, unless the service itself has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One service, as `status` shows it. `restarts`: how often it was started again."""

    name: str
    state: ServiceState
    reason: str
    restarts: int


class _Kept:
    """One service, with what became of it."""

    def __init__(self, service: Service, policy: ServicePolicy) -> None:
        self.service = service
        self.policy = policy
        self.state = ServiceState.STOPPED
        self.reason = ""
        self.restarts = 0
        self.is_open = False
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start it. Raises what it raises, TimeoutError when it takes too long."""
        self.state = ServiceState.STARTING
        await within(self.policy.start_deadline_s, self.service.start(), f"service-start:{self.service.name}")
        self.is_open = True
        self.state, self.reason = ServiceState.RUNNING, ""

    async def close(self) -> None:
        """Give back what it opened. Its errors are logged: nobody is left who could do anything about them."""
        if not self.is_open:
            return
        self.is_open = False
        try:
            await within(self.policy.stop_deadline_s, self.service.stop(), f"service-stop:{self.service.name}")
        except Exception as error:
            logger.error(
                "service %s did not stop in order: %s", self.service.name, _words(error, self.policy.stop_deadline_s),
                exc_info=error, extra=fields("service_stop_failed", service=self.service.name),
            )  # fmt: skip


class Services:
    """The services by name, in the order in which they start."""

    def __init__(self, on_vital_end: Callable[[str], None]) -> None:
        """`on_vital_end` is told the name of a vital one that is over."""
        self._kept: dict[str, _Kept] = {}
        self._tasks = Tasks()
        self._on_vital_end = on_vital_end

    def add(self, service: Service, policy: ServicePolicy | None = None) -> None:
        """After those that are there. Before `start`. Raises ValueError when there is one of this name."""
        if service.name in self._kept:
            raise ValueError(f"there is a service {service.name!r} already")
        self._kept[service.name] = _Kept(service, policy or ServicePolicy())

    async def start(self) -> None:
        """Start one after the other, each when the one before it is up.

        Raises ServiceError when a vital one does not come up. Another one is tried again beside those after it.
        """
        for kept in self._kept.values():
            problem = await self._try_open(kept)
            if problem is not None and kept.policy.restart is Restart.VITAL:
                raise ServiceError(f"service {kept.service.name}: {problem}")
            kept.task = self._tasks.spawn(self._keep(kept, problem), f"service:{kept.service.name}")

    async def stop(self, name: str) -> None:
        """End one, before its turn."""
        await self._end(self._kept[name])

    async def close(self) -> None:
        """End all, the last first; each is over before the next one's turn comes."""
        for kept in reversed(self._kept.values()):
            await self._end(kept)

    def view(self) -> list[ServiceView]:
        """For `status`, in their order."""
        return [
            ServiceView(
                name=kept.service.name,
                state=kept.state,
                reason=kept.reason or kept.service.trouble or "",
                restarts=kept.restarts,
            )
            for kept in self._kept.values()
        ]

    def problems(self) -> list[str]:
        """What an operator should know."""
        return [
            f"service {view.name}: {view.reason}" if view.state in UP
            else f"service {view.name} {view.state}: {view.reason}"
            for view in self.view()
            if view.reason and view.state not in (ServiceState.ENDED, ServiceState.STOPPED)
        ]  # fmt: skip

    async def _end(self, kept: _Kept) -> None:
        if kept.task is not None:
            await end([kept.task], kept.policy.stop_deadline_s)
            kept.task = None
        await kept.close()
        if kept.state is not ServiceState.FAILED:
            kept.state, kept.reason = ServiceState.STOPPED, ""

    async def _try_open(self, kept: _Kept) -> str | None:
        """Why it did not come up."""
        try:
            await kept.open()
        except Exception as error:
            words = self._explain(kept, error, kept.policy.start_deadline_s)
            kept.state, kept.reason = ServiceState.RETRYING, words
            return words
        return None

    async def _keep(self, kept: _Kept, problem: str | None) -> None:
        """Run it until it has ended or failed for good, or until cancelled. `problem`: why its first start failed."""
        loop, policy = asyncio.get_running_loop(), kept.policy
        delay_s = policy.backoff_first_s
        while True:
            if problem is None:
                began = loop.time()
                problem = await self._run(kept)
                await kept.close()
                if loop.time() - began >= policy.stable_after_s:
                    delay_s = policy.backoff_first_s
            if not self._is_started_again(kept, problem):
                return
            kept.state, kept.reason = ServiceState.RETRYING, problem or "it ended, and is always started again"
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, policy.backoff_max_s)
            kept.restarts += 1
            problem = await self._try_open(kept)

    async def _run(self, kept: _Kept) -> str | None:
        """Why it failed; None when it came to its end."""
        try:
            await kept.service.run()
        except Exception as error:
            return self._explain(kept, error, 0)
        return None

    def _is_started_again(self, kept: _Kept, problem: str | None) -> bool:
        name, rule = kept.service.name, kept.policy.restart
        if rule is Restart.ALWAYS or (rule is Restart.ON_FAILURE and problem is not None):
            return True
        kept.state = ServiceState.ENDED if problem is None else ServiceState.FAILED
        kept.reason = problem or ""
        if rule is Restart.VITAL:
            logger.critical(
                "service %s ended, and runnerd with it: %s", name, problem or "it has no more to do",
                extra=fields("vital_service_ended", service=name),
            )  # fmt: skip
            self._on_vital_end(name)
        elif problem is None:
            logger.info("service %s has ended", name, extra=fields("service_ended", service=name))
        return False

    def _explain(self, kept: _Kept, error: Exception, deadline_s: float) -> str:
        words = _words(error, deadline_s)
        logger.error(
            "service %s failed: %s", kept.service.name, words,
            exc_info=None if isinstance(error, RunnerdError | TimeoutError) else error,
            extra=fields("service_failed", service=kept.service.name),
        )  # fmt: skip
        return words


def _words(error: Exception, deadline_s: float) -> str:
    match error:
        case TimeoutError() if deadline_s:
            return f"it took longer than {deadline_s:g} s"
        case _:
            return explain(error)

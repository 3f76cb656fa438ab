"""What a background service is: a long-lived task beside the loop, with a start, a stop and a health of its own."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from runnerd.errors import RunnerdError, Transient


class ServiceError(RunnerdError):
    """A background service cannot go on. The text says what is wrong, for the operator."""


class ServiceUnavailable(ServiceError, Transient):
    """What it needs is away, and may come back: it is started again as its policy says."""


class Restart(StrEnum):
    """What becomes of a service whose `run` is over."""

    ON_FAILURE = "on_failure"
    """Started again when it raised; one that returns has done its work."""
    ALWAYS = "always"
    NEVER = "never"
    VITAL = "vital"
    """runnerd stops with exit code 1, and the service manager starts a whole one: a part of it helps nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePolicy:
    """How a service is kept. Seconds; the wait before a restart doubles from `backoff_first_s`."""

    restart: Restart = Restart.ON_FAILURE
    backoff_first_s: float = 0.5
    backoff_max_s: float = 60.0
    stable_after_s: float = 60.0
    """Who ran for so long has recovered: its next wait is the first again."""
    start_deadline_s: float = 30.0
    stop_deadline_s: float = 10.0


class Service(Protocol):
    """One background service. All methods belong to the supervisor's loop, and must not block it."""

    name: str
    """For tasks, logs and `status`."""

    async def start(self) -> None:
        """Open what it needs, and return when others can rely on it."""

    async def run(self) -> None:
        """Until cancelled; or until its work is done."""

    async def stop(self) -> None:
        """Give back what `start` opened. Comes once after each `start` that returned."""

    @property
    def trouble(self) -> str | None:
        """What keeps it from its work now, in words, while it helps itself; None if it works."""


class LoopService:
    """A service that is one coroutine, and has nothing to open or close."""

    def __init__(self, name: str, run: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.name = name
        self._run = run

    async def start(self) -> None:
        """There is nothing to wait for."""

    async def run(self) -> None:
        """The coroutine."""
        await self._run()

    async def stop(self) -> None:
        """There is nothing to give back."""

    @property
    def trouble(self) -> str | None:
        """It has no words for any."""
        return None

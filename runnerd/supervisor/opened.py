"""A call that is with a worker, and what becomes of it when the worker has decided. Used by `caller`."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from protocol.messages import Decision, Hello
from runnerd.config.plugins import PluginConfig
from runnerd.executor.decided import Decided, state_limits_of, terms_of
from runnerd.store.calls import JobCall
from runnerd.supervisor.ahead import Ahead
from runnerd.supervisor.desk import Deciding
from runnerd.supervisor.patience import Deadline


@dataclass(slots=True)
class Opened:
    """Its context, and when it is too late."""

    deciding: Deciding
    context: str
    generation: int
    overdue: Deadline
    ahead: Ahead | None = None
    """It is being stored meanwhile."""

    @property
    def call(self) -> JobCall:
        """The call itself."""
        return self.deciding.call

    def once_stored(self, work: Coroutine[Any, Any, object]) -> Coroutine[Any, Any, object]:
        """What comes of the call, if it is stored, and when it is."""
        return work if self.ahead is None else self.ahead.then(work)

    async def decide(self, work: Coroutine[Any, Any, object], stored: Callable[[JobCall], None]) -> None:
        """The same for a Decision; `stored` hears of it when it stands, or never will."""
        try:
            await self.once_stored(work)
        finally:
            stored(self.call)

    def decided(
        self, answer: Decision, config: PluginConfig, declared: Hello | None, now: datetime, decide_ms: float
    ) -> Decided:
        """What the executor gets."""
        return Decided(
            call=self.call,
            vault=config.place,
            generation=self.generation,
            digest=declared.digest if declared is not None else "",
            attempt=answer.attempt,
            context=self.context,
            outcome=answer.outcome,
            state_writes=answer.state_writes,
            decided_at=now,
            decide_ms=decide_ms,
            terms=terms_of(config),
            state_limits=state_limits_of(config),
        )

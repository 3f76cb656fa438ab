"""Commands are answered in time while the ledger is away: what they began goes on, and who asked is told what holds.

Which commands wait for the ledger alone, and what is told of each, is `told_when_late`; pure. `Patience` is the clock.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from runnerd.control import chain_messages, consumer_messages, key_messages, messages, service_messages
from runnerd.control.messages import Pending, Request
from runnerd.errors import RunnerdError, explain
from runnerd.log import fields
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.commands")

LEDGER_DEADLINE_S: Final = 6.0
"""Less than `runnerctl` waits for an answer; more than a query does for a connection: what asks before it changes
anything is refused, and does not go on."""
AWAY: Final = "the database is not reachable"

R = TypeVar("R")


class Patience:
    """Carries commands out in tasks of their own: one that its client has left is not half done."""

    def __init__(self) -> None:
        self._tasks = Tasks()

    async def close(self) -> None:
        """Let what is being committed be done; what waits for a database that is away is given up."""
        await self._tasks.finish(LEDGER_DEADLINE_S)

    async def wait(self, work: Coroutine[Any, Any, R], late: str) -> R:
        """What `work` returns, or its error. Raises Pending with `late` when that takes too long; it goes on then."""
        task = self._tasks.spawn(_outcome(work), "command:ledger")
        finished, _ = await asyncio.wait([task], timeout=LEDGER_DEADLINE_S)
        if not finished:
            task.add_done_callback(_report)
            raise Pending(f"{AWAY}; {late}")
        outcome: R | RunnerdError = task.result()
        if isinstance(outcome, RunnerdError):
            raise outcome
        return outcome


def told_when_late(request: Request) -> str | None:  # one for each command
    """What holds while a command waits for the ledger. None for one that asks others as well, or changes nothing."""
    match request:
        case messages.Pause() | messages.Reduce():
            how = "paused" if isinstance(request, messages.Pause) else "set to reducing"
            return f"{_scope(request)} is {how} in this process, not stored yet: say it again if runnerd ends before"
        case messages.Resume():
            return f"{_scope(request)} is not resumed yet: it is when the database is back"
        case messages.Restart():
            return f"{request.plugin} restarts, which is not on record yet"
        case service_messages.Drain():
            return (
                "runnerd does not drain yet: it begins when the database is back. systemctl stop runnerd does not wait"
            )
        case chain_messages.Cancel():
            return f"what can be withdrawn of call {request.call_id} is, which is not on record yet: see runnerctl tx"
        case chain_messages.TurnFees():
            return f"the knobs of {request.chain} are turned when it is back: see runnerctl fees {request.chain}"
        case key_messages.CreateKey():
            return (
                f"key {request.name} may be made when it is back, and nobody has its secret then: see runnerctl keys "
                "list, revoke it, and make one of another name"
            )
        case key_messages.RevokeKey():
            return f"{request.name} is revoked in this process, not stored yet: say it again if runnerd ends before"
        case (
            consumer_messages.RetryDeadLetters()
            | consumer_messages.DropDeadLetters()
            | consumer_messages.ForgetConsumer()
        ):
            return "it is done when the database is back: see runnerctl consumers list"
        case _:
            return None


def _scope(request: messages.Pause | messages.Reduce | messages.Resume) -> str:
    return "everything" if request.scope == "all" else f"{request.scope} {request.name}"


async def _outcome(work: Coroutine[Any, Any, R]) -> R | RunnerdError:
    """A refusal is an answer, not a task that failed."""
    try:
        return await work
    except RunnerdError as error:
        return error


def _report(task: "asyncio.Task[Any]") -> None:
    if task.cancelled() or task.exception() is not None:
        return
    outcome = task.result()
    if isinstance(outcome, RunnerdError):
        logger.warning(
            "a command that waited for the database failed: %s", outcome,
            extra=fields("command_late", reason=explain(outcome)),
        )  # fmt: skip
    else:
        logger.info("a command that waited for the database is done", extra=fields("command_late", reason=None))

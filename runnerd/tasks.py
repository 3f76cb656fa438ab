"""Background tasks with an owner: named, referenced, awaited at the end, and never failing in silence."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar

from runnerd.log import fields

logger = logging.getLogger(__name__)

END_DEADLINE_S = 5.0
"""How long who was cancelled may take to end. Code of third parties runs here as well, and may take no notice."""
T = TypeVar("T")


async def end(tasks: Collection[asyncio.Task[Any]], deadline_s: float | None = None) -> None:
    """Cancel them and wait until they are gone. What has not ended by then is named in the log, and left behind."""
    deadline_s = END_DEADLINE_S if deadline_s is None else deadline_s
    for task in tasks:
        task.cancel()
    left = (await asyncio.wait(tasks, timeout=deadline_s))[1] if tasks else ()
    for task in left:
        logger.error(
            "task %s did not end within %g s of its cancellation, and is left behind", task.get_name(), deadline_s,
            extra=fields("task_stuck", task=task.get_name()),
        )  # fmt: skip


async def within(deadline_s: float, work: Awaitable[T], name: str) -> T:
    """What `work` returns or raises. TimeoutError when it takes longer, and also when it takes no notice of its end:
    `asyncio.timeout` would go on waiting for that."""

    async def body() -> T:
        return await work

    task = asyncio.get_running_loop().create_task(body(), name=name)
    try:
        await asyncio.wait([task], timeout=deadline_s)
    finally:
        if not task.done():
            await end([task])
    if not task.done() or task.cancelled():
        raise TimeoutError
    return task.result()


class Tasks:
    """The tasks of one owner. A task that raises is logged with its name; the others go on."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `coroutine` beside the caller. `name` reads `kind:subject`."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def spawn_vital(
        self, coroutine: Coroutine[Any, Any, Any], name: str, on_failure: Callable[[str], None]
    ) -> asyncio.Task[Any]:
        """Run what the owner cannot do without, until it is cancelled. If it ends by itself, `on_failure` is told."""

        def ended(task: asyncio.Task[Any]) -> None:
            if not task.cancelled():
                logger.critical("vital task %s ended", name, extra=fields("vital_task_ended", task=name))
                on_failure(name)

        task = self.spawn(coroutine, name)
        task.add_done_callback(ended)
        return task

    async def finish(self, timeout_s: float) -> None:
        """Wait for what runs, and for what that starts; cancel what is left when the time is over."""
        until = asyncio.get_running_loop().time() + timeout_s
        while self._tasks and (left_s := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        await self.cancel()

    async def cancel(self) -> None:
        """Cancel all and wait until they are gone; see `end`."""
        await end(list(self._tasks))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error(
                "task %s failed: %s", task.get_name(), task.exception(),
                exc_info=task.exception(), extra=fields("task_failed", task=task.get_name()),
            )  # fmt: skip

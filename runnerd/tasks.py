"""Background tasks with an owner: named, referenced, awaited at the end, and never failing in silence."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from runnerd.log import fields

logger = logging.getLogger(__name__)


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
        """Cancel all and wait until they are gone."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error(
                "task %s failed: %s", task.get_name(), task.exception(),
                exc_info=task.exception(), extra=fields("task_failed", task=task.get_name()),
            )  # fmt: skip

"""Runs a coroutine of a test to its end: with a deadline, and with a failure if it leaves a task running."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
DEADLINE_S = 60.0


def run_async(
    coroutine: Coroutine[Any, Any, T],
    *,
    deadline_s: float = DEADLINE_S,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Return what `coroutine` returns. `loop_factory`: `uvloop.new_event_loop` for the loop of production."""

    async def checked() -> T:
        async with asyncio.timeout(deadline_s):
            result = await coroutine
        # Tasks that were cancelled or told to finish get one turn of the loop to do so.
        await asyncio.sleep(0)
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"left running by the test: {', '.join(left)}"
        return result

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(checked())

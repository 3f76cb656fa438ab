"""Waits in a loop until something is so, with a deadline: for what has no event of its own to wait for."""

import asyncio
from collections.abc import Callable


async def until(is_so: Callable[[], object], deadline_s: float = 10.0, *, every_s: float = 0.002) -> None:
    """Return as soon as `is_so()` is true; fail at the deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while not is_so():
        assert loop.time() < end, f"it did not happen within {deadline_s:g} s"
        await asyncio.sleep(every_s)

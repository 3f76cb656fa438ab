"""Runs what blocks in a thread of its own, one at a time, and never waits for it longer than it is told to.

A thread cannot be ended. One that hangs is left behind: it is a daemon, so it keeps no process from its end, and until
it has come back there is no second one.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from runnerd.consumers.consumer import ConsumerUnavailable

T = TypeVar("T")


class BlockingCalls:
    """Of one consumer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_busy = False

    async def run(self, work: Callable[[], T], deadline_s: float) -> T:
        """What `work` returns or raises. ConsumerUnavailable when it takes too long, or the one before still does."""
        if self._is_busy:
            raise ConsumerUnavailable("the attempt before this one has not come back yet")
        loop = asyncio.get_running_loop()
        told: asyncio.Future[T] = loop.create_future()

        def end(result: T | None, error: BaseException | None) -> None:
            self._is_busy = False
            if told.done():
                return
            if error is not None:
                told.set_exception(error)
            else:
                told.set_result(result)  # type: ignore[arg-type]  # of `work`

        def body() -> None:
            result, error = None, None
            try:
                result = work()
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(end, result, error)

        self._is_busy = True
        threading.Thread(target=body, name=f"consumer:{self._name}", daemon=True).start()
        try:
            async with asyncio.timeout(deadline_s):
                return await told
        except TimeoutError:
            raise ConsumerUnavailable(f"no answer within {deadline_s:g} s") from None

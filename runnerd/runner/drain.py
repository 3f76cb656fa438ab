"""How a runner ends: intake first, then what is being decided, then what is in flight, then all that it worked with.

Nothing is lost by hurrying: what waits, and what is in flight, stands in the ledger and goes on with the next start.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from runnerd.executor.tracked import Book
from runnerd.executor.wanted import IntentState
from runnerd.log import fields
from runnerd.tasks import end

logger = logging.getLogger("runnerd")

LOOK_EVERY_S = 0.1
MOVING = frozenset({IntentState.PLANNED, IntentState.SIGNED, IntentState.SENT, IntentState.INCLUDED})
"""What gets on by itself while a stop waits for it."""
T = TypeVar("T")


async def in_order(*steps: Callable[[], Awaitable[None]]) -> None:
    """One step after the other, also after one that raised: a part that ends badly keeps no other from its end.

    Raises in the end what the first of them raised; what later ones raise is logged.
    """
    first: Exception | None = None
    for step in steps:
        try:
            await step()
        except Exception as error:
            if first is not None:
                logger.error("a further step of the end failed", exc_info=error, extra=fields("stop_failed"))
            first = first or error
    if first is not None:
        raise first


class Drain:
    """One stop. It is patient until somebody hurries it."""

    def __init__(self, transactions_s: float) -> None:
        """`transactions_s`: how long to wait for what is in flight."""
        self.transactions_s = transactions_s
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()

    @property
    def is_asked(self) -> bool:
        """Whether anybody has asked for the end."""
        return self._asked.is_set()

    @property
    def is_hurried(self) -> bool:
        """Whether nothing is waited for any more."""
        return self._hurried.is_set()

    def ask(self, transactions_s: float | None = None) -> None:
        """Begin. `transactions_s` replaces the configured patience."""
        if transactions_s is not None:
            self.transactions_s = transactions_s
        self._asked.set()

    def hurry(self) -> None:
        """Wait for nothing any more that goes on with the next start; begin, if nobody has asked yet."""
        if self._asked.is_set() and not self._hurried.is_set():
            logger.warning(
                "in a hurry: what is being decided or in flight is left where it is", extra=fields("hurried")
            )
        self._hurried.set()
        self._asked.set()

    async def wait(self) -> None:
        """Until somebody asks."""
        await self._asked.wait()

    async def unless_asked(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` returns; None if somebody asks for the end first: then it is cancelled. Raises what it raises."""
        return await _unless(self._asked, work)

    async def patiently(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for `work`, unless somebody is in a hurry: then it is cancelled. Raises what it raises."""
        await _unless(self._hurried, work)

    async def settle(self, book: Book, notify: Callable[[str], None]) -> None:
        """Wait for transactions in flight until they are final, or patience ends; then say what is left."""
        if self.transactions_s > 0 and not self.is_hurried and (count := count_moving(book)):
            words = f"waiting at most {self.transactions_s:g} s for {count} transactions in flight"
            logger.info(words, extra=fields("settling", intents=count))
            notify(words)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.transactions_s):
                    await self.patiently(_until_settled(book))
        if left := count_moving(book):
            logger.info(
                "%d transactions in flight go on with the next start", left, extra=fields("parked", intents=left)
            )  # fmt: skip


async def _unless(rung: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    loop = asyncio.get_running_loop()
    working = loop.create_task(work, name="drain:work")
    waiting = loop.create_task(rung.wait(), name="drain:wait")
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end([task for task in (working, waiting) if not task.done()])
    return working.result() if working.done() and not working.cancelled() else None


def count_moving(book: Book) -> int:
    """Intents that are not at their end, and are not held up by anything that only an operator can mend."""
    return sum(tracked.intent.state in MOVING for tracked in book.open.values())


async def _until_settled(book: Book) -> None:
    while count_moving(book):  # noqa: ASYNC110  # one that gets stuck rings no bell
        await asyncio.sleep(LOOK_EVERY_S)

"""A call that its worker was given while it is being stored: what comes of it counts when it is, and not before."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from runnerd.store.calls import JobCall


@dataclass(slots=True)
class Ahead:
    """`router` settles it once; `caller` waits for that, or drops it when the worker ends before."""

    call: JobCall
    settled: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_dropped: bool = False
    """No worker has it any more: it is to be offered as if none ever had."""

    def settle(self, *, is_stored: bool) -> bool:
        """Whether somebody has taken it: then it is not offered a second time."""
        if not self.settled.done():
            self.settled.set_result(is_stored)
        return not self.is_dropped

    async def then(self, work: Coroutine[Any, Any, object]) -> None:
        """Do it once the call is stored; if it is not, there is no such call."""
        try:
            is_stored = await asyncio.shield(self.settled)  # whoever is cancelled here settles nothing
        except asyncio.CancelledError:
            work.close()
            raise
        if is_stored:
            await work
        else:
            work.close()

"""A call that its worker was given while it is being stored: what comes of it counts when it is, and not before."""

import asyncio
from dataclasses import dataclass, field

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

    async def is_stored(self) -> bool:
        """Once that is known. Whoever is cancelled here cancels nothing."""
        return await asyncio.shield(self.settled)

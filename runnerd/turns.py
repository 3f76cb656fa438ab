"""Who may start now: so many plugins at once, the others in the order in which they came.

A thousand workers that are born, import their plugins and say Hello at the same time take the CPU from each other until
they miss their deadlines, and a start that was only slow becomes crashes. One that waits has no deadline yet.
"""

import asyncio
import gc
import os
from contextlib import suppress

from runnerd.supervisor.host import PluginHost
from runnerd.supervisor.machine import Phase
from runnerd.tasks import Tasks

AT_ONCE = 8 * (os.cpu_count() or 1)
"""More than keeps the CPUs busy while some wait for a disk."""
LOOK_S = 0.02
"""One that does not become ready tells nobody here: its place is free after the next look."""
REASON = "its turn to start comes when others are ready"


class StartTurns:
    """First starts only: a restart belongs to the plugin's own budget."""

    def __init__(self) -> None:
        self._waiting: dict[PluginHost, None] = {}
        self._starting: set[PluginHost] = set()
        self._freed = asyncio.Event()
        self._tasks = Tasks()
        self._is_serving = False

    def start(self, host: PluginHost) -> None:
        """Start it, now or in its turn; until then its calls wait."""
        if host in self._waiting:
            return
        if not self._waiting and self._has_room():
            self._begin(host)
            return
        host.hold(REASON, is_awaited=True)
        self._waiting[host] = None
        if not self._is_serving:
            self._is_serving = True
            self._tasks.spawn(self._serve(), "plugins:start")

    def free(self) -> None:
        """One is ready: the next may start."""
        self._freed.set()

    async def close(self) -> None:
        """Nobody else starts."""
        self._waiting.clear()
        await self._tasks.cancel()

    def _has_room(self) -> bool:
        self._starting = {host for host in self._starting if host.state.phase is Phase.STARTING}
        return len(self._starting) < AT_ONCE

    def _are_all_up(self) -> bool:
        return self._has_room() and not self._starting

    def _begin(self, host: PluginHost) -> None:
        host.start()
        self._starting.add(host)

    async def _serve(self) -> None:
        try:
            while self._waiting or not self._are_all_up():
                self._freed.clear()
                while self._waiting and self._has_room():
                    host = next(iter(self._waiting))
                    del self._waiting[host]
                    # It may have been restarted, refused or removed meanwhile.
                    if host.is_awaited and not host.is_ending and host.state.phase is Phase.STOPPED:
                        self._begin(host)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._freed.wait()
            _settle_memory()
        finally:
            self._is_serving = False


def _settle_memory() -> None:
    """What a crowd consists of stays: no later collection looks at it again.

    With 1,000 plugins each full collection took 110 to 210 ms, every ten seconds, in which nothing was fired.
    """
    gc.collect()
    gc.freeze()

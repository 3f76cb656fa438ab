"""How late the supervisor's loop wakes: the first thing to look at when everything is slow."""

import asyncio

from runnerd.services.metrics import Metrics

EVERY_S = 0.25


class LagMonitor:
    """A background service; `latest_s` is the last measurement."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.latest_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.latest_s = max(0.0, loop.time() - due)
            self._metrics.lag(self.latest_s)

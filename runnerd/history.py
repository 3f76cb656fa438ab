"""What happened to workers, on its way into the ledger: lines that come while a commit is under way share the next one.

A thousand plugins that start write two thousand lines; a transaction each would be the ledger's whole work. A line that
is lost with the process costs a line of history: nothing depends on it.
"""

from datetime import datetime

from runnerd.store import workers
from runnerd.store.ledger import Ledger
from runnerd.store.workers import Line
from runnerd.tasks import Tasks

MAX_GROUP = 500


class History:
    """Shared by all hosts. `record` returns at once."""

    def __init__(self, store: Ledger) -> None:
        self._store = store
        self._tasks = Tasks()
        self._lines: list[Line] = []
        self._is_writing = False

    def record(self, plugin: str, generation: int, kind: str, detail: str, at: datetime) -> None:
        """Write a line: started, ready, exited, quarantined, denied syscall …"""
        self._lines.append(Line(plugin, generation, kind, detail, at))
        if not self._is_writing:
            self._is_writing = True
            self._tasks.spawn(self._write(), "history:write")

    async def close(self, limit_s: float) -> None:
        """Wait until what was recorded stands in the ledger."""
        await self._tasks.finish(limit_s)

    async def _write(self) -> None:
        try:
            while self._lines:
                group, self._lines = self._lines[:MAX_GROUP], self._lines[MAX_GROUP:]
                await self._store.commit(workers.add_events(group))
        finally:
            self._is_writing = False

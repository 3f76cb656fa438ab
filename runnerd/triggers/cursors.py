"""The last slot of a trigger that became a JobCall, from the ledger: who asks at the same time shares one query.

A thousand plugins whose workers are ready at once would be a thousand queries otherwise.
"""

import asyncio
from datetime import datetime

from runnerd.store import calls
from runnerd.store.ledger import Ledger
from runnerd.tasks import Tasks

MAX_GROUP = 1_000

_Key = tuple[str, str]


class Cursors:
    """Reads only; a cursor is moved in the commit of its JobCall."""

    def __init__(self, store: Ledger) -> None:
        self._store = store
        self._tasks = Tasks()
        self._asked: list[tuple[_Key, asyncio.Future[datetime | None]]] = []
        self._is_asking = False

    async def fetch(self, plugin: str, trigger_key: str) -> datetime | None:
        """Of one trigger; None when it has none yet. Raises StoreError."""
        answer: asyncio.Future[datetime | None] = asyncio.get_running_loop().create_future()
        self._asked.append(((plugin, trigger_key), answer))
        if not self._is_asking:
            self._is_asking = True
            self._tasks.spawn(self._ask(), "cron:cursors")
        return await answer

    async def _ask(self) -> None:
        try:
            while self._asked:
                group, self._asked = self._asked[:MAX_GROUP], self._asked[MAX_GROUP:]
                await self._answer(group)
        finally:
            self._is_asking = False

    async def _answer(self, group: "list[tuple[_Key, asyncio.Future[datetime | None]]]") -> None:
        try:
            rows = await self._store.fetch(calls.cursors_of([key for key, _ in group]))
        except Exception as error:  # each who asked decides what that means
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        found = {(row["plugin"], row["trigger_key"]): row["due_at"] for row in rows}
        for key, answer in group:
            if not answer.done():
                answer.set_result(found.get(key))

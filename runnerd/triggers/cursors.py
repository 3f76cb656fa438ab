"""The last slots of triggers that became JobCalls, in the ledger: who asks at the same time shares one query.

A thousand plugins whose workers are ready at once would be a thousand queries otherwise.
"""

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime

from runnerd.store import cursors
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger, Rows
from runnerd.tasks import Tasks

MAX_GROUP = 1_000


class Cursors:
    """Reads and drops; a cursor is moved in the commit of its JobCall."""

    def __init__(self, store: Ledger) -> None:
        self._store = store
        self._tasks = Tasks()
        self._asked: list[tuple[str, asyncio.Future[Mapping[str, datetime]]]] = []
        self._is_asking = False
        self._dropping: set[asyncio.Future[list[Rows]]] = set()

    async def fetch(self, plugin: str) -> Mapping[str, datetime]:
        """Of all triggers of `plugin` that have one, by their key. Raises StoreError."""
        answer: asyncio.Future[Mapping[str, datetime]] = asyncio.get_running_loop().create_future()
        self._asked.append((plugin, answer))
        if not self._is_asking:
            self._is_asking = True
            self._tasks.spawn(self._ask(), "cron:cursors")
        return await answer

    def drop(self, plugin: str, kept: Collection[str] = ()) -> None:
        """Forget those of the other triggers of `plugin`: after what was committed before, and before what comes."""
        try:
            dropping = self._store.submit(cursors.drop(plugin, kept))
        except StoreError:  # closed: see below
            return
        self._dropping.add(dropping)
        dropping.add_done_callback(self._on_dropped)

    def _on_dropped(self, dropping: "asyncio.Future[list[Rows]]") -> None:
        self._dropping.discard(dropping)
        if not dropping.cancelled():
            dropping.exception()  # the ledger was closed before: the next start drops what is not declared then

    async def _ask(self) -> None:
        try:
            while self._asked:
                group, self._asked = self._asked[:MAX_GROUP], self._asked[MAX_GROUP:]
                await self._answer(group)
        finally:
            self._is_asking = False

    async def _answer(self, group: "list[tuple[str, asyncio.Future[Mapping[str, datetime]]]]") -> None:
        try:
            if self._dropping:  # a reader does not wait for the writer
                await asyncio.wait(self._dropping)
            rows = await self._store.fetch(cursors.of_plugins([plugin for plugin, _ in group]))
        except Exception as error:  # each who asked decides what that means
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        found: dict[str, dict[str, datetime]] = {}
        for row in rows:
            found.setdefault(row["plugin"], {})[row["trigger_key"]] = row["due_at"]
        for plugin, answer in group:
            if not answer.done():
                answer.set_result(found.get(plugin, {}))

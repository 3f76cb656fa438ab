"""A router over a real ledger without plugins: it commits what producers submit, and remembers what was new."""

import asyncio
from collections.abc import Collection, Sequence

from runnerd.store import calls
from runnerd.store.calls import JobCall, NewCall
from runnerd.store.statement import Statement
from runnerd.store.store import Store


class LedgerRouter:
    """`Submit`. `gate` holds who submits before the commit, `after` behind it; `free` is the room it tells of."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.accepted: list[JobCall] = []
        self.held = 0
        self.free = 1_000
        self.gate, self.after = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.after.set()

    def room(self, plugin: str, jobs: Collection[str] = ()) -> int:
        return self.free

    def is_quarantined(self, plugin: str) -> bool:
        return False

    async def submit(self, new_calls: Sequence[NewCall], *cursors: Statement) -> object:
        await self._hold(self.gate)
        results = await self._store.commit(*(calls.insert(call) for call in new_calls), *cursors)
        by_call = zip(new_calls, results[: len(new_calls)], strict=True)
        self.accepted += [calls.inserted(call, row) for call, rows in by_call for row in rows]
        await self._hold(self.after)
        return None

    async def _hold(self, gate: asyncio.Event) -> None:
        self.held += 1
        try:
            await gate.wait()
        finally:
            self.held -= 1

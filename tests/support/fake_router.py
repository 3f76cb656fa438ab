"""A router that only remembers: what producers submitted, in one commit each. For producers without a ledger."""

import asyncio
from collections.abc import Collection, Sequence

from runnerd.store.calls import NewCall
from runnerd.store.statement import Statement


class FakeRouter:
    """`commits` holds the calls and cursors of each submission; `failure` is raised instead of the next one."""

    def __init__(self) -> None:
        self.commits: list[tuple[list[NewCall], list[Statement]]] = []
        self.failure: Exception | None = None
        self.quarantined: set[str] = set()
        self.rooms: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def calls(self) -> list[NewCall]:
        """All calls, in order."""
        return [call for new_calls, _ in self.commits for call in new_calls]

    def room(self, plugin: str, jobs: Collection[str] = ()) -> int:
        return self.rooms.get(plugin, 1_000)

    def is_quarantined(self, plugin: str) -> bool:
        return plugin in self.quarantined

    async def submit(self, new_calls: Sequence[NewCall], *cursors: Statement) -> object:
        await self.gate.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.commits.append((list(new_calls), list(cursors)))
        return None

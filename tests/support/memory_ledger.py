"""A router and a ledger in memory, for producers with positions: one commit is all or nothing, identities are unique.

It understands the statements of `chain_follower` by their parameters. `crash` ends a commit before or after it.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal

from protocol.messages import TriggerKind
from runnerd.store.calls import NewCall
from runnerd.store.statement import Statement


class CrashError(Exception):
    """The process ended here."""


class MemoryLedger:
    """`Submit` and the part of `Ledger` that is asked."""

    def __init__(self) -> None:
        self.calls: dict[str, NewCall] = {}
        """By identity, in the order in which they were committed."""
        self.positions: dict[tuple[str, str], str] = {}
        self.free = 1_000
        self.crash: Literal["before", "after"] | None = None
        self.crashes = 0
        self.spared = 0
        """So many commits come before the one in which it crashes."""
        self.largest = 0

    # --- Submit ------------------------------------------------------------------------------------------------------

    def room(self, plugin: str, jobs: Collection[str] = ()) -> int:
        return self.free

    def is_quarantined(self, plugin: str) -> bool:
        return False

    async def submit(self, new_calls: Sequence[NewCall], *cursors: Statement) -> object:
        assert len(new_calls) <= self.free, "more than it said it takes"
        crash = self.crash if not self.spared else None
        if crash:
            self.crash = None
            self.crashes += 1
        self.spared = max(0, self.spared - 1)
        if crash == "before":
            raise CrashError
        self.largest = max(self.largest, len(new_calls))
        for call in new_calls:
            assert not (call.is_fresh and call.identity in self.calls), "it said that this is fresh"
            self.calls.setdefault(call.identity, call)
        await self.commit(*cursors)
        if crash == "after":
            raise CrashError
        return None

    # --- Ledger ------------------------------------------------------------------------------------------------------

    async def commit(self, *statements: Statement, is_idempotent: bool = True) -> list[list[dict[str, Any]]]:
        for statement in statements:
            given = statement.parameters
            self.positions[str(given["producer"]), str(given["key"])] = str(given["position"])
        return [[] for _ in statements]

    async def fetch(self, statement: Statement) -> list[dict[str, Any]]:
        given = statement.parameters
        if "producer" in given:
            position = self.positions.get((str(given["producer"]), str(given["key"])))
            return [] if position is None else [{"position": position}]
        return [
            _row(number, call)
            for number, call in reversed(list(enumerate(self.calls.values())))
            if call.block is not None
            and (call.block.hash, call.plugin, call.source) == (given["block"], given["plugin"], given["source"])
            and not call.identity.startswith("retracted ")
            and f"retracted {call.identity}" not in self.calls
        ]


def _row(number: int, call: NewCall) -> dict[str, Any]:
    assert call.block is not None
    return {
        "id": number, "plugin": call.plugin, "trigger": TriggerKind(call.trigger).value, "identity": call.identity,
        "principal": call.principal, "topic": call.topic, "payload": call.payload, "due_at": call.due_at,
        "fired_at": call.fired_at, "deadline_at": call.deadline_at, "attempts": 0, "source": call.source,
        "job": call.job, "overlap": call.overlap, "block_number": call.block.number, "block_hash": call.block.hash,
        "block_time": call.block.timestamp,
    }  # fmt: skip

"""What `runnerctl runs`, `transactions` and `why` ask for: rows of the ledger, newest first."""

from collections.abc import Callable
from typing import Any, Final, assert_never

from msgspec import structs

from runnerd.control import record_messages
from runnerd.control.messages import MAX_LINE_BYTES, Reply
from runnerd.store import calls, intents, workers
from runnerd.store.store import Store

SHOWN_PAYLOAD: Final = 1_000
"""Characters of a payload that a listing carries; the ledger has the whole."""
ROOM_BYTES: Final = MAX_LINE_BYTES // 4
"""JSON may take several bytes for a character."""


class RecordCommands:
    """`check_plugin` raises ControlError for a plugin that is not configured."""

    def __init__(self, store: Store, check_plugin: Callable[[str], None]) -> None:
        self._store = store
        self._check_plugin = check_plugin

    async def handle(
        self, request: record_messages.GetRuns | record_messages.GetTransactions | record_messages.GetHistory
    ) -> Reply:
        """Answer one of them. Raises ControlError, StoreError."""
        match request:
            case record_messages.GetRuns():
                return await self._runs(request)
            case record_messages.GetTransactions():
                return await self._transactions(request.limit)
            case record_messages.GetHistory():
                return await self._history(request)
            case _:
                assert_never(request)

    async def _runs(self, request: record_messages.GetRuns) -> Reply:
        if request.plugin is not None:
            self._check_plugin(request.plugin)
        query = calls.recent(request.plugin, request.limit, only_decided=request.only_decided)
        names = [field.name for field in structs.fields(record_messages.Run)]
        runs: list[record_messages.Run] = []
        room = ROOM_BYTES
        for row in await self._store.fetch(query):
            run = record_messages.Run(**{name: row[name] for name in names})
            run = structs.replace(run, payload=run.payload[:SHOWN_PAYLOAD])
            room -= len(run.payload) + len(run.decision or "") + len(run.reason or "")
            if room < 0:  # the reply is one line of bounded length: what fits, newest first
                break
            runs.append(run)
        return record_messages.Runs(runs=runs)

    async def _transactions(self, limit: int) -> Reply:
        names = [field.name for field in structs.fields(record_messages.Transaction)]
        wei = {"value_wei", "max_fee_per_gas_wei", "max_priority_fee_wei", "effective_gas_price_wei"}
        found = []
        for row in await self._store.fetch(intents.recent_transactions(limit)):
            values: dict[str, Any] = {
                name: int(row[name]) if name in wei and row[name] is not None else row[name] for name in names
            }
            found.append(record_messages.Transaction(**values))
        return record_messages.Transactions(transactions=found)

    async def _history(self, request: record_messages.GetHistory) -> Reply:
        self._check_plugin(request.plugin)
        rows = await self._store.fetch(workers.events(request.plugin, request.limit))
        names = [field.name for field in structs.fields(record_messages.HistoryEvent)]
        events = [record_messages.HistoryEvent(**{name: row[name] for name in names}) for row in rows]
        return record_messages.History(plugin=request.plugin, events=events)

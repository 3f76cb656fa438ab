"""What came of calls: of one, now or when it has its outcome, and of all of a key's plugins, one after the other."""

import asyncio
from collections.abc import Sequence
from typing import Final

from psycopg.rows import DictRow

from runnerd.http.words import CallView, Events, GetEvents, Outcome, Refusal, Why
from runnerd.routing.results import Results
from runnerd.routing.routes import FALLBACK
from runnerd.store import outcomes
from runnerd.store.calls import JobResult
from runnerd.store.ledger import Ledger
from runnerd.views.calls import to_view
from runnerd.webhooks.keys import ApiKey
from runnerd.webhooks.maker import LEDGER_DEADLINE_S

MAX_OUTCOMES: Final = 100


class OutcomeWatch:
    """Used by `webhooks.Webhooks`, which has verified the key. Both raise StoreError and TimeoutError of the ledger."""

    def __init__(self, results: Results, store: Ledger) -> None:
        self._results = results
        self._store = store
        self._finished = asyncio.Event()
        self._expected: set[asyncio.Future[JobResult]] = set()
        self._is_closed = False
        results.add_consumer(self._on_result)

    def close(self) -> None:
        """Whoever waits for an outcome hears now how far his call is, and nobody waits any more."""
        self._is_closed = True
        for result in self._expected:
            result.cancel()
        self._finished.set()

    async def call(self, call_id: int, key: ApiKey, wait_s: float, *, is_new: bool = False) -> CallView | Refusal:
        """The call, as soon as it has its outcome, or as it is after `wait_s`."""
        with self._results.expecting(call_id) as result:
            view = await self._view(call_id, key, is_new=is_new)
            if isinstance(view, CallView) and view.outcome is None and wait_s and not self._is_closed:
                self._expected.add(result)
                try:
                    await asyncio.wait([result], timeout=wait_s)
                finally:
                    self._expected.discard(result)
                view = await self._view(call_id, key, is_new=is_new)
        return view

    async def _view(self, call_id: int, key: ApiKey, *, is_new: bool) -> CallView | Refusal:
        async with asyncio.timeout(LEDGER_DEADLINE_S):
            rows = await self._store.fetch(outcomes.call(call_id))
        # One answer for both: ids of others are not to be counted.
        if not rows or not _covers(key, rows[0]):
            return Refusal(why=Why.NOT_FOUND, detail=f"there is no call {call_id} of a plugin that this key covers")
        return to_view(rows[0], is_new=is_new)

    async def events(self, question: GetEvents, key: ApiKey) -> Events | Refusal:
        """The outcomes beyond a position, as soon as there are any, or none after `wait_s`.

        Without a position: that of now.
        """
        if question.plugin is not None and question.plugin not in key.plugins:
            return Refusal(why=Why.FORBIDDEN, detail=f"this key is for {', '.join(key.plugins)}")
        plugins = key.plugins if question.plugin is None else (question.plugin,)
        loop = asyncio.get_running_loop()
        until = loop.time() + question.wait_s
        position = question.after
        while True:
            finished = self._finished  # taken before the look: what ends meanwhile rings it
            head, events = await self._look(position, plugins)
            left_s = until - loop.time()
            if events.outcomes or left_s <= 0 or question.after is None:
                return events
            if self._is_closed:  # an empty answer would only be asked for again
                return Refusal(why=Why.UNAVAILABLE, detail="runnerd is stopping", retry_after_s=5)
            position = events.position
            if position < head:
                continue
            try:
                async with asyncio.timeout(left_s):
                    await finished.wait()
            except TimeoutError:
                return events

    async def _look(self, position: int | None, plugins: Sequence[str]) -> tuple[int, Events]:
        async with asyncio.timeout(LEDGER_DEADLINE_S):
            # First, so that it is not beyond what the second query sees.
            head = (await self._store.fetch(outcomes.head()))[0]["position"]
            if position is None or position > head:
                return head, Events(outcomes=[], position=head)
            rows = await self._store.fetch(outcomes.since(position, plugins, MAX_OUTCOMES))
        found = [Outcome(position=row["position"], call=to_view(row)) for row in rows]
        if len(found) == MAX_OUTCOMES:
            return head, Events(outcomes=found, position=found[-1].position)
        seen = min(head, position + outcomes.WINDOW)
        return head, Events(outcomes=found, position=max([seen, *(outcome.position for outcome in found)]))

    def _on_result(self, _: JobResult) -> None:
        """Wake all who listen: each looks for itself."""
        self._finished.set()
        self._finished = asyncio.Event()


def _covers(key: ApiKey, row: DictRow) -> bool:
    """A call of one of its plugins; or one that it made, and that the fallback has taken."""
    is_fallback = row["source"] == FALLBACK and row["principal"] == key.principal
    return row["plugin"] in key.plugins or is_fallback

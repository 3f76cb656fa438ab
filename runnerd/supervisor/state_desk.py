"""Answers a worker's state requests from the ledger: reads, and the immediate compare-and-set.

Each is a turn of the ledger that another plugin's call may wait for: who asks without end is answered at a pace.
"""

import asyncio
from collections.abc import Callable

from protocol.limits import MAX_STATE_REQUESTS_PER_S, STATE_BURST, STATE_COMMIT_COST
from protocol.messages import Message, StateCompareAndSet, StateGet, StateRefused, StateReply
from runnerd.store import decisions
from runnerd.store.decisions import StateLimits
from runnerd.store.errors import StateOverLimit, StoreError
from runnerd.store.ledger import Ledger
from runnerd.supervisor.rate import RateLimit

MAX_AT_ONCE = 256


class StateDesk:
    """One plugin's window to its own keys; the plugin's name is ours, never the worker's word."""

    def __init__(self, plugin: str, store: Ledger, limits: StateLimits, on_over_limit: Callable[[str], None]) -> None:
        self._plugin = plugin
        self._store = store
        self._limits = limits
        self._on_over_limit = on_over_limit
        self._at_once = 0
        self._pace = RateLimit(MAX_STATE_REQUESTS_PER_S, STATE_BURST)

    @property
    def has_room(self) -> bool:
        """Whether one more request may be taken."""
        return self._at_once < MAX_AT_ONCE

    async def answer(self, request: StateGet | StateCompareAndSet, send: Callable[[Message], None]) -> None:
        """Carry out one request and send the reply."""
        self._at_once += 1
        cost = STATE_COMMIT_COST if isinstance(request, StateCompareAndSet) else 1
        try:
            delay_s = self._pace.delay(asyncio.get_running_loop().time(), cost)
            if delay_s:
                await asyncio.sleep(delay_s)
            send(await self._carry_out(request))
        except StoreError as error:
            send(StateRefused(request_id=request.request_id, reason=str(error)[:500]))
            if isinstance(error, StateOverLimit):
                self._on_over_limit(str(error))
        finally:
            self._at_once -= 1

    async def _carry_out(self, request: StateGet | StateCompareAndSet) -> StateReply:
        if isinstance(request, StateCompareAndSet):
            swap = decisions.compare_and_set_state(self._plugin, request.key, request.expected, request.value)
            within = () if request.value is None else (decisions.keep_state_within(self._plugin, self._limits),)
            rows, *_ = await self._store.commit(swap, *within, is_idempotent=False)
            return StateReply(
                request_id=request.request_id, value=request.value if rows else None, is_swapped=bool(rows)
            )
        rows = await self._store.fetch(decisions.get_state(self._plugin, request.key))
        return StateReply(request_id=request.request_id, value=rows[0]["value"] if rows else None)

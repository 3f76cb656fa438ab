"""Answers a worker's state requests from the ledger: reads, and the immediate compare-and-set.

Each is a turn of the ledger that another plugin's call may wait for: who asks without end is answered at a pace. And
while the ledger is away who asks waits, as everybody does; that time is not the plugin's (`is_held_up`).
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from protocol.limits import MAX_STATE_REQUESTS_PER_S, STATE_BURST, STATE_COMMIT_COST
from protocol.messages import Message, StateCompareAndSet, StateGet, StateRefused, StateReply
from runnerd.store import decisions
from runnerd.store.decisions import StateLimits
from runnerd.store.errors import StateOverLimit, StoreError, StoreUnavailable
from runnerd.store.ledger import Ledger, Rows
from runnerd.supervisor.rate import RateLimit

MAX_AT_ONCE: Final = 256
HELD_UP_S: Final = 0.25
"""A ledger that takes longer is away, or slow."""
AGAIN_S: Final = 0.2


class StateDesk:
    """One plugin's window to its own keys; the plugin's name is ours, never the worker's word."""

    def __init__(self, plugin: str, store: Ledger, limits: StateLimits, on_over_limit: Callable[[str], None]) -> None:
        self._plugin = plugin
        self._store = store
        self._limits = limits
        self._on_over_limit = on_over_limit
        self._at_once = 0
        self._with_ledger: dict[int, float] = {}
        """When each request was given to it."""
        self._numbers = count()
        self._pace = RateLimit(MAX_STATE_REQUESTS_PER_S, STATE_BURST)

    @property
    def has_room(self) -> bool:
        """Whether one more request may be taken."""
        return self._at_once < MAX_AT_ONCE

    def is_held_up(self) -> bool:
        """Whether the plugin waits for the ledger, which does not answer in time."""
        oldest = min(self._with_ledger.values(), default=None)
        return oldest is not None and asyncio.get_running_loop().time() - oldest > HELD_UP_S

    async def answer(
        self,
        request: StateGet | StateCompareAndSet,
        send: Callable[[Message], None],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Carry out one request and send the reply. `is_wanted`: whether there still is who asked."""
        self._at_once += 1
        cost = STATE_COMMIT_COST if isinstance(request, StateCompareAndSet) else 1
        try:
            delay_s = self._pace.delay(asyncio.get_running_loop().time(), cost)
            if delay_s:
                await asyncio.sleep(delay_s)
            with self._timed():
                reply = await self._carry_out(request, is_wanted)
            send(reply)
        except StoreError as error:
            send(StateRefused(request_id=request.request_id, reason=str(error)[:500]))
            if isinstance(error, StateOverLimit):
                self._on_over_limit(str(error))
        finally:
            self._at_once -= 1

    @contextmanager
    def _timed(self) -> Iterator[None]:
        number = next(self._numbers)
        self._with_ledger[number] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self._with_ledger[number]

    async def _carry_out(self, request: StateGet | StateCompareAndSet, is_wanted: Callable[[], bool]) -> StateReply:
        if isinstance(request, StateCompareAndSet):
            swap = decisions.compare_and_set_state(self._plugin, request.key, request.expected, request.value)
            within = () if request.value is None else (decisions.keep_state_within(self._plugin, self._limits),)
            rows, *_ = await self._store.commit(swap, *within, is_idempotent=False)
            return StateReply(
                request_id=request.request_id, value=request.value if rows else None, is_swapped=bool(rows)
            )
        rows = await self._read(request.key, is_wanted)
        return StateReply(request_id=request.request_id, value=rows[0]["value"] if rows else None)

    async def _read(self, key: str, is_wanted: Callable[[], bool]) -> Rows:
        """As long as the ledger is away: to fail would blame the plugin for it."""
        while True:
            try:
                return await self._store.fetch(decisions.get_state(self._plugin, key))
            except StoreUnavailable:
                if not is_wanted():
                    raise
                await asyncio.sleep(AGAIN_S)

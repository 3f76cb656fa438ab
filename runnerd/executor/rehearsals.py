"""Simulations that are made before an intent's turn comes: while its Decision is committed, and while others are sent.

Only saves time. One that fails, or is not fresh any more, is asked for again when its turn is there.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

from runnerd.chain.errors import ChainError
from runnerd.clock import Clock
from runnerd.executor.attempt import FRESH_S, Prepared
from runnerd.executor.tracked import Rehearsal, Tracked
from runnerd.executor.wanted import Intent
from runnerd.log import fields

logger = logging.getLogger("runnerd.executor")

MAX_ALONE = 4
"""Intents that are simulated each for itself at a time: beyond, a group costs less."""


class Rehearsals:
    """One per lane, whose `prepare` is `simulate`."""

    def __init__(self, simulate: Callable[[Sequence[Intent]], Awaitable[list[Prepared]]], clock: Clock) -> None:
        self._simulate = simulate
        self._clock = clock
        self._alone = 0

    async def alone(self, intent: Intent) -> Rehearsal | None:
        """For one whose Decision is being committed. None when there are many of them, or it failed. Never raises."""
        if self._alone >= MAX_ALONE:
            return None
        self._alone += 1
        try:
            made = await self._make([intent])
        finally:
            self._alone -= 1
        return made[0] if made else None

    async def ahead(self, group: Sequence[Tracked]) -> None:
        """For those whose turn comes next: each that has none gets one. Never raises."""
        unknown = [tracked for tracked in group if tracked.rehearsal is None]
        if not unknown:
            return
        for tracked, rehearsal in zip(unknown, await self._make([one.intent for one in unknown]), strict=False):
            tracked.rehearsal = rehearsal

    def take(self, tracked: Tracked) -> Prepared | None:
        """What was found, if it is still true; it is used once."""
        rehearsal, tracked.rehearsal = tracked.rehearsal, None
        is_fresh = rehearsal is not None and self._clock.monotonic() - rehearsal.at <= FRESH_S
        if rehearsal is None or not is_fresh or isinstance(rehearsal.outcome, ChainError):
            return None
        return rehearsal.outcome

    async def _make(self, wanted: Sequence[Intent]) -> list[Rehearsal]:
        """One for each, or none at all."""
        try:
            prepared = await self._simulate(wanted)
        except ChainError:
            return []
        except Exception:  # its asker is in the middle of a commit, or of signing others
            logger.exception("no rehearsal", extra=fields("rehearsal_failed", call=wanted[0].call_id))
            return []
        now = self._clock.monotonic()
        return [Rehearsal(outcome, now) for outcome in prepared]

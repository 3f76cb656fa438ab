"""What one plugin may be asked for by its triggers: bounded before a call costs anything.

A slot or notification beyond the bound is counted and dropped, not recorded: a call that is refused after it was stored
costs two commits and a line in the audit trail, and a plugin may declare 640 slots a second. The router asks.
"""

from typing import Final

from runnerd.supervisor.rate import RateLimit

MIN_AHEAD: Final = 32
AHEAD_PER_CALL: Final = 4
"""What waits in a queue grows old and expires; what can wait where it comes from does not. So only this much is taken
from there ahead of the worker, for each call that it decides at a time: enough to keep it busy."""


class Intake:
    """`queue` calls that wait, and `per_s` a second in the long run; as many as may wait may also come at once."""

    def __init__(self, queue: int, per_s: int, parallel: int = 1) -> None:
        self._queue = queue
        self._ahead = min(queue, max(MIN_AHEAD, AHEAD_PER_CALL * parallel))
        self._per_s = per_s
        self._rate = RateLimit(per_s, max(queue, per_s))

    def refusal(self, now: float, waiting: int) -> str | None:
        """Why one more call is not taken at `now` (monotonic seconds) while `waiting` wait; None if it is."""
        if waiting >= self._queue:
            return f"queue is full ({self._queue} calls wait)"
        if not self._rate.allows(now):
            return f"more than {self._per_s} calls a second"
        return None

    def room(self, now: float, waiting: int) -> int:
        """How many calls may come at `now`, while `waiting` wait, from where they could wait as well."""
        return max(0, min(self._ahead - waiting, int(self._rate.room(now))))

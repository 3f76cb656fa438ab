"""What one plugin may be asked for by its triggers: bounded before a call costs anything.

A slot or notification beyond the bound is counted and dropped, not recorded: a call that is refused after it was stored
costs two commits and a line in the audit trail, and a plugin may declare 640 slots a second. The router asks.
"""

from runnerd.supervisor.rate import RateLimit


class Intake:
    """`queue` calls that wait, and `per_s` a second in the long run; as many as may wait may also come at once."""

    def __init__(self, queue: int, per_s: int) -> None:
        self._queue = queue
        self._per_s = per_s
        self._rate = RateLimit(per_s, max(queue, per_s))

    def room(self, now: float, waiting: int) -> int:
        """How many more calls are taken at `now`: who has a position to go on from asks first, and loses none."""
        return max(0, min(self._queue - waiting, int(self._rate.room(now))))

    def refusal(self, now: float, waiting: int) -> str | None:
        """Why one more call is not taken at `now` (monotonic seconds) while `waiting` wait; None if it is."""
        if waiting >= self._queue:
            return f"queue is full ({self._queue} calls wait)"
        if not self._rate.allows(now):
            return f"more than {self._per_s} calls a second"
        return None

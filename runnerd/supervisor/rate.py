"""A token bucket: how much of something a worker may do at once, and in the long run. Used by `link`, `output`
and `state_desk`.
"""


class RateLimit:
    """`rate` a second, `burst` at once. Counts what it refused. Times are monotonic seconds."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = 0.0
        self.refused = 0

    def allows(self, now: float, cost: int = 1) -> bool:
        """Whether `cost` more may pass at `now`; if so it is taken."""
        if self.room(now) < cost:
            self.refused += cost
            return False
        self._tokens -= cost
        return True

    def delay(self, now: float, cost: int = 1) -> float:
        """Take `cost`, and say how many seconds to wait for it: who asks later waits longer."""
        room = self.room(now)
        self._tokens = room - cost
        return max(0.0, -self._tokens / self.rate)

    def refuse(self, count: int) -> None:
        """Count what was dropped without asking."""
        self.refused += count

    def room(self, now: float) -> float:
        """How much may pass at `now`."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return self._tokens

"""How much of the loop goes to frames and denied calls that nobody asked workers for: a tenth, for all together.

A call of another plugin needs half a dozen turns of the loop. Without this a plugin that logs without end was in each
of them, and five such plugins had half of the loop. Used by `link` and `denials`; all workers share one `Noise`.
"""

from typing import Final

SHARE: Final = 0.1
BURST_S: Final = 0.0005
"""One may use so much at once before it has to rest: ten to fifty lines of a log."""


class Noise:
    """What all share: how many rest now."""

    def __init__(self) -> None:
        self.resting = 0


class Ration:
    """The part of one that is listened to. Times are monotonic seconds."""

    def __init__(self, noise: Noise) -> None:
        self._noise = noise
        self._paid_until = 0.0
        self._is_resting = False

    def rest_after(self, now: float, used_s: float) -> float:
        """How long not to listen after `used_s` of the loop, until `now`; 0 if it may go on. Then call `end_rest`."""
        price = (self._noise.resting + 1) / SHARE
        self._paid_until = max(self._paid_until, now) + used_s * price
        rest_s = self._paid_until - now - BURST_S * price
        if rest_s <= 0:
            return 0.0
        self._is_resting = True
        self._noise.resting += 1
        return rest_s

    def end_rest(self) -> None:
        """It listens again, or is closed. Safe to call without a rest."""
        if self._is_resting:
            self._is_resting = False
            self._noise.resting -= 1

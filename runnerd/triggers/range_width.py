"""How many blocks to ask for logs at once. Pure; nodes differ, and name no bound that a program could read.

A refusal halves it; after some answers it is doubled again, more and more seldom if that is refused.
"""

FIRST = 1_000
MAX_WIDTH = 10_000
PATIENCE = 8
MAX_PATIENCE = 1_024


class RangeWidth:
    """`width` blocks for the next question."""

    def __init__(self) -> None:
        self.width = FIRST
        self._answered = 0
        self._patience = PATIENCE
        self._is_trying = False

    def refused(self, width: int) -> bool:
        """A question of `width` blocks had no answer. Whether a smaller one can be tried."""
        if self._is_trying:  # what worked before is what works
            self._patience = min(2 * self._patience, MAX_PATIENCE)
        self._is_trying = False
        self._answered = 0
        self.width = max(1, min(self.width, width // 2))
        return width > 1

    def answered(self) -> None:
        """The last question had an answer."""
        self._is_trying = False
        self._answered += 1
        if self._answered >= self._patience and self.width < MAX_WIDTH:
            self._answered = 0
            self.width = min(2 * self.width, MAX_WIDTH)
            self._is_trying = True

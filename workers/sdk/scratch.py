"""The state of a dry run: reads what is committed, and keeps what is written for the rest of this call alone."""

from workers.sdk.state import StateTransport


class Scratch:
    """A StateTransport over another one, which it only reads."""

    def __init__(self, committed: StateTransport) -> None:
        self._committed = committed
        self._written: dict[str, str | None] = {}

    async def fetch(self, key: str) -> str | None:
        """What this call has set, else what is committed."""
        return self._written[key] if key in self._written else await self._committed.fetch(key)

    async def compare_and_set(self, key: str, expected: str | None, value: str | None) -> bool:
        """As the supervisor would, but nobody else ever sees it."""
        if await self.fetch(key) != expected:
            return False
        self._written[key] = value
        return True

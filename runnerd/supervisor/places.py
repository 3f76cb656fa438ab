"""What bounds the calls of all plugins together: how many are decided at once, and how many come in a second.

Shared by all hosts, so it is the one place where plugins can wait for each other; without limits, the default, nobody
does. Whoever finds no place gets one in the order in which they asked.
"""

import asyncio
from collections.abc import Callable

from runnerd.config.routing import RouteLimits
from runnerd.supervisor.rate import RateLimit


class Places:
    """`limit` places; None: any number of them. `who` is called, soon, when it may ask again."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: dict[Callable[[], None], None] = {}
        self._promised: set[Callable[[], None]] = set()
        """Whose place is taken in their name, until they come for it."""

    @property
    def taken(self) -> int:
        """Places that are in use or promised."""
        return self._taken

    def take(self, who: Callable[[], None]) -> bool:
        """Whether `who` has a place now. If not, one is kept for it as soon as there is one."""
        if self._limit is None:
            return True
        if who in self._promised:
            self._promised.discard(who)
            return True
        if self._taken >= self._limit:
            self._waiting.setdefault(who)
            return False
        self._taken += 1
        return True

    def pass_on(self, who: Callable[[], None]) -> None:
        """`who` has no use for what was promised to it, if anything was."""
        if who in self._promised:
            self._promised.discard(who)
            self.give_back()

    def give_back(self) -> None:
        """A place is free: the first that waits has it."""
        if self._limit is None:
            return
        if not self._waiting:
            self._taken -= 1
            return
        who = next(iter(self._waiting))
        del self._waiting[who]
        self._promised.add(who)
        asyncio.get_running_loop().call_soon(who)


class AllRoutes:
    """`[router.layers]` in force."""

    def __init__(self, limits: RouteLimits | None = None) -> None:
        self.limits = limits or RouteLimits()
        self.places = Places(self.limits.parallel)
        per_s = self.limits.max_calls_per_s
        self.rate = None if per_s is None else RateLimit(per_s, per_s)

"""What one plugin may be asked for by its triggers: bounded before a call costs anything.

A slot or notification beyond the bound is counted and dropped, not recorded: a call that is refused after it was stored
costs two commits and a line in the audit trail, and a plugin may declare 640 slots a second. The router asks.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from runnerd.config.plugins import PluginConfig
from runnerd.supervisor.rate import RateLimit

MIN_AHEAD: Final = 32
AHEAD_PER_CALL: Final = 4
"""What waits in a queue grows old and expires; what can wait where it comes from does not. So only this much is taken
from there ahead of the worker, for each call that it decides at a time: enough to keep it busy."""


class Intake:
    """`queue` calls that wait, and `per_s` a second in the long run; as many as may wait may also come at once.

    Beside that, `of_jobs` a second of single jobs, and what `all_routes` lets pass of all plugins together.
    """

    def __init__(
        self,
        queue: int,
        per_s: int,
        parallel: int = 1,
        of_jobs: Mapping[str, int] | None = None,
        all_routes: RateLimit | None = None,
    ) -> None:
        self._queue = queue
        self._ahead = min(queue, max(MIN_AHEAD, AHEAD_PER_CALL * parallel))
        self._rate = RateLimit(per_s, max(queue, per_s))
        self._of_jobs = {job: RateLimit(rate, rate) for job, rate in (of_jobs or {}).items()}
        self._all_routes = all_routes

    def refusal(self, now: float, waiting: int, job: str = "") -> str | None:
        """Why one more call is not taken at `now` (monotonic seconds) while `waiting` wait; None if it is."""
        if waiting >= self._queue:
            return f"queue is full ({self._queue} calls wait)"
        rates = list(self._rates([job]))
        for rate, whose in rates:  # one that is refused by the last must not count with the first
            if rate.room(now) < 1:
                rate.refuse(1)
                return f"more than {rate.rate:g} calls a second{whose}"
        for rate, _ in rates:
            rate.allows(now)
        return None

    def room(self, now: float, waiting: int, jobs: Collection[str] = ()) -> int:
        """How many calls of `jobs` may come at `now`, while `waiting` wait, from where they could wait as well."""
        rooms = [int(rate.room(now)) for rate, _ in self._rates(jobs)]
        return max(0, min(self._ahead - waiting, *rooms))

    def _rates(self, jobs: Collection[str]) -> Iterator[tuple[RateLimit, str]]:
        yield self._rate, ""
        for job in jobs:
            if job in self._of_jobs:
                yield self._of_jobs[job], f" of job {job}"
        if self._all_routes is not None:
            yield self._all_routes, " of all plugins"


def intake_of(config: PluginConfig, all_routes: RateLimit | None) -> Intake:
    """As `[plugins.NAME]` and `[plugins.NAME.jobs]` have it."""
    of_jobs = {job: limits.max_calls_per_s for job, limits in config.jobs.items() if limits.max_calls_per_s is not None}
    return Intake(config.queue, config.max_calls_per_s, config.parallel, of_jobs, all_routes)

"""The calls of one plugin: those that wait, in order and bounded, and those that its worker is deciding.

A value-like core without I/O: who may start next, who is to blame when a worker ends. `caller` is the shell around it.
"""

from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime

from runnerd.store.calls import JobCall


@dataclass(frozen=True, slots=True)
class Deciding:
    """A call that a worker has been given, and since when (monotonic seconds)."""

    call: JobCall
    since: float

    @property
    def attempt(self) -> int:
        """The number by which the worker must answer."""
        return self.call.attempts + 1


class Desk:
    """Bounded by `parallel` running and `queue` waiting calls; both are the operator's."""

    def __init__(self, parallel: int, queue: int) -> None:
        self._parallel = parallel
        self._limit = queue
        self._waiting: deque[JobCall] = deque()
        self._running: dict[int, Deciding] = {}

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> dict[int, Deciding]:
        """Calls that were taken and not yet ended, by id."""
        return self._running

    def put(self, call: JobCall) -> bool:
        """Queue a new call; False when the queue is full."""
        if len(self._waiting) >= self._limit:
            return False
        self._waiting.append(call)
        return True

    def put_back(self, *calls: JobCall) -> None:
        """Queue calls again that were taken before: they have places whatever the bound, and come first."""
        self._waiting.extendleft(sorted(calls, key=lambda call: call.id, reverse=True))

    def take(self, now: float) -> JobCall | None:
        """The next call that may start, or None.

        A call that ended a worker before is a suspect, and runs alone: the next end of a worker then points at it.
        Beside others it would pay for them, and be counted to death for a fresh call that is the real culprit.
        """
        has_suspect = any(deciding.call.attempts for deciding in self._running.values())
        if not self._waiting or has_suspect or len(self._running) >= self._parallel:
            return None
        if self._waiting[0].attempts and self._running:
            return None
        call = self._waiting.popleft()
        self._running[call.id] = Deciding(call, now)
        return call

    def end(self, call_id: int) -> Deciding | None:
        """The call is no longer with the worker."""
        return self._running.pop(call_id, None)

    def take_all_waiting(self) -> list[JobCall]:
        """Empty the queue: the plugin will not run."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def take_expired(self, now: datetime) -> list[JobCall]:
        """Remove the waiting calls whose deadline has passed at `now` (UTC)."""
        expired = [call for call in self._waiting if call.deadline_at <= now]
        for call in expired:
            self._waiting.remove(call)
        return expired


def blame(running: list[Deciding], guilty: int | None) -> tuple[list[JobCall], list[JobCall]]:
    """Who is counted when a worker ends: (blamed with one more attempt, innocent).

    `guilty` is the call whose deadline passed, if that is why. Otherwise a suspect, if one was running; otherwise all,
    because nobody can know.
    """
    if guilty is not None:
        blamed = {deciding.call.id for deciding in running if deciding.call.id == guilty}
    else:
        suspects = {deciding.call.id for deciding in running if deciding.call.attempts}
        blamed = suspects or {deciding.call.id for deciding in running}
    return (
        [replace(d.call, attempts=d.call.attempts + 1) for d in running if d.call.id in blamed],
        [d.call for d in running if d.call.id not in blamed],
    )

"""The calls of one plugin: those that wait, in order and bounded, and those that its worker is deciding.

A value-like core without I/O: who may start next, which call takes the place of which, who is to blame when a worker
ends. `caller` is the shell around it.
"""

import asyncio
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from heapq import heappop, heappush
from typing import TypeAlias

from protocol.trigger import Overlap
from runnerd.store.calls import JobCall
from runnerd.supervisor.places import Places

_Key: TypeAlias = tuple[str, str]
"""A trigger of the plugin, and the job that it calls."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """A call that a worker has been given, and since when (monotonic seconds)."""

    call: JobCall
    since: float

    @property
    def attempt(self) -> int:
        """The number by which the worker must answer."""
        return self.call.attempts + 1


@dataclass(frozen=True, slots=True)
class Superseded:
    """A call that waited, and the id of the newer one that is decided in its place."""

    call: JobCall
    by: int


@dataclass(slots=True)
class _Lane:
    """The open calls of one trigger: ids of those that wait, ascending, and of those that run or are being stored."""

    waiting: list[int] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    coalescing: int = 0
    """The one that waits and coalesces: a newer one takes its place. 0 if there is none."""


class Desk:
    """Bounded by `parallel` running and `queue` waiting calls; both are the operator's. Of single jobs, `of_jobs` may
    run; and of all plugins together, as many as there are `places`. `on_room` is called when there may be room again.

    The oldest call comes first. Beside that, of one trigger (`Overlap`): a call that is not `parallel` waits until no
    older one is open; and one that is `coalesce` takes the place of an older one that waits and is so too. Nothing
    supersedes a call that is not `coalesce`, such as one that takes another back.
    """

    def __init__(
        self,
        parallel: int,
        queue: int,
        of_jobs: Mapping[str, int] | None = None,
        places: Places | None = None,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._parallel = parallel
        self._of_jobs = dict(of_jobs or {})
        self._busy: Counter[str] = Counter()
        """Calls that run, of jobs that have a limit of their own."""
        self._places = places or Places()
        self._on_room = on_room
        self._limit = queue
        self._waiting: dict[int, JobCall] = {}
        self._running: dict[int, Deciding] = {}
        self._unstored: dict[int, str] = {}
        """Calls that were decided, and whose Decisions are being stored, with their jobs."""
        self.is_idle = asyncio.Event()
        """Set while no call is running."""
        self.is_idle.set()
        self._lanes: dict[_Key, _Lane] = {}
        self._common: list[int] = []
        """A heap of ids, with each that may start, and with some that may not, or do not wait any more."""
        self._next: dict[str, list[int]] = {job: [] for job in self._of_jobs}
        """Such heaps of those jobs that have a limit: what waits for its own kind must not hide the others."""
        self._superseded: list[Superseded] = []

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> dict[int, Deciding]:
        """Calls that were taken and not yet ended, by id."""
        return self._running

    def is_open(self, source: str, job: str) -> bool:
        """Whether a call of this trigger waits or is being decided."""
        return (source, job) in self._lanes

    def waiting_beside(self, source: str, job: str, overlap: Overlap) -> int:
        """Calls that would wait beside a new one of this trigger: all but the one whose place it takes."""
        lane = self._lanes.get((source, job))
        is_replacing = overlap == "coalesce" and lane is not None and lane.coalescing > 0
        return len(self._waiting) - is_replacing

    def put(self, call: JobCall) -> bool:
        """Queue a new call; False when the queue is full."""
        if self.waiting_beside(call.source, call.job, call.overlap) >= self._limit:
            return False
        self._add(call)
        return True

    def put_back(self, *calls: JobCall) -> None:
        """Queue calls that have places whatever the bound: they were taken before, or are owed."""
        for call in calls:
            self._add(call)

    def take(self, now: float) -> JobCall | None:
        """The next call that may start, or None.

        A call that ended a worker before is a suspect, and runs alone: the next end of a worker then points at it.
        Beside others it would pay for them, and be counted to death for a fresh call that is the real culprit.
        """
        has_suspect = any(deciding.call.attempts for deciding in self._running.values())
        is_alone = self._parallel == 1 and self._unstored
        if has_suspect or is_alone or len(self._running) >= self._parallel:
            return None
        call = self._first()
        if call is None or (call.attempts and self._running) or not self._places.take(self._on_room):
            return None
        heappop(self._heap(call.job))
        if call.job in self._of_jobs:
            self._busy[call.job] += 1
        self._lanes[_key(call)].running.add(call.id)
        self._remove(call)
        self._running[call.id] = Deciding(call, now)
        self.is_idle.clear()
        return call

    def end(self, call_id: int, *, is_stored: bool = True) -> Deciding | None:
        """The call is no longer with the worker. Without `is_stored` its Decision has yet to be: until `stored` says so
        it keeps back what must not be decided beside it, which would not see what it wrote."""
        deciding = self._running.pop(call_id, None)
        if deciding is not None:
            self._places.give_back()
            if deciding.call.job in self._of_jobs:
                self._busy[deciding.call.job] -= 1
            if is_stored:
                self._release(deciding.call)
            else:
                self._unstored[call_id] = deciding.call.job
        if not self._running:
            self.is_idle.set()
        return deciding

    def stored(self, call: JobCall) -> None:
        """What was decided of a call that has ended stands, or never will."""
        self._release(call)
        self._on_room()

    def decline(self) -> None:
        """Nothing is to be started now: a place that was kept for this plugin is for the next one."""
        self._places.pass_on(self._on_room)

    def take_superseded(self) -> list[Superseded]:
        """The calls that a newer one has taken the place of since this was last asked: they end undecided."""
        superseded, self._superseded = self._superseded, []
        return superseded

    def take_all_waiting(self) -> list[JobCall]:
        """Empty the queue, oldest first: the plugin will not run."""
        waiting = [self._waiting[call_id] for call_id in sorted(self._waiting)]
        for call in waiting:
            self._remove(call)
        for heap in (self._common, *self._next.values()):
            heap.clear()
        return waiting

    def take_expired(self, now: datetime) -> list[JobCall]:
        """Remove the waiting calls whose deadline has passed at `now` (UTC)."""
        expired = [call for call in self._waiting.values() if call.deadline_at <= now]
        for call in expired:
            self._remove(call)
        return expired

    def _first(self) -> JobCall | None:
        """The oldest that may start, at the top of its job's heap."""
        first = self._top(self._common)
        for job, heap in self._next.items():
            is_alone = self._of_jobs[job] == 1 and job in self._unstored.values()
            if not is_alone and self._busy[job] < self._of_jobs[job]:
                call = self._top(heap)
                first = call if first is None or (call is not None and call.id < first.id) else first
        return first

    def _top(self, heap: list[int]) -> JobCall | None:
        """What is in the heap without reason is dropped."""
        while heap:
            call = self._waiting.get(heap[0])
            if call is not None and self._may_start(call):
                return call
            heappop(heap)
        return None

    def _heap(self, job: str) -> list[int]:
        return self._next.get(job, self._common)

    def _may_start(self, call: JobCall) -> bool:
        lane = self._lanes[_key(call)]
        return call.overlap == "parallel" or (not lane.running and lane.waiting[0] == call.id)

    def _add(self, call: JobCall) -> None:
        key = _key(call)
        lane = self._lanes.setdefault(key, _Lane())
        self._waiting[call.id] = call
        insort(lane.waiting, call.id)
        if call.overlap == "coalesce":
            older, lane.coalescing = sorted((lane.coalescing, call.id))
            if older:
                self._superseded.append(Superseded(self._waiting[older], lane.coalescing))
                self._remove(self._waiting[older])
        if call.id in self._waiting and self._may_start(call):
            heappush(self._heap(call.job), call.id)

    def _remove(self, call: JobCall) -> None:
        """It does not wait any more."""
        key = _key(call)
        del self._waiting[call.id]
        lane = self._lanes[key]
        del lane.waiting[bisect_left(lane.waiting, call.id)]
        if call.id == lane.coalescing:
            lane.coalescing = 0
        self._settle(key)

    def _release(self, call: JobCall) -> None:
        """Nothing needs to be kept back for it any more."""
        self._unstored.pop(call.id, None)
        self._lanes[_key(call)].running.discard(call.id)
        self._settle(_key(call))

    def _settle(self, key: _Key) -> None:
        """A call of this trigger has left: the oldest that waits may be the next, or nothing of it is open."""
        lane = self._lanes[key]
        if lane.waiting:
            # The others are in the heap since they were added.
            oldest = self._waiting[lane.waiting[0]]
            if not lane.running and oldest.overlap != "parallel":
                heappush(self._heap(oldest.job), oldest.id)
        elif not lane.running:
            del self._lanes[key]


def _key(call: JobCall) -> _Key:
    return call.source, call.job


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

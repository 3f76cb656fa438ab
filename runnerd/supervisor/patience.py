"""Deadlines for workers that tell slow from dead: what this host did not give a worker does not count against it.

A deadline is lived through in short sleeps, its heartbeat. Each counts for no more than it asked for, so that time in
which the supervisor itself stood still (stopped, suspended, overloaded) is nobody's fault; it counts for less by the
share in which the worker waited for a CPU, and for nothing while it waits for the ledger. Before it strikes the loop
reads once more what waits in the kernel.
`Allowance` is the pure core; `Deadline` the shell, used by `worker`, `caller` and `host`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from runnerd.supervisor.starvation import Look, Watch, starved_share

SLEEPS = 10
"""A deadline is divided into so many sleeps: a stop of this host costs a worker one of them at most."""
SLEEP_S = (0.01, 0.5)
LONGEST = 6.0
"""A worker that waits for the CPU has this many times its deadline at most: threads of its own could starve it."""
TURNS = 3
"""Turns of the loop before a deadline strikes. uvloop runs timers before it polls, and a first `call_soon` as well."""
ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much of a deadline is used up. `counted_s` is the worker's own time, `lived_s` that of this host."""

    limit_s: float
    counted_s: float = 0.0
    lived_s: float = 0.0

    @property
    def sleep_s(self) -> float:
        """How long to sleep next."""
        shortest_s, longest_s = SLEEP_S
        usual_s = min(max(self.limit_s / SLEEPS, shortest_s), longest_s)
        return max(0.0, min(usual_s, self.limit_s - self.counted_s, self.limit_s * LONGEST - self.lived_s))

    def slept(self, asked_s: float, starved: float) -> "Allowance":
        """After a sleep of `asked_s`, however long it took; `starved` is the worker's share without a CPU."""
        return replace(self, counted_s=self.counted_s + asked_s * (1.0 - starved), lived_s=self.lived_s + asked_s)

    @property
    def is_used_up(self) -> bool:
        """Whether it is over."""
        return self.sleep_s <= ROUNDING_S


class Deadline:
    """Calls `strike` once, when the allowance is used up, unless it is cancelled before.

    `watch` is of the process that it is for. Nothing is read of it during the first sleep: a deadline that is kept
    costs a timer. While `is_held_up` its time is not its own.
    """

    def __init__(
        self,
        limit_s: float,
        strike: Callable[[], object],
        watch: Watch | None = None,
        is_held_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._strike = strike
        self._watch = watch
        self._is_held_up = is_held_up
        self._allowance = Allowance(limit_s)
        self._seen: Look | None = None
        self._timer: asyncio.Handle | None = None
        self._sleep()

    def cancel(self) -> None:
        """It was kept, or does not matter any more. Safe to call twice, and after it has struck."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sleep(self) -> None:
        asked_s = self._allowance.sleep_s
        self._timer = self._loop.call_later(asked_s, self._beat, asked_s)

    def _beat(self, asked_s: float) -> None:
        starved = 0.0
        if self._watch is not None:
            seen = self._watch.look()
            starved = starved_share(self._seen, seen)
            self._seen = seen
        if not self._is_held_up():
            self._allowance = self._allowance.slept(asked_s, starved)
        if self._allowance.is_used_up:
            self._turn(TURNS)
        else:
            self._sleep()

    def _turn(self, left: int) -> None:
        if left:
            self._timer = self._loop.call_soon(self._turn, left - 1)
        else:
            self._timer = None
            self._strike()


@asynccontextmanager
async def patient_timeout(limit_s: float) -> AsyncIterator[None]:
    """`asyncio.timeout`, but time in which this process stood still does not count. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as timeout:
        deadline = Deadline(limit_s, lambda: timeout.reschedule(loop.time()))
        try:
            yield
        finally:
            deadline.cancel()

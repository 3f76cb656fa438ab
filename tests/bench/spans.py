"""Where the time of one run goes: named spans by the wall clock, and CPU seconds of other processes from /proc."""

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Spans:
    """What was under way, from when to when. Spans of one name may overlap: `seconds` counts each moment once."""

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """For the length of the block, `name` is under way."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spans.setdefault(name, []).append((began, time.perf_counter()))

    def timed(self, name: str, work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """The same function, each call of it a span."""

        async def timed(*args: P.args, **options: P.kwargs) -> T:
            with self.span(name):
                return await work(*args, **options)

        return timed

    def clear(self) -> None:
        """Forget all."""
        self._spans.clear()

    def count(self, name: str) -> int:
        """How many spans of this name there were."""
        return len(self._spans.get(name, ()))

    def seconds(self, *names: str) -> float:
        """How long at least one of these was under way."""
        total, reached = 0.0, float("-inf")
        for began, ended in sorted(span for name in names for span in self._spans.get(name, ())):
            total += max(0.0, ended - max(began, reached))
            reached = max(reached, ended)
        return total


def cpu_seconds(*pids: int) -> float:
    """User and system time of these processes so far, all threads."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S

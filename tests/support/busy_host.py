"""How much of this machine others had while something was timed: a bound in seconds is for a machine of one's own.

Tests run beside each other, on machines that do other things as well.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from tests.support.leaks import find_descendants

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Started when it is made. `root` is the process whose tree is timed."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._began = time.monotonic()
        self._busy_s = _busy_s()
        self._ours_s = self._tree_s()

    def own_s(self, took_s: float | None = None) -> float:
        """The seconds until now (or `took_s` of them) less the share of the CPUs that others had meanwhile."""
        elapsed_s = time.monotonic() - self._began
        ours_s = sum(max(0.0, used_s - self._ours_s.get(pid, 0.0)) for pid, used_s in self._tree_s().items())
        foreign_s = max(0.0, _busy_s() - self._busy_s - ours_s)
        share = min(0.9, foreign_s / (elapsed_s * (os.cpu_count() or 1)))
        return (elapsed_s if took_s is None else took_s) * (1 - share)

    def _tree_s(self) -> dict[int, float]:
        return {pid: _used_s(pid) for pid in (self._root, *find_descendants(self._root))}


def _busy_s() -> float:
    """Seconds that all CPUs together were not idle, since the machine was started."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def _used_s(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return 0.0

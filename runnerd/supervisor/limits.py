"""What one worker may use, and the sentence that ends it when it uses more.

Values and one rule. Each limit has a wall behind it, which the kernel keeps (rlimits, cgroup): no worker gets past the
wall, and between limit and wall it is ended with a reason. `monitor` looks, `cgroups` and `spawning` build the walls.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from runnerd.config.plugins import PluginConfig

MIB: Final = 1 << 20
OTHER_THREADS: Final = 48
"""What a worker may have beside those of `decide`: ZeroMQ's, and those that the plugin and its libraries start."""
CPU_WINDOW_S: Final = 10.0

_MEMORY_ROOM: Final = 128 * MIB
_COUNT_ROOM: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`memory_bytes`: private memory that is filled. `cpus`: CPUs on average over `CPU_WINDOW_S`; None: no limit."""

    memory_bytes: int = 1024 * MIB
    threads: int = 16 + OTHER_THREADS
    files: int = 256
    cpus: float | None = None
    log_lines_per_s: int = 200

    @property
    def memory_wall(self) -> int:
        """For RLIMIT_DATA, which counts what is only reserved as well, such as the stacks of threads (8 MiB each)."""
        return self.memory_bytes + max(self.memory_bytes // 4, _MEMORY_ROOM)

    @property
    def thread_wall(self) -> int:
        """From here on no thread can be started."""
        return self.threads + _COUNT_ROOM

    @property
    def file_wall(self) -> int:
        """RLIMIT_NOFILE."""
        return self.files + _COUNT_ROOM


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses. `files` is 0 where the kernel does not tell (before 6.2): there is the wall alone."""

    memory_bytes: int
    threads: int
    files: int
    cpu_s: float


def limits_of(config: PluginConfig) -> Limits:
    """The limits of one plugin's workers."""
    sandbox = config.sandbox
    return Limits(
        memory_bytes=sandbox.memory_mib * MIB,
        threads=sandbox.max_threads if sandbox.max_threads is not None else config.parallel + OTHER_THREADS,
        files=sandbox.max_files,
        cpus=sandbox.max_cpus,
        log_lines_per_s=sandbox.log_lines_per_s,
    )


def find_excess(usage: Usage, limits: Limits) -> str | None:
    """The limit that is exceeded, in words for the operator; CPU time is `CpuShare`'s."""
    if usage.memory_bytes > limits.memory_bytes:
        used = -(-usage.memory_bytes // MIB)  # rounded up: never "256 of 256 MiB"
        return f"over its memory limit: {used} of {limits.memory_bytes // MIB} MiB"
    if usage.threads > limits.threads:
        return f"over its thread limit: {usage.threads} of {limits.threads}"
    if usage.files > limits.files:
        return f"over its descriptor limit: {usage.files} of {limits.files}"
    return None


class CpuShare:
    """CPU time over the last `CPU_WINDOW_S`. A burst may take all it gets, as long as the average is kept."""

    def __init__(self, cpus: float) -> None:
        self._allowed_s = cpus * CPU_WINDOW_S
        self._looks: deque[tuple[float, float]] = deque()

    def find_excess(self, cpu_s: float, now: float) -> str | None:
        """What is wrong at `now`, when `cpu_s` have been used since the process began."""
        self._looks.append((now, cpu_s))
        # The oldest look that is kept is the newest of those that are a window old, or older.
        while len(self._looks) > 1 and self._looks[1][0] <= now - CPU_WINDOW_S:
            self._looks.popleft()
        since, before_s = self._looks[0]
        used_s = cpu_s - before_s
        # A look may come late: what was used in more than the window is brought down to it.
        share_s = used_s * CPU_WINDOW_S / max(now - since, CPU_WINDOW_S)
        if share_s <= self._allowed_s:
            return None
        return f"over its CPU limit: {share_s:.1f} s in {CPU_WINDOW_S:g} s, {self._allowed_s:g} s are allowed"

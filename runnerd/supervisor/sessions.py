"""Where the kernel shares the CPU by session (autogroup), a worker's idle scheduling yields only to its own threads.

Each worker is a session of its own, so that its session has to be the one that yields. Only a supervisor with
CAP_SYS_ADMIN may say so; in a unit with a CPU share of its own (`CPUWeight=`) sessions do not count. Used by `worker`.
"""

from contextlib import suppress
from pathlib import Path

LEAST = "19"


def yield_cpu_by_session(pid: int) -> None:
    """The session of `pid` takes what the others leave, if this host shares by session and lets us say so."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(LEAST, "ascii")

"""What a worker holds open: nothing on 0, its pipes on 1 and 2, the birth socket out of reach, and no descriptor else.

Called by `workers.birth`, first thing in the forked child.
"""

import fcntl
import os
from typing import Final

from workers.sandbox import libc

PID_SLOT: Final = 3
"""Where the pipe lies on which the zygote learns the worker's pid."""


def arrange(*, birth: int, stdout: int, stderr: int, pid_pipe: int, birth_slot: int) -> None:
    """Move the worker's descriptors to their places and close everything else. Raises OSError.

    `birth_slot` is the RLIMIT_NOFILE to come: a number that nothing can be given again once it is closed (`seccomp`).
    """
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    # First all go above every place, so that none lands on a source that still has to move.
    sources = [
        fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, birth_slot + 1) for fd in (nothing, stdout, stderr, pid_pipe, birth)
    ]
    for source, place in zip(sources, (0, 1, 2, PID_SLOT, birth_slot), strict=True):
        os.dup2(source, place, inheritable=place <= 2)
    libc.close_from(PID_SLOT + 1, birth_slot - 1)
    libc.close_from(birth_slot + 1)

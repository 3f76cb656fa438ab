"""What a worker holds open: nothing on 0, its pipes on 1 and 2, the birth socket out of reach, and what it made itself.

Called by `workers.birth`: `keep_only` right after the fork, `take` when the request with the descriptors has come.
"""

import os

from workers.sandbox import libc


def keep_only(fd: int) -> None:
    """Close everything of the zygote's but 0, 1, 2 and `fd`, which is above. Raises OSError."""
    libc.close_from(3, fd - 1)
    libc.close_from(fd + 1)


def take(*, birth: int, stdout: int, stderr: int, birth_slot: int) -> None:
    """Move the descriptors that came with the request to their places; `birth` goes to `birth_slot`. Raises OSError.

    That is the RLIMIT_NOFILE to come: a number that nothing can be given again once it is closed (see `syscalls`).
    """
    for source, place in ((stdout, 1), (stderr, 2), (birth, birth_slot)):
        os.dup2(source, place, inheritable=False)
        os.close(source)

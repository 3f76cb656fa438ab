"""The root of the supervisor's errors. Each subclass's docstring says what happened and what the operator can do.

`exit_code` is what `runnerd` ends with when one of them keeps it from running; the numbers are those of sysexits.h.
"""

from enum import IntEnum


class RunExit(IntEnum):
    """What the daemon ends with. systemd is told in `runnerd.service` which of them it must not start again."""

    DONE = 0
    FAILED = 1
    USAGE = 64
    TEMPORARY = 75
    CONFIG = 78


class RunnerdError(Exception):
    """Something that runnerd knows how to explain. Its text is written for the operator."""

    exit_code: int = RunExit.FAILED


class Transient(RunnerdError):
    """What is needed is away, and may come back: the same thing is tried again, after a wait that grows."""

    exit_code = RunExit.TEMPORARY

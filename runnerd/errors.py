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


def describe(error: Exception) -> str:
    """Its own text if runnerd can explain it, else with its type, of which the text alone often says nothing."""
    return str(error) if isinstance(error, RunnerdError) else f"{type(error).__name__}: {error}"


def explain(error: Exception) -> str:
    """The same where no error but those that runnerd can explain should come up: any other is a defect."""
    return str(error) if isinstance(error, RunnerdError) else f"internal error: {describe(error)}"

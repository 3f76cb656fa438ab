"""What `runnerctl` ends with: the exit codes, and the error that carries one. Scripts rely on both; they are an API."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from runnerd.errors import RunnerdError


class ExitCode(IntEnum):
    """Apart from one another, so that a script can tell a vault in trouble from a mistyped option."""

    DONE = 0
    ATTENTION = 1
    DOWN = 2
    PENDING = 3
    USAGE = 64
    CONFIG = 78
    INTERRUPTED = 130


MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.DONE: "done; status: healthy; fire: acted, noop, or fired without --wait",
    ExitCode.ATTENTION: "refused or failed; status: degraded; fire: another outcome; doctor: a fault",
    ExitCode.DOWN: "runnerd is not running, cannot be reached, or gives no answer to status",
    ExitCode.PENDING: "not settled in time, and it goes on: fire --wait, drain; any command while the database is away",
    ExitCode.USAGE: "wrong command, option or value; nothing was done",
    ExitCode.CONFIG: "the configuration cannot be used",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}


class CliError(RunnerdError):
    """A command cannot go on. Each line of the text is one sentence for the operator: what is wrong, what to do."""

    def __init__(self, text: str, exit_code: ExitCode = ExitCode.ATTENTION) -> None:
        self.exit_code = exit_code
        super().__init__(text)

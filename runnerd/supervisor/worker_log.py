"""What one worker makes the supervisor log: its records, its output, its denied system calls. All within one limit.

Owned by `worker`. The text is the plugin's own, and so is its amount.
"""

import logging
from collections import Counter

from protocol.messages import LogLevel, LogRecord
from runnerd.log import fields
from runnerd.supervisor.output import log_limit

logger = logging.getLogger("runnerd.worker")

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


class WorkerLog:
    """The log of one generation. `limit` is shared with its `Output`s; `denials` counts by system call."""

    def __init__(self, plugin: str, generation: int) -> None:
        self.limit = log_limit()
        self.denials: Counter[str] = Counter()
        self._plugin = plugin
        self._generation = generation
        self._reported = 0

    def record(self, record: LogRecord, now: float) -> None:
        """A line of `ctx.log`."""
        if self.limit.allows(now):
            logger.log(
                _LEVELS[record.level], "%s", record.message,
                extra=fields("plugin_log", plugin=self._plugin, generation=self._generation, call=record.call_id),
            )  # fmt: skip

    def printed(self, level: int, line: str) -> None:
        """A line of stdout or stderr, which the limit has let through."""
        logger.log(level, "%s", line, extra=fields("plugin_output", plugin=self._plugin, generation=self._generation))

    def denied(self, syscall: str) -> None:
        """Count a denied system call. The first of its name is logged: a worker may make a thousand."""
        self.denials[syscall] += 1
        if self.denials[syscall] == 1:
            logger.warning(
                "denied syscall %s", syscall,
                extra=fields("sandbox_denied", plugin=self._plugin, generation=self._generation, syscall=syscall),
            )  # fmt: skip

    def attacked(self, what: str) -> None:
        """It did something that no library does by accident, and is ended for it."""
        logger.error(
            "attack: %s; the worker was killed before it was answered", what,
            extra=fields("sandbox_attack", plugin=self._plugin, generation=self._generation, syscall=what),
        )  # fmt: skip

    def report_dropped(self) -> None:
        """What the limit cut since the last time."""
        dropped, self._reported = self.limit.refused - self._reported, self.limit.refused
        if dropped:
            logger.warning(
                "%d log lines were dropped", dropped,
                extra=fields("plugin_log_dropped", plugin=self._plugin, dropped=dropped),
            )  # fmt: skip

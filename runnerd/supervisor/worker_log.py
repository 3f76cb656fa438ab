"""What one worker makes the supervisor log: its records, its output, its denied system calls. All within one limit.

Owned by `worker`. The text is the plugin's own, and so is its amount.
"""

import logging
from collections import Counter

from protocol.messages import LogLevel, LogRecord
from runnerd.log import fields
from runnerd.supervisor.limits import Limits
from runnerd.supervisor.output import log_limit

logger = logging.getLogger("runnerd.worker")

REPORT_DROPPED_S = 10.0
FLOOD_REPORTS = 3
"""So many reports in a row, each of a flood, end the worker: half a minute."""
FLOOD_FACTOR = 10
"""A flood is this many times what is allowed. A plugin that only talks too much loses lines, and lives."""

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


class WorkerLog:
    """The log of one generation. `limit` is shared with its `Output`s; `denials` counts by system call."""

    def __init__(self, plugin: str, generation: int, limits: Limits) -> None:
        self.limit = log_limit(limits.log_lines_per_s)
        self.denials: Counter[str] = Counter()
        self._plugin = plugin
        self._generation = generation
        self._reported = 0
        self._lines_per_s = limits.log_lines_per_s
        self._floods: list[int] = []

    def record(self, record: LogRecord, now: float) -> None:
        """A line of `ctx.log`."""
        if self.limit.allows(now):
            logger.log(
                _LEVELS[record.level], "%s", record.message,
                extra=fields("plugin_log", plugin=self._plugin, generation=self._generation, call=record.call_id),
            )  # fmt: skip

    def not_loaded(self, trace: str, now: float) -> None:
        """Why the plugin cannot run, all of it: a reason has room for a part of it alone."""
        if self.limit.allows(now):
            logger.warning(
                "%s was not loaded: %s", self._plugin, trace,
                extra=fields("plugin_not_loaded", plugin=self._plugin, generation=self._generation),
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

    def report_dropped(self) -> str | None:
        """What the limit cut since the last time, `REPORT_DROPPED_S` ago. Returns why the worker has to end, if so."""
        dropped, self._reported = self.limit.refused - self._reported, self.limit.refused
        if dropped:
            logger.warning(
                "%d log lines were dropped", dropped,
                extra=fields("plugin_log_dropped", plugin=self._plugin, dropped=dropped),
            )  # fmt: skip
        allowed = self._lines_per_s * REPORT_DROPPED_S
        self._floods = [*self._floods, dropped] if dropped >= allowed * (FLOOD_FACTOR - 1) else []
        if len(self._floods) < FLOOD_REPORTS:
            return None
        seconds = REPORT_DROPPED_S * len(self._floods)
        return f"over its log limit: {sum(self._floods)} lines in {seconds:g} s, {self._lines_per_s} a second are taken"

"""`ctx`: everything a call may look at. Built by the worker loop from a Decide message, or by `workers.testing`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from protocol.limits import MAX_LOG_MESSAGE_LENGTH
from protocol.messages import BlockRef, Call, LogLevel, VaultRef


class Log:
    """`ctx.log`: lines that end up in the operator's log under this plugin's name and call id."""

    def __init__(self, write: Callable[[LogLevel, str], None]) -> None:
        self._write = write

    def debug(self, message: str, *args: object) -> None:
        """A detail. `args` fill `%` placeholders, as in the logging module."""
        self._emit(LogLevel.DEBUG, message, args)

    def info(self, message: str, *args: object) -> None:
        """Something the operator may want to see."""
        self._emit(LogLevel.INFO, message, args)

    def warning(self, message: str, *args: object) -> None:
        """Something that should not be so, but can be lived with."""
        self._emit(LogLevel.WARNING, message, args)

    def error(self, message: str, *args: object) -> None:
        """Something that needs a person."""
        self._emit(LogLevel.ERROR, message, args)

    def _emit(self, level: LogLevel, message: str, args: tuple[object, ...]) -> None:
        try:
            text = str(message) % args if args else str(message)
        except (TypeError, ValueError):  # as in the logging module, a wrong placeholder does not stop the caller
            text = f"{message} {args!r}"
        self._write(level, text[:MAX_LOG_MESSAGE_LENGTH])


@dataclass(frozen=True, slots=True)
class Context:
    """The snapshot that one call decides on. All `reads` were taken at `block`; `now` is when it was built (UTC).

    Reads are of the types in `protocol.values`, params in `protocol.messages.Param`; which of them, their author knows.
    `state` is a `State` for an `async def decide` and a `BlockingState`, with the same methods, for a plain `def`.
    """

    call: Call
    now: datetime
    block: BlockRef
    vault: VaultRef
    reads: Mapping[str, Any]
    params: Mapping[str, Any]
    state: Any
    log: Log

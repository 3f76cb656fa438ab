"""`logging` of the plugin and of the libraries it uses goes the same way as `ctx.log`: as frames on the link.

Installed by `workers.inherited` in the zygote, so that all workers share it, and routed by `workers.loop`.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeAlias

from protocol.messages import LogLevel

Send: TypeAlias = Callable[[LogLevel, str], None]
"""Takes a line from any thread."""


class LinkHandler(logging.Handler):
    """The root handler of a worker. What is logged before it has a `send` is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.send: Send | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.send is None:
            return
        try:
            text = self.format(record)  # with the traceback, if there is one
        except Exception:  # foreign code: wrong placeholders, or a __str__ that raises; logging never stops its caller
            text = f"{record.name}: (a log line of {record.pathname}:{record.lineno} that cannot be shown)"
        self.send(_level(record.levelno), text)


_HANDLER: Final = LinkHandler()  # `logging` has one root for a whole process, and a worker process has one link


def install() -> None:
    """Make it the only handler of the root logger."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", handlers=[_HANDLER], force=True)


def route(send: Send | None) -> None:
    """From here on every record goes to `send`, or nowhere."""
    if logging.getLogger().handlers != [_HANDLER]:
        install()
    _HANDLER.send = send


def _level(number: int) -> LogLevel:
    if number >= logging.ERROR:
        return LogLevel.ERROR
    if number >= logging.WARNING:
        return LogLevel.WARNING
    return LogLevel.INFO if number >= logging.INFO else LogLevel.DEBUG

"""Log records of the supervisor: readable on a terminal, one JSON object per line elsewhere.

Every record carries a stable `action` (an API: see docs/log-events.md) and plain fields, through `extra=fields(...)`.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from runnerd.text import printable

__all__ = ["JsonFormatter", "TerminalFormatter", "configure", "fields", "printable"]

LIBRARY = "library"
"""The action of records that are not ours."""
_FIELDS = "runnerd_fields"
_OTHERS = {"action": LIBRARY}
_PLAIN = frozenset({str, int, float, bool, type(None)})
_encode = msgspec.json.Encoder().encode
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m", "DEBUG": "\x1b[2m"}


def fields(action: str, **values: object) -> dict[str, Any]:
    """For `extra=`: the stable name of what happened, and its details."""
    return {_FIELDS: {"action": action, **values}}


def configure(level: str) -> None:
    """Set up the root logger once, at start. Everything goes to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    is_terminal = sys.stderr.isatty()
    handler.setFormatter(TerminalFormatter() if is_terminal else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Neither form shows them, and finding out took a third of the time of a record (logging's HOWTO, Optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    # Libraries that log each request would drown what the operator needs to see; botocore's hold a session's token.
    for noisy in ("web3", "urllib3", "asyncio", "aiohttp", "websockets", "boto3", "botocore", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns at each trial while the database is away: the store says so once, and quotes no connection string.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, action, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in getattr(record, _FIELDS, _OTHERS).items():
            entry[name] = value if type(value) in _PLAIN else plain(value)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            return _encode(entry).decode()
        except UnicodeEncodeError:  # a lone surrogate, from a file name for instance
            return json.dumps(entry, ensure_ascii=False)


def plain(value: object) -> object:
    """What JSON has a word for stays as it is, also in a list; the rest is its text."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    return value if value is None or isinstance(value, str | int | float) else str(value)


class TerminalFormatter(logging.Formatter):
    """`12:00:01.250 warning worker_exited worker alpha #3 ended: killed by SIGKILL  plugin=alpha`."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        extra = dict(getattr(record, _FIELDS, {}))
        action = extra.pop("action", record.name)
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        pairs = " ".join(f"{key}={value}" for key, value in extra.items() if value is not None)
        text = f"{at} {record.levelname.lower():7} {action:20} {printable(record.getMessage())}"
        line = f"{text}  {printable(pairs)}" if pairs else text
        if record.exc_info:
            line += "\n" + "\n".join(map(printable, self.formatException(record.exc_info).split("\n")))
        colour = _COLOURS.get(record.levelname)
        return f"{colour}{line}\x1b[0m" if colour else line

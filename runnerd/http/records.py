"""The http process's log records on their way to the supervisor: multiprocessing-logging without its pickles.

multiprocessing-logging moves records through a queue that unpickles whatever the other end sends. Strangers' bytes
arrive at that end. So its queue is replaced by typed packets: a compromised http process can write lines about itself,
under the actions listed here and at a bounded rate, and nothing else.
"""

import logging
import select
import socket
import time
from contextlib import suppress
from queue import Empty
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from multiprocessing_logging import MultiProcessingHandler

from runnerd.log import fields
from runnerd.supervisor.rate import RateLimit

LOGGER: Final = "runnerd.http"
MAX_PACKET_BYTES: Final = 32_768
RECORDS_PER_S: Final = 100.0
BURST: Final = 500.0
LEVELS: Final = frozenset({logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR})
ACTIONS: Final = frozenset({"http_listening", "http_failed", "library"})
_FIELDS: Final = "runnerd_fields"


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What crosses. `values` are the record's fields."""

    level: int
    message: Annotated[str, Meta(max_length=8_000)]
    created: float
    process: int
    action: str
    values: dict[str, str | int | float | bool | None]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


class Records:
    """Stands where multiprocessing-logging has its `multiprocessing.Queue`, with the methods of it that it uses."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._writer.setblocking(False)
        self._rate = RateLimit(RECORDS_PER_S, BURST)

    def put_nowait(self, record: logging.LogRecord) -> None:
        """Send it; where there is no room it is dropped: a request must not wait for the log."""
        extra = dict(getattr(record, _FIELDS, {"action": "library"}))
        text = record.getMessage() + (f"\n{record.exc_text}" if record.exc_text else "")
        packet = _encode(
            Record(
                level=record.levelno,
                message=text[:8_000],
                created=record.created,
                process=record.process or 0,
                action=str(extra.pop("action", "library")),
                values={name: value for name, value in extra.items() if isinstance(value, str | int | float | None)},
            )
        )
        with suppress(BlockingIOError):
            self._writer.send(packet[:MAX_PACKET_BYTES])

    def get(self, timeout: float) -> logging.LogRecord:
        """The next record. Raises queue.Empty after `timeout` seconds, EOFError at the end."""
        until = time.monotonic() + timeout
        while True:
            readable, _, _ = select.select([self._reader], [], [], max(0.0, until - time.monotonic()))
            if not readable:
                raise Empty
            packet = self._reader.recv(MAX_PACKET_BYTES)
            if not packet:
                raise EOFError
            if self._rate.allows(time.monotonic()):
                return to_log_record(packet)

    def qsize(self) -> int:
        """1 while something waits."""
        readable, _, _ = select.select([self._reader], [], [], 0)
        return len(readable)

    def close(self) -> None:
        """No record comes any more."""
        self._reader.close()
        self._writer.close()

    def join_thread(self) -> None:
        """There is no thread: see multiprocessing.Queue."""


class RecordHandler(MultiProcessingHandler):  # type: ignore[misc]  # it ships no types
    """multiprocessing-logging's handler, with `Records` for its queue from the first moment on."""

    @property
    def queue(self) -> Records:
        """See MultiProcessingHandler."""
        return self._records

    @queue.setter
    def queue(self, pickling: Any) -> None:
        pickling.close()
        self._records = Records()


def to_log_record(packet: bytes) -> logging.LogRecord:
    """What the supervisor logs for a packet: never more than a line of the http process about itself."""
    try:
        record = _decode(packet)
    except (ValueError, RecursionError):
        record = None
    if record is None or record.level not in LEVELS or record.action not in ACTIONS:
        return logging.makeLogRecord({
            "name": LOGGER, "levelno": logging.WARNING, "levelname": "WARNING",
            "msg": "the http process sent a record that it has no right to", **fields("http_record_refused"),
        })  # fmt: skip
    values = {name: value for name, value in record.values.items() if name not in {"action", "time", "level", "logger"}}
    return logging.makeLogRecord({
        "name": LOGGER, "levelno": record.level, "levelname": logging.getLevelName(record.level),
        "msg": record.message, "created": record.created, "process": record.process,
        **fields(record.action, **values),
    })  # fmt: skip

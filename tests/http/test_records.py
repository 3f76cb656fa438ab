"""Log records of the http process: typed, bounded, about itself; never a pickle, never in another's name."""

import logging
import os
import pickle  # noqa: TID251  # what an attacker sends
import threading
import time
from pathlib import Path
from queue import Empty

import msgspec
import pytest

from runnerd.http.records import BURST, MAX_PACKET_BYTES, RecordHandler, Records, to_log_record
from runnerd.log import fields

FIELDS = "runnerd_fields"


def packet(**changes: object) -> bytes:
    """A good record, but for these."""
    record = {
        "level": 20, "message": "listening", "created": 1.0, "process": 7, "action": "http_listening",
        "values": {"port": 1},
    }  # fmt: skip
    return msgspec.json.encode({**record, **changes})


def log_record(message: str) -> logging.LogRecord:
    """As the http process makes it."""
    return logging.makeLogRecord(
        {"name": "runnerd.http", "levelno": 20, "levelname": "INFO", "msg": message, "process": 7}
        | fields("http_listening", port=1)
    )


def test_a_record_comes_out_as_it_went_in() -> None:
    """Message, level, process, action and fields."""
    records = Records()
    records.put_nowait(log_record("listening on 1"))
    got = records.get(timeout=5)
    assert (got.getMessage(), got.levelno, got.process) == ("listening on 1", 20, 7)
    assert getattr(got, FIELDS) == {"action": "http_listening", "port": 1}
    records.close()


class _Touch:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)

    def __init__(self, path: str) -> None:
        self.path = path


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    """Control first: the same bytes make a directory where they are unpickled. In our log they are one warning."""
    control, target = tmp_path / "control", tmp_path / "target"
    pickle.loads(pickle.dumps(_Touch(str(control))))
    assert control.is_dir()
    record = to_log_record(pickle.dumps(_Touch(str(target))))
    assert not target.exists()
    assert getattr(record, FIELDS)["action"] == "http_record_refused"


@pytest.mark.parametrize(
    "data",
    [
        packet(action="store_failed"),
        packet(action="key_unlocked"),
        packet(level=logging.CRITICAL),
        packet(level=99),
        packet(name="runnerd.executor"),
        packet(message="x" * 9_000),
        packet(values={"nested": {"a": 1}}),
        b"[" * 30_000,
        b"\xff",
        b"",
    ],
)
def test_a_record_that_it_has_no_right_to_is_said_to_be_one(data: bytes) -> None:
    """No alarm of another part can be rung, and no logger of another part spoken for."""
    record = to_log_record(data)
    assert (record.name, record.levelno) == ("runnerd.http", logging.WARNING)
    assert getattr(record, FIELDS) == {"action": "http_record_refused"}


def test_fields_cannot_take_the_place_of_the_records_own() -> None:
    """`time`, `level` and `logger` are written by the supervisor."""
    record = to_log_record(packet(values={"port": 1, "level": "critical", "logger": "runnerd", "time": "never"}))
    assert getattr(record, FIELDS) == {"action": "http_listening", "port": 1}


def test_a_flood_waits_for_nobody_and_most_of_it_is_dropped() -> None:
    """The sender never blocks; the reader takes a burst, and then so many a second."""
    records = Records()
    began = time.monotonic()
    taken = 0
    for _ in range(60):  # more than the socket holds, and more than a burst
        for _ in range(100):
            records.put_nowait(log_record("x" * 1_000))
        try:
            while True:
                records.get(timeout=0)
                taken += 1
        except Empty:
            pass
    assert time.monotonic() - began < 10
    assert BURST <= taken < 6_000
    records.close()


def test_the_handler_never_has_a_queue_of_pickles() -> None:
    """From its first moment on: the thread that reads is started by multiprocessing-logging's own constructor."""
    got: list[str] = []
    heard = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            got.append(record.getMessage())
            heard.set()

    handler = RecordHandler("test", sub_handler=Listener())
    try:
        assert isinstance(handler.queue, Records)
        handler.emit(log_record("hello"))
        assert heard.wait(5)
        assert got == ["hello"]
        assert MAX_PACKET_BYTES < 1 << 16
    finally:
        handler.close()

"""Log records: one JSON object a line for machines, a readable line for people, and no escape sequence of a plugin."""

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime

import pytest

from runnerd.log import JsonFormatter, TerminalFormatter, configure, fields, printable

EVIL = "\x1b[2J\x1b]0;owned\x07 \r\b\u202e\u200b\u2028"


def record(message: str, *args: object, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    """A record of the logger runnerd.test."""
    made = logging.getLogger("runnerd.test").makeRecord(
        "runnerd.test", level, "file", 1, message, args, None, extra=dict(extra)
    )
    made.created = 1_767_225_600.25
    return made


def test_json_line_has_time_level_action_and_fields() -> None:
    """The action and its fields are an API."""
    made = record("call %d ended", 7, level=logging.WARNING, **fields("call_finished", call=7, tx=None, plugin="é"))
    line = JsonFormatter().format(made)
    assert "\n" not in line
    entry = json.loads(line)
    assert datetime.fromisoformat(entry.pop("time")).timestamp() == 1_767_225_600.25
    assert entry == {
        "level": "warning", "logger": "runnerd.test", "message": "call 7 ended", "action": "call_finished", "call": 7,
        "tx": None, "plugin": "é",
    }  # fmt: skip


def test_json_line_stays_one_line_whatever_is_in_it() -> None:
    """Line breaks, quotes, objects, lone surrogates."""
    line = JsonFormatter().format(record('a\n"b"\x00\ud800', **fields("x", value={1}, text="\r\n")))
    assert line.count("\n") == 0
    entry = json.loads(line)
    assert (entry["message"], entry["value"], entry["text"]) == ('a\n"b"\x00\ud800', "{1}", "\r\n")


def test_exception_is_in_the_record() -> None:
    """With its traceback, in both forms."""
    try:
        raise ValueError(f"bad {EVIL}")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    assert "Traceback" in json.loads(JsonFormatter().format(made))["exception"]
    shown = TerminalFormatter().format(made)
    assert "Traceback" in shown
    assert "ValueError: bad" in shown
    assert not set(shown) & {"\x1b", "\x07", "\r", "\b", "\u202e", "\u200b", "\u2028"}


def test_terminal_line_is_time_level_action_message_and_fields() -> None:
    """In columns; fields without a value are left out."""
    made = record("worker ended", level=logging.INFO, **fields("worker_exited", plugin="alpha", call=None))
    assert TerminalFormatter().format(made) == "00:00:00.250 info    worker_exited        worker ended  plugin=alpha"


def test_warnings_are_coloured_and_the_colour_ends() -> None:
    """Whatever stands in between."""
    shown = TerminalFormatter().format(record("careful", level=logging.WARNING))
    assert shown.startswith("\x1b[33m")
    assert shown.endswith("\x1b[0m")


@pytest.mark.parametrize("where", ["message", "field"])
def test_no_escape_sequence_of_a_plugin_reaches_a_terminal(where: str) -> None:
    """Nor a carriage return that hides what stood there, nor a change of direction."""
    made = record(EVIL) if where == "message" else record("x", **fields("y", text=EVIL))
    shown = TerminalFormatter().format(made)
    assert not set(shown) & {"\x1b", "\x07", "\r", "\b", "\u202e", "\u200b", "\u2028", "\n"}


def test_printable_keeps_ordinary_text() -> None:
    """Letters of all scripts; a line break is shown as a sign."""
    assert printable("Zürich → 東京 😀\n") == "Zürich → 東京 😀⏎"
    assert printable("\x00\x7f") == "··"


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_everything_goes_to_stderr_as_json_when_it_is_no_terminal(
    root_logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the configured level; libraries that log each request are kept quiet."""
    configure("info")
    logging.getLogger("runnerd.test").info("hello", extra=fields("greeting"))
    logging.getLogger("runnerd.test").debug("not this")
    logging.getLogger("urllib3").info("nor this")
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert json.loads(line)["action"] == "greeting"

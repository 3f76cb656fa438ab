"""`ctx.log`: levels, placeholders and bounds of what a plugin writes."""

import dataclasses

import pytest

from protocol.limits import MAX_LOG_MESSAGE_LENGTH
from protocol.messages import LogLevel
from workers import sdk
from workers.sdk import Context, Log


def test_each_method_is_a_level() -> None:
    """Four of them, as the wire knows them."""
    lines: list[tuple[LogLevel, str]] = []
    log = Log(lambda level, text: lines.append((level, text)))
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert lines == [(LogLevel.DEBUG, "a"), (LogLevel.INFO, "b"), (LogLevel.WARNING, "c"), (LogLevel.ERROR, "d")]


@pytest.mark.parametrize(
    "message, args, text",
    [
        ("price %d of %s", (5, "ETH"), "price 5 of ETH"),
        ("100 %", (), "100 %"),
        ("%s", (("a", 1),), "('a', 1)"),
        ("%d", ("five",), "%d ('five',)"),
        ("%s and %s", (1,), "%s and %s (1,)"),
        ("nothing", (1,), "nothing (1,)"),
        ("%y", (1,), "%y (1,)"),
        ({"a": 1}, (), "{'a': 1}"),
        ("x" * 5_000, (), "x" * MAX_LOG_MESSAGE_LENGTH),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_line_is_filled_in_and_cut(message: str, args: tuple[object, ...], text: str) -> None:
    """As in the logging module: a wrong placeholder spoils the line, and not the decision."""
    lines: list[str] = []
    Log(lambda _, line: lines.append(line)).info(message, *args)
    assert lines == [text]


def test_the_context_cannot_be_changed() -> None:
    """A call decides on the snapshot that the ledger keeps."""
    fields = {field.name: None for field in dataclasses.fields(Context)}
    context = Context(**fields)  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.now = None  # type: ignore[misc,assignment]
    assert set(fields) == {"call", "now", "block", "vault", "reads", "params", "state", "log"}


def test_the_sdk_offers_what_it_lists() -> None:
    """One import line is all that a plugin needs."""
    assert all(hasattr(sdk, name) for name in sdk.__all__)
    assert {"Action", "Context", "Cron", "Event", "Noop", "Plugin", "Read"} <= set(sdk.__all__)

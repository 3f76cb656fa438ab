"""Declared triggers and reads: refused where a plugin writes them, and again where the supervisor reads them."""

import decimal
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from protocol.limits import MAX_ARGUMENTS
from protocol.triggers import Cron, Event, Metric, Read, Trigger

_triggers = msgspec.json.Decoder(Trigger)
_reads = msgspec.json.Decoder(Read)


def decode(kind: str, fields: dict[str, Any]) -> object:
    """What the supervisor makes of it."""
    if kind == "read":
        return _reads.decode(msgspec.json.encode(fields))
    return _triggers.decode(msgspec.json.encode({"kind": kind, **fields}))


MAKERS = {"cron": Cron, "event": Event, "read": Read}


@pytest.mark.parametrize(
    "given, exact",
    [
        (1, "1"),
        (10, "10"),
        (0.05, "0.05"),
        (0.1, "0.1"),
        ("0.5000", "0.5"),
        ("1e3", "1000"),
        (Decimal("2.50"), "2.5"),
        (366 * 86_400, "31622400"),
    ],
)
def test_an_interval_is_exact_and_has_one_writing(given: Any, exact: str) -> None:
    """`0.1` means a tenth, and equal intervals are equal on the wire: cursors are named after them."""
    cron = Cron(every_seconds=given)
    assert str(cron.every_seconds) == exact
    assert _triggers.decode(msgspec.json.encode(cron)) == cron
    assert Cron(every_seconds=cron.every_seconds) == cron


@pytest.mark.parametrize(
    "text",
    [
        *("0", "-1", "0.0499", "0.0501", "31622400.001", "1e400", "1e-400", "1e999999999", "NaN", "-NaN", "sNaN"),
        *("Infinity", "-Infinity", "5." + "0" * 40 + "1", "0." + "0" * 5_000 + "1", "9" * 5_000),
    ],
    ids=lambda text: text[:12],
)
def test_an_interval_that_is_none_is_refused_on_both_sides(text: str) -> None:
    """Too short, too long, finer than a millisecond, or no number; NaN once raised decimal.InvalidOperation here."""
    with pytest.raises(ValueError, match=r"every_seconds must be 0\.05 to 31622400, in whole milliseconds"):
        Cron(every_seconds=Decimal(text))
    with pytest.raises(msgspec.ValidationError, match="every_seconds must be"):
        decode("cron", {"every_seconds": text})


@pytest.mark.parametrize("given", [True, "soon", "", float("nan"), float("inf"), [1], b"1"], ids=repr)
def test_an_interval_that_is_no_number_is_refused(given: Any) -> None:
    """By the same sentence, not by whatever Decimal raises."""
    with pytest.raises(ValueError, match="every_seconds must be"):
        Cron(every_seconds=given)


def test_a_plugins_decimal_context_changes_no_interval() -> None:
    """The context is the thread's, and plugin code may have set it."""
    with decimal.localcontext(prec=3), pytest.raises(ValueError, match="every_seconds must be"):
        Cron(every_seconds=Decimal("86400.5"))
    with decimal.localcontext(prec=28):
        assert str(Cron(every_seconds=Decimal("86400.5")).every_seconds) == "86400.5"


@pytest.mark.parametrize(
    "kind, fields, reason",
    [
        ("cron", {}, "either every_seconds or expression"),
        ("cron", {"every_seconds": 1, "expression": "* * * * *"}, "either every_seconds or expression"),
        ("cron", {"expression": ""}, "expression must be text of 1 to 200"),
        ("cron", {"expression": "*" * 201}, "expression must be text of 1 to 200"),
        ("cron", {"expression": 5}, "expression must be text"),
        ("cron", {"every_seconds": 1, "timezone": ""}, "timezone must be text of 1 to 64"),
        ("cron", {"every_seconds": 1, "timezone": "z" * 65}, "timezone must be text of 1 to 64"),
        ("cron", {"every_seconds": 1, "timezone": "Europe/Berlin"}, "timezone is for an expression"),
        ("event", {"topic": ""}, "topic must be text of 1 to 63"),
        ("event", {"topic": "t" * 64}, "topic must be text of 1 to 63"),
        ("event", {"topic": "é" * 32}, "topic must be at most 63 bytes of UTF-8"),
        ("event", {"topic": "a\x00b"}, "without NUL"),
        ("event", {"topic": None}, "topic must be text"),
        ("read", {"name": "bad name"}, "the name of a read must be"),
        ("read", {"name": ""}, "the name of a read must be"),
        ("read", {"name": "a", "alias": "b\n"}, "the alias of a read must be"),
        ("read", {"name": "a", "args": {"bad name": 1}}, "an argument name must be"),
        ("read", {"name": "a", "args": {f"a{n}": n for n in range(MAX_ARGUMENTS + 1)}}, "at most 32 names"),
        ("read", {"name": "a", "args": {"x": 2**256}}, "does not fit"),
        ("read", {"name": "a", "args": {"x": 1.5}}, "a float cannot travel"),
        ("read", {"name": "a", "args": None}, "must be a table"),
    ],
    ids=repr,
)
def test_a_declaration_out_of_bounds_is_refused_on_both_sides(kind: str, fields: dict[str, Any], reason: str) -> None:
    """The author reads the sentence; a worker that skips the check is refused all the same."""
    with pytest.raises(ValueError, match=reason):
        MAKERS[kind](**fields)
    with pytest.raises(msgspec.ValidationError):
        decode(kind, fields)


@pytest.mark.parametrize(
    "kind, fields",
    [
        ("cron", {"expression": "x" * 200, "timezone": "z" * 64}),
        ("event", {"topic": "t" * 63}),
        ("event", {"topic": "é" * 31}),
        ("event", {"topic": 'with "quotes",\n spaces'}),
        ("read", {"name": "a", "args": {f"a{n}": n for n in range(MAX_ARGUMENTS)}, "alias": "b"}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_declaration_at_the_bounds_is_accepted_on_both_sides(kind: str, fields: dict[str, Any]) -> None:
    """Control."""
    assert decode(kind, fields) == MAKERS[kind](**fields)


def test_a_read_is_found_under_its_alias_or_its_name() -> None:
    """Two reads of one name need an alias each."""
    assert Read("spot").key == "spot"
    assert Read("spot", alias="before").key == "before"


def test_reads_share_no_arguments() -> None:
    """Neither the default nor the table that they were made from."""
    table: dict[str, Any] = {"x": [1]}
    read, bare = Read("a", table), Read("a")
    table["x"].append(2)
    bare.args["y"] = 1
    assert read.args == {"x": [1]}
    assert Read("a").args == {}


def test_a_metric_goes_by_blocks_or_by_an_exact_interval() -> None:
    """As cron's on the wire; never by both."""
    metric = Metric(read=Read("spot"), above=1, every_seconds=0.5)
    assert str(metric.every_seconds) == "0.5"
    assert _triggers.decode(msgspec.json.encode(metric)) == metric
    with pytest.raises(ValueError, match="either every_blocks or every_seconds"):
        Metric(read=Read("spot"), above=1, every_blocks=2, every_seconds=1)
    with pytest.raises(msgspec.ValidationError, match="every_seconds must be"):
        decode("metric", {"read": {"name": "spot"}, "above": 1, "every_seconds": "0.01"})

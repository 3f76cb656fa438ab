"""Words for amounts and times, and text that is safe for a terminal."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from runnerd.cli.json_text import to_json
from runnerd.cli.text import (
    clock_time,
    duration,
    ether,
    exact_ether,
    gwei,
    mebibytes,
    milliseconds,
    until,
)
from runnerd.text import printable

NOW = datetime(2026, 11, 21, 14, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "seconds,words",
    [
        (-3, "0 s"), (0.04, "0 s"), (0.45, "0.4 s"), (1, "1 s"), (119.9, "119 s"), (120, "2 min"), (3_599, "59 min"),
        (3_600, "1 h"), (3_600 * 5 + 1_260, "5 h 21 min"), (86_400 * 3 + 3_600 * 4, "3 d 4 h"), (86_400, "1 d"),
    ],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds: float, words: str) -> None:
    """Rounded down, so that nothing is promised earlier than it is."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    "amount_wei,words",
    [
        (0, "0"), (3, "3 wei"), (10**6, "0.001 gwei"), (12 * 10**9, "12 gwei"), (10**14, "0.0001 ether"),
        (5 * 10**16, "0.05 ether"), (1_234_567 * 10**18, "1,234,567 ether"), (2**256 - 1, None),
    ],
)  # fmt: skip
def test_amounts_are_given_in_the_unit_in_which_they_can_be_read(amount_wei: int, words: str | None) -> None:
    """No exponent, no trailing zeros; uint256's largest is a long number, not an error."""
    shown = ether(amount_wei)
    assert shown == words if words else shown.endswith(" ether")
    assert "E" not in shown


@pytest.mark.parametrize(
    "amount_wei,words",
    [
        (0, "0"), (3, "3 wei"), (10**6 - 1, "999999 wei"), (10**9 + 1, "1 gwei (1,000,000,001 wei)"),
        (1_000_004_999 * 10**9, "1 ether (1,000,004,999,000,000,000 wei)"),
    ],
)  # fmt: skip
def test_an_amount_that_is_signed_is_given_to_the_last_wei(amount_wei: int, words: str) -> None:
    """Beside the one that can be read, which is rounded."""
    assert exact_ether(amount_wei) == words


@pytest.mark.parametrize(
    "amount_wei,words", [(0, "0"), (1, "0.000000001"), (1_203_456_789, "1.20346"), (342_027_336 * 10**9, "342,027,336")]
)
def test_gwei_keeps_six_digits_and_every_whole_one(amount_wei: int, words: str) -> None:
    """What is paid is never rounded by more than a millionth."""
    assert gwei(amount_wei) == words


def test_milliseconds_and_sizes_are_short() -> None:
    """Three digits are what one compares at a glance."""
    assert [milliseconds(value) for value in (0.84, 9.6, 12.3, 3_210)] == ["0.84 ms", "9.6 ms", "12 ms", "3.21 s"]
    assert [mebibytes(value) for value in (3_251_000, 5 << 30)] == ["3.1 MiB", "5.0 GiB"]


def test_a_time_of_another_day_carries_its_date_and_every_time_is_utc() -> None:
    """PostgreSQL answers in the zone of its session; the operator reads UTC."""
    berlin = timezone(timedelta(hours=1))
    assert clock_time(datetime(2026, 11, 21, 15, 5, 1, tzinfo=berlin), NOW) == "14:05:01"
    assert clock_time(NOW - timedelta(days=1), NOW) == "2026-11-20 14:05:30"


def test_what_is_due_is_now() -> None:
    """A next fire in the past is late, not negative."""
    assert until(NOW + timedelta(seconds=3), NOW) == "in 3 s"
    assert until(NOW - timedelta(seconds=3), NOW) == "now"


def test_printable_text_is_one_line_without_control_characters() -> None:
    """Escape sequences (C0 and C1), line breaks and writing directions lose their effect; other letters stay."""
    assert printable("a\x1b[31m\x9b0m\u202eb\x00\n\tc\r\n ✓ ü 漢") == "a·[31m·0m·b·⏎ c⏎ ✓ ü 漢"
    assert all(character.isprintable() for character in printable("".join(map(chr, range(0x3000)))))


def test_json_holds_the_same_value_and_nothing_that_a_terminal_obeys() -> None:
    """JSON leaves DEL, C1 and writing directions as they are; written as escapes they mean the same to a parser."""
    value = {"reason": "\x1b]0;x\x07 \x7f\x9b31m\u202e 😀 \U000e0001"}
    shown = to_json(value)
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert json.loads(shown) == value

"""Bounds against numbers, exactly: what passes, what breaks, and what can be put down to one transaction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.actions import Act, Action, Noop
from protocol.codec import encode_outcome
from protocol.errors import ProtocolError
from protocol.expectations import BalanceChange, Expectation, MinimumOut, SharePrice
from runnerd.chain.effects import Effects, Reading, Way
from runnerd.executor.expectations import (
    Evidence,
    Result,
    Verdict,
    check,
    expected_by,
    find_breach,
    judge_receipt,
)

TOKEN = "0x" + "c1" * 20
uints = st.integers(0, 2**256 - 1)
bounds = st.integers(-(2**255), 2**256 - 1)


def effects(*readings: tuple[int | None, int | None]) -> Effects:
    return Effects(tuple(Reading(*reading) for reading in readings), Way.SIMULATE)


# --- in the simulation -----------------------------------------------------------------------------------------------


@given(before=uints, after=uints, low=bounds, high=bounds)
def test_a_change_passes_if_and_only_if_it_is_within_both_bounds(before: int, after: int, low: int, high: int) -> None:
    """No rounding, no overflow, at any size."""
    change, reading = after - before, Reading(before, after)
    assert (find_breach(BalanceChange(min=low), reading) is None) == (change >= low)
    assert (find_breach(BalanceChange(TOKEN, max=high), reading) is None) == (change <= high)
    if low <= high:
        assert (find_breach(BalanceChange(None, low, high), reading) is None) == (low <= change <= high)


@given(before=uints | st.integers(-(2**255), -1), after=uints | st.integers(-(2**255), -1), bps=st.integers(0, 10**6))
def test_a_price_passes_if_and_only_if_its_move_is_within_the_part_of_what_it_was(
    before: int, after: int, bps: int
) -> None:
    """Compared as fractions; a move away from zero is without bound, none is always fine."""
    broken = find_breach(SharePrice("nav", bps), Reading(before, after))
    assert (broken is None) == (abs(after - before) * 10_000 <= bps * abs(before))
    if before == after:
        assert broken is None


@pytest.mark.parametrize(
    "expectation, reading, words",
    [
        (MinimumOut(10), (5, 14), "native balance changes by 9, below min = 10"),
        (MinimumOut(10, TOKEN), (5, 3), f"balance of token {TOKEN} changes by -2, below min = 10"),
        (BalanceChange(max=-1), (5, 5), "native balance changes by 0, above max = -1"),
        (
            SharePrice("nav", 50),
            (1_000, 1_006),
            "read nav moves from 1000 to 1006, by 60 bps, above max_change_bps = 50",
        ),
        (
            SharePrice("nav", 50),
            (9_999, 9_949),
            "read nav moves from 9999 to 9949, by 51 bps, above max_change_bps = 50",
        ),
        (SharePrice("nav", 50), (0, 1), "read nav moves from 0 to 1, away from 0, above max_change_bps = 50"),
        (SharePrice("nav", 50), (None, 1), "read nav cannot be read before the transaction"),
        (MinimumOut(0, TOKEN), (1, None), f"balance of token {TOKEN} cannot be read after the transaction"),
    ],
)
def test_a_breach_names_value_and_bound(expectation: Expectation, reading: tuple[int, int], words: str) -> None:
    """What cannot be read is a breach as well: fail closed."""
    assert find_breach(expectation, Reading(*reading)) == words


def test_the_first_that_is_broken_is_named_by_its_number() -> None:
    """As its author wrote them, from one; nothing is expected of nothing."""
    expect = [MinimumOut(1), MinimumOut(2), MinimumOut(3)]
    assert check(expect, effects((0, 1), (0, 2), (0, 3))) is None
    assert check(expect, effects((0, 1), (0, 1), (0, 1))) == "expectation 2: native balance changes by 1, below min = 2"
    assert check([], effects()) is None
    with pytest.raises(ValueError, match="zip"):
        check(expect, effects((0, 1)))


# --- after the fact --------------------------------------------------------------------------------------------------


def verdict(
    expectation: Expectation, reading: tuple[int | None, int | None], exact: int | None = None, others: str = ""
) -> Verdict:
    return judge_receipt([expectation], [Evidence(reading=Reading(*reading), exact=exact, others=others)])


OUT, TOO_LITTLE, UNREAD = (0, 10), (0, 9), (None, None)
LACKS = "changes by 9, below min = 10"


@pytest.mark.parametrize(
    "expectation, reading, exact, others, result",
    [
        # A token: its logs clear; to accuse, its balances must agree, or be unreadable.
        (MinimumOut(10, TOKEN), OUT, 10, "", Result.MET),
        (MinimumOut(10, TOKEN), TOO_LITTLE, 10, "", Result.MET),
        (MinimumOut(10, TOKEN), TOO_LITTLE, 9, "", Result.BREACHED),
        (MinimumOut(10, TOKEN), UNREAD, 9, "", Result.BREACHED),
        (MinimumOut(10, TOKEN), OUT, 9, "", Result.UNPROVEN),
        # Native value: a trace decides; a block only when nobody else was there.
        (MinimumOut(10), TOO_LITTLE, 10, "2 others", Result.MET),
        (MinimumOut(10), OUT, 9, "2 others", Result.BREACHED),
        (MinimumOut(10), OUT, None, "", Result.MET),
        (MinimumOut(10), TOO_LITTLE, None, "", Result.BREACHED),
        (MinimumOut(10), OUT, None, "2 others", Result.UNPROVEN),
        (MinimumOut(10), TOO_LITTLE, None, "2 others", Result.UNPROVEN),
        (MinimumOut(10), UNREAD, None, "", Result.UNPROVEN),
        # A price: the block decides.
        (SharePrice("nav", 100), (100, 101), None, "", Result.MET),
        (SharePrice("nav", 99), (100, 101), None, "", Result.BREACHED),
        (SharePrice("nav", 99), (100, None), None, "", Result.UNPROVEN),
    ],
)
def test_only_what_can_be_put_down_to_the_transaction_accuses(
    expectation: Expectation, reading: tuple[int | None, int | None], exact: int | None, others: str, result: Result
) -> None:
    """A breach pauses a vault: it must not be somebody else's."""
    found = verdict(expectation, reading, exact, others)
    assert found.result is result
    assert (found.text == "") == (result is Result.MET)


def test_a_verdict_says_what_was_seen() -> None:
    """Value and bound, and why it is not proven."""
    assert verdict(MinimumOut(10), TOO_LITTLE).text == f"expectation 1 is broken: native balance {LACKS}"
    assert verdict(MinimumOut(10), TOO_LITTLE, None, "2 others").text == (
        f"expectation 1 is not proven: native balance {LACKS} over the whole block, with 2 others"
    )
    assert verdict(MinimumOut(10), OUT, None, "2 others").text == (
        "expectation 1 is not proven: met over the whole block, with 2 others"
    )


def test_the_worst_of_several_counts_and_what_is_met_is_not_mentioned() -> None:
    """Breach before doubt, and both are told."""
    expect = [MinimumOut(10), MinimumOut(10), MinimumOut(10)]
    proofs = [Evidence(reading=Reading(*reading)) for reading in (OUT, UNREAD, TOO_LITTLE)]
    found = judge_receipt(expect, proofs)
    assert (found.result, found.is_evidence_missing) == (Result.BREACHED, False)
    assert found.text.startswith("expectation 2 is not proven: native balance cannot be read before the transaction; ")
    assert found.text.endswith(f"expectation 3 is broken: native balance {LACKS}")


def test_a_number_that_is_missing_may_be_asked_for_again() -> None:
    """Unlike a doubt that stays one."""
    assert verdict(MinimumOut(10), UNREAD).is_evidence_missing
    assert not verdict(MinimumOut(10), OUT, None, "2 others").is_evidence_missing
    assert not verdict(MinimumOut(10, TOKEN), UNREAD, 9).is_evidence_missing


# --- from the ledger -------------------------------------------------------------------------------------------------


def test_what_a_stored_decision_expects_is_read_back() -> None:
    """Whole and in order; a Noop and a missing Decision expect nothing; what is no Decision is an error."""
    expect = (MinimumOut(10, TOKEN), SharePrice("nav", 5, {"shares": 10**18}))
    assert expected_by(encode_outcome(Act([Action("a")], expect))) == expect
    assert expected_by(encode_outcome(Noop("quiet"))) == ()
    assert expected_by(None) == ()
    with pytest.raises(ProtocolError):
        expected_by('{"kind":"act","actions":[{"name":"a"}],"expect":[{"kind":"future"}]}')

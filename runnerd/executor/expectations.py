"""Whether a transaction does what its Decision expects of it, before it is signed and after the fact. Pure.

A breach names the expectation, the value and the bound. After the fact only evidence that can be put down to this one
transaction accuses; where it cannot, the verdict is "not proven" and says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, assert_never

from protocol.actions import Act
from protocol.codec import decode_outcome
from protocol.expectations import BalanceChange, Expectation, SharePrice
from runnerd.chain.effects import Effects, Reading

BPS = 10_000
"""Hundredths of a percent in a whole."""


class Result(StrEnum):
    """What became of a Decision's expectations."""

    MET = "met"
    DENIED = "denied"
    BREACHED = "breached"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Verdict:
    """After the fact. `text` is for the record: empty when all is met. `is_evidence_missing`: ask again later."""

    result: Result
    text: str = ""
    is_evidence_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one expectation after the fact.

    `reading` is over the whole block, at its parent and at itself. `exact` is the change by this transaction alone: by
    a token's own logs, or by a trace. `others` names what else could have touched the vault in the block, "" if nothing
    that can be seen.
    """

    reading: Reading
    exact: int | None = None
    others: str = ""


Finding: TypeAlias = tuple[Result, str]


def expected_by(decision: str | None) -> tuple[Expectation, ...]:
    """What a stored Decision expects: its outcome, as JSON. Raises ProtocolError when it is none by today's limits.

    One that expects nothing does not have the word: a start with a thousand intents in flight decodes none of them.
    """
    if decision is None or '"expect"' not in decision:
        return ()
    outcome = decode_outcome(decision)
    return outcome.expect if isinstance(outcome, Act) else ()


def check(expectations: Sequence[Expectation], effects: Effects) -> str | None:
    """The first expectation that `effects` break, in words; None if they meet all."""
    for number, (expectation, reading) in enumerate(zip(expectations, effects.readings, strict=True), 1):
        broken = find_breach(expectation, reading)
        if broken is not None:
            return f"expectation {number}: {broken}"
    return None


def find_breach(expectation: Expectation, reading: Reading) -> str | None:
    """Why these two numbers break it; None if they do not. A number that could not be read breaks it."""
    for when, number in (("before", reading.before), ("after", reading.after)):
        if number is None:
            return f"{subject(expectation)} cannot be read {when} the transaction"
    assert reading.before is not None  # both were looked at above
    assert reading.after is not None
    match expectation:
        case BalanceChange():
            return _change_breach(expectation, reading.after - reading.before)
        case SharePrice():
            return _price_breach(expectation, reading.before, reading.after)
        case _:
            assert_never(expectation)


def judge_receipt(expectations: Sequence[Expectation], evidence: Sequence[Evidence]) -> Verdict:
    """What a successful, final transaction did, by the evidence for each expectation."""
    findings = [_finding(*pair) for pair in zip(expectations, evidence, strict=True)]
    texts = [f"expectation {n} {text}" for n, (result, text) in enumerate(findings, 1) if result is not Result.MET]
    results = {result for result, _ in findings}
    worst = next((bad for bad in (Result.BREACHED, Result.UNPROVEN) if bad in results), Result.MET)
    is_missing = any(
        result is Result.UNPROVEN and None in (proof.reading.before, proof.reading.after)
        for (result, _), proof in zip(findings, evidence, strict=True)
    )
    return Verdict(worst, "; ".join(texts), is_evidence_missing=is_missing and worst is Result.UNPROVEN)


def subject(expectation: Expectation) -> str:
    """What is measured, in words."""
    match expectation:
        case BalanceChange(token=None):
            return "native balance"
        case BalanceChange(token=token):
            return f"balance of token {token}"
        case SharePrice(read=read):
            return f"read {read}"
        case _:
            assert_never(expectation)


def _finding(expectation: Expectation, evidence: Evidence) -> Finding:
    if isinstance(expectation, SharePrice):
        return _over_the_block(expectation, evidence)
    if evidence.exact is None:
        found = _over_the_block(expectation, evidence)
        if found[0] is Result.UNPROVEN or not evidence.others:
            return found
        seen = find_breach(expectation, evidence.reading) or "met"
        return Result.UNPROVEN, f"is not proven: {seen} over the whole block, with {evidence.others}"
    broken = _change_breach(expectation, evidence.exact)
    if broken is None:
        return Result.MET, ""
    if expectation.token is not None and find_breach(expectation, evidence.reading) is None:
        # Some tokens change balances without a Transfer (WETH's deposit): their logs alone must not accuse.
        return Result.UNPROVEN, f"is not proven: {broken} by the token's logs, but is met by its balances"
    return Result.BREACHED, f"is broken: {broken}"


def _over_the_block(expectation: Expectation, evidence: Evidence) -> Finding:
    broken = find_breach(expectation, evidence.reading)
    if broken is None:
        return Result.MET, ""
    if None in (evidence.reading.before, evidence.reading.after):
        return Result.UNPROVEN, f"is not proven: {broken}"
    return Result.BREACHED, f"is broken: {broken}"


def _change_breach(expectation: BalanceChange, change: int) -> str | None:
    if expectation.min is not None and change < expectation.min:
        return f"{subject(expectation)} changes by {change}, below min = {expectation.min}"
    if expectation.max is not None and change > expectation.max:
        return f"{subject(expectation)} changes by {change}, above max = {expectation.max}"
    return None


def _price_breach(expectation: SharePrice, before: int, after: int) -> str | None:
    moved, base = abs(after - before), abs(before)
    if moved * BPS <= expectation.max_change_bps * base:
        return None
    by = f"by {-(-moved * BPS // base)} bps" if base else "away from 0"
    bound = f"above max_change_bps = {expectation.max_change_bps}"
    return f"{subject(expectation)} moves from {before} to {after}, {by}, {bound}"

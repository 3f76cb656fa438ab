"""One thing that was examined: how it is, what that costs, what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """`BAD` keeps something from working or from being safe, and makes the exit code 1. `WEAK` can be lived with."""

    GOOD = "✓"
    WEAK = "!"
    BAD = "✗"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`subject` is a word or two, `text` what was found. `cost` and `remedy` are for what is not good."""

    mark: Mark
    subject: str
    text: str
    cost: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Findings about one part of the house."""

    title: str
    findings: tuple[Finding, ...]


def good(subject: str, text: str) -> Finding:
    """As it should be."""
    return Finding(mark=Mark.GOOD, subject=subject, text=text)


def weak(subject: str, text: str, *, cost: str = "", remedy: str = "") -> Finding:
    """It works, at a cost."""
    return Finding(mark=Mark.WEAK, subject=subject, text=text, cost=cost, remedy=remedy)


def bad(subject: str, text: str, *, cost: str = "", remedy: str = "") -> Finding:
    """It does not work, or is not safe."""
    return Finding(mark=Mark.BAD, subject=subject, text=text, cost=cost, remedy=remedy)

"""One thing that is wrong in the configuration: where, and what is allowed there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """`key` is the dotted path in the file ("" for the file itself); `text` says what is wrong and what is allowed.

    `missing`: the dotted table that is named and not there, if that is what is wrong.
    """

    key: str
    text: str
    missing: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text

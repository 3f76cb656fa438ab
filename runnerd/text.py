"""Text that somebody else chose, made safe for a terminal and a log: one rule for all of the supervisor's side."""

from typing import Final

_STAND_INS: Final = {"\n": "⏎", "\t": " ", "\r": ""}


def printable(text: str) -> str:
    """`text` on one line: line breaks become ⏎, tabs spaces, anything else that does not print becomes ·.

    Plugins, contracts and nodes choose parts of what is shown: no escape sequence, line break or writing direction of
    theirs may reach a terminal.
    """
    return "".join(c if c.isprintable() else _STAND_INS.get(c, "·") for c in text)

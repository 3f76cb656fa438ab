"""How far a plugin has come on a topic of an outbox: what is kept in `producer_positions`, and whether it still fits.

Pure. `id` is that of the last event that was seen. It means something in the outbox of that name only, and only as
long as nobody has put an older copy of it in its place.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

NAME: Final = "outbox"
"""Of the producer, and of its positions."""


class Position(Struct, frozen=True, kw_only=True):
    """After which event to go on. `at` is when that one was created, if one was seen."""

    outbox: str
    id: int
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is there: the outbox's name, the last id that was given, and the last that is still in the table."""

    outbox: str
    given: int
    newest: int


def key_of(plugin: str, topic: str) -> str:
    """All triggers of a plugin on one topic share a position: one whose `where` is changed goes on where it was."""
    return f"{plugin} {topic}"


def plugin_of(key: str) -> str:
    """A plugin's name has no spaces; a topic may."""
    return key.partition(" ")[0]


def topic_of(key: str) -> str:
    """See `plugin_of`."""
    return key.partition(" ")[2]


def to_text(position: Position) -> str:
    """For the ledger."""
    return msgspec.json.encode(position).decode()


def from_text(text: str) -> Position:
    """Raises ValueError."""
    return msgspec.json.decode(text, type=Position)


def end_of(head: Head) -> Position:
    """Where one begins that has followed nothing: it gets what is announced from now on."""
    return Position(outbox=head.outbox, id=head.newest)


def setback(position: Position, head: Head, created_at: datetime | None) -> str | None:
    """Why events may be missing: the outbox was set back to before `position`, as a restored backup is.

    `created_at` is that of the event with the position's id, None if it is not in the table (any more).
    """
    if position.outbox != head.outbox:
        return None
    if position.id > head.given:
        return f"event {position.id} was seen, but the outbox has given no id above {head.given}"
    if position.at is not None and created_at is not None and created_at != position.at:
        return f"event {position.id} is another one than the event {position.id} that was seen"
    return None

"""What all triggers have in common, and the checks they share. The kinds are in `triggers` and `chain_triggers`."""

from typing import Literal, TypeAlias, get_args

from msgspec import Struct

from protocol.limits import INT_MAX, INT_MIN, MAX_TEXT_LENGTH
from protocol.names import NAME_RULE, Name, is_name
from protocol.values import is_unicode

DEFAULT_JOB = "decide"
Overlap: TypeAlias = Literal["parallel", "skip", "queue", "coalesce"]
"""What becomes of a call while an older one of the same trigger is not decided yet: it runs beside it; it is not made;
it waits for it; or it waits, and of those that wait only the newest is decided.
"""


class TriggerBase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all triggers have: the job of the plugin that is called, and what becomes of calls that overlap."""

    job: Name = DEFAULT_JOB
    overlap: Overlap = "parallel"

    def __post_init__(self) -> None:
        if not is_name(self.job):
            raise ValueError(f"the job of a trigger must be {NAME_RULE}")
        check_choice("overlap", self.overlap, Overlap)


def check_where(where: object) -> None:
    """Raise ValueError if it is not a table of short texts, integers and booleans by name."""
    for name, value in dict(where).items():  # type: ignore[call-overload]  # decoded, or an author's mapping
        check_text("a name in where", name, MAX_TEXT_LENGTH)
        if isinstance(value, str):
            if len(value) > MAX_TEXT_LENGTH or not is_unicode(value):
                raise ValueError(f"{name} must be text of at most {MAX_TEXT_LENGTH} characters")
        elif not isinstance(value, bool | int) or not INT_MIN <= value <= INT_MAX:
            raise ValueError(f"{name} must be text, an integer or a boolean")


def check_choice(field: str, value: object, allowed: object) -> None:
    if value not in get_args(allowed):
        raise ValueError(f"{field} must be one of {', '.join(map(str, get_args(allowed)))}")


def check_text(field: str, text: object, limit: int) -> None:
    """Raise ValueError if it is not text of 1 to `limit` characters."""
    if not isinstance(text, str) or not 1 <= len(text) <= limit or not is_unicode(text):
        raise ValueError(f"{field} must be text of 1 to {limit} characters")

"""When to call a plugin, and what to read before. Declared by the class or, overriding it, by the configuration.

Data only. Who fires, and how time zones and cursors work, is `runnerd.triggers`.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, TypeAlias

from msgspec import Meta, Struct, structs

from protocol.actions import NAME_RULE, Name, checked_arguments, is_name
from protocol.limits import MAX_ARGUMENTS, MAX_EXPRESSION_LENGTH, MAX_NAME_LENGTH, MAX_TOPIC_BYTES
from protocol.values import PlainValue, Value, is_unicode

MIN_INTERVAL_S = Decimal("0.05")
MAX_INTERVAL_S = Decimal(366 * 86_400)
INTERVAL_RULE = f"every_seconds must be {MIN_INTERVAL_S} to {MAX_INTERVAL_S}, in whole milliseconds"

_MILLISECOND = Decimal("0.001")


class Cron(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cron", tag_field="kind"):
    """Call at fixed times: every `every_seconds` (slots aligned to the Unix epoch), or by a cron `expression`.

    An expression has five fields, or six with the seconds first, read in `timezone` (an IANA name).
    """

    every_seconds: Decimal | None = None
    expression: Annotated[str, Meta(min_length=1, max_length=MAX_EXPRESSION_LENGTH)] | None = None
    timezone: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)] = "UTC"

    if TYPE_CHECKING:  # authors may give a number; it becomes exact

        def __init__(
            self,
            *,
            every_seconds: Decimal | float | str | None = None,
            expression: str | None = None,
            timezone: str = "UTC",
        ) -> None: ...

    def __post_init__(self) -> None:
        if (self.every_seconds is None) == (self.expression is None):
            raise ValueError("a cron trigger needs either every_seconds or expression")
        if self.every_seconds is not None:
            structs.force_setattr(self, "every_seconds", _interval(self.every_seconds))
        if self.expression is not None:
            _check_text("expression", self.expression, MAX_EXPRESSION_LENGTH)
        _check_text("timezone", self.timezone, MAX_NAME_LENGTH)


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="event", tag_field="kind"):
    """Call for each PostgreSQL notification on `topic` (the channel of LISTEN and pg_notify)."""

    topic: Annotated[str, Meta(min_length=1, max_length=MAX_TOPIC_BYTES)]

    def __post_init__(self) -> None:
        _check_text("topic", self.topic, MAX_TOPIC_BYTES)
        if "\x00" in self.topic or len(self.topic.encode()) > MAX_TOPIC_BYTES:
            raise ValueError(f"topic must be at most {MAX_TOPIC_BYTES} bytes of UTF-8, without NUL")


Trigger: TypeAlias = Cron | Event


class Read(Struct, frozen=True, forbid_unknown_fields=True):
    """One named read of the vault's catalogue, with arguments if it takes any. `key` names it in `ctx.reads`."""

    name: Name
    args: Annotated[dict[str, Value], Meta(max_length=MAX_ARGUMENTS)] = {}
    alias: Name | None = None

    if TYPE_CHECKING:  # as for Action

        def __init__(self, name: str, args: Mapping[str, PlainValue] = {}, alias: str | None = None) -> None: ...

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ValueError(f"the name of a read must be {NAME_RULE}")
        if self.alias is not None and not is_name(self.alias):
            raise ValueError(f"the alias of a read must be {NAME_RULE}")
        structs.force_setattr(self, "args", checked_arguments(self.args))

    @property
    def key(self) -> str:
        return self.alias or self.name


def _interval(every_seconds: object) -> Decimal:
    """The exact interval, in its shortest writing: plugins give integers, floats or text, the wire gives text."""
    try:
        interval = Decimal(str(every_seconds))
        is_allowed = MIN_INTERVAL_S <= interval <= MAX_INTERVAL_S and interval == interval.quantize(_MILLISECOND)
        shortest = interval.quantize(_MILLISECOND).normalize() if is_allowed else None
    except ArithmeticError:  # not a number, or NaN: hostile text must not raise anything else (`Decimal` does)
        raise ValueError(INTERVAL_RULE) from None
    if shortest is None:
        raise ValueError(INTERVAL_RULE)
    return shortest if shortest % 1 else Decimal(int(shortest))


def _check_text(field: str, text: object, limit: int) -> None:
    if not isinstance(text, str) or not 1 <= len(text) <= limit or not is_unicode(text):
        raise ValueError(f"{field} must be text of 1 to {limit} characters")

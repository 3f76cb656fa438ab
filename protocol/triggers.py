"""When to call a plugin, and what to read before. Declared by the class or, overriding it, by the configuration.

Data only. Who fires, and how time zones and cursors work, is `runnerd.triggers`.
"""

from decimal import Decimal
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, structs

from protocol.actions import Name
from protocol.limits import MAX_ARGUMENTS, MAX_TOPIC_LENGTH
from protocol.values import Value, to_value

MIN_INTERVAL_S = Decimal("0.05")
MAX_INTERVAL_S = Decimal(366 * 86_400)


class Cron(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cron", tag_field="kind"):
    """Call at fixed times: every `every_seconds` (slots aligned to the Unix epoch), or by a cron `expression`.

    An expression has five fields, or six with the seconds first, read in `timezone` (an IANA name).
    """

    every_seconds: Decimal | None = None
    expression: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    timezone: Annotated[str, Meta(min_length=1, max_length=64)] = "UTC"

    def __post_init__(self) -> None:
        if (self.every_seconds is None) == (self.expression is None):
            raise ValueError("a cron trigger needs either every_seconds or expression")
        if self.every_seconds is not None:
            interval = Decimal(str(self.every_seconds))
            if not MIN_INTERVAL_S <= interval <= MAX_INTERVAL_S or interval * 1000 % 1:
                raise ValueError(f"every_seconds must be {MIN_INTERVAL_S} to {MAX_INTERVAL_S}, in whole milliseconds")
            structs.force_setattr(self, "every_seconds", interval)


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="event", tag_field="kind"):
    """Call for each PostgreSQL notification on `topic` (the channel of LISTEN and pg_notify)."""

    topic: Annotated[str, Meta(min_length=1, max_length=MAX_TOPIC_LENGTH, pattern=r"^[^\x00]+\Z")]


Trigger: TypeAlias = Cron | Event


class Read(Struct, frozen=True, forbid_unknown_fields=True):
    """One named read of the vault's catalogue, with arguments if it takes any. `key` names it in `ctx.reads`."""

    name: Name
    args: Annotated[dict[str, Value], Meta(max_length=MAX_ARGUMENTS)] = {}
    alias: Name | None = None

    def __post_init__(self) -> None:
        structs.force_setattr(self, "args", {name: to_value(value) for name, value in self.args.items()})

    @property
    def key(self) -> str:
        return self.alias or self.name

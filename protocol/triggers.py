"""When to call a plugin, and what to read before. Declared by the class or, overriding it, by the configuration.

Data only. Who fires, and how time zones, cursors and reorgs work, is `runnerd.triggers`.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from msgspec import Meta, field, structs

from protocol.chain_triggers import Block, Log, Metric
from protocol.interval import MILLISECOND, exact_interval
from protocol.limits import MAX_ARGUMENTS, MAX_EXPRESSION_LENGTH, MAX_NAME_LENGTH, MAX_TOPIC_BYTES
from protocol.names import NAME_RULE, Name, is_name
from protocol.read import Read
from protocol.trigger import DEFAULT_JOB, Overlap, TriggerBase, check_choice, check_text, check_where

__all__ = ["Block", "Cron", "Custom", "Event", "Log", "Metric", "Read", "Trigger", "Webhook"]

Misfire: TypeAlias = Literal["skip", "once", "all"]
"""What becomes of slots that passed while nobody could fire them: they are counted; the last one is made up for; or all
are, up to `MAX_MADE_UP`.
"""

MAX_MADE_UP = 100
"""The newest ones of more; the others are counted."""

MAX_JITTER_S = Decimal(86_400)
JITTER_RULE = f"jitter_s must be 0 to {MAX_JITTER_S}, in whole milliseconds"


class Cron(TriggerBase, frozen=True, tag="cron"):
    """Call at fixed times: every `every_seconds` (slots aligned to the Unix epoch), or by a cron `expression`.

    An expression has five fields, or six with the seconds first, read in `timezone` (an IANA name). Each call comes up
    to `jitter_s` later, by another part of it each time, and always before the next slot.
    """

    every_seconds: Decimal | None = None
    expression: Annotated[str, Meta(min_length=1, max_length=MAX_EXPRESSION_LENGTH)] | None = None
    timezone: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)] = "UTC"
    jitter_s: Decimal = Decimal(0)
    misfire: Misfire = "skip"

    if TYPE_CHECKING:  # authors may give a number; it becomes exact

        def __init__(
            self,
            *,
            every_seconds: Decimal | float | str | None = None,
            expression: str | None = None,
            timezone: str = "UTC",
            jitter_s: Decimal | float | str = 0,
            misfire: Misfire = "skip",
            job: str = DEFAULT_JOB,
            overlap: Overlap = "parallel",
        ) -> None: ...

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.every_seconds is None) == (self.expression is None):
            raise ValueError("a cron trigger needs either every_seconds or expression")
        if self.every_seconds is not None:
            structs.force_setattr(self, "every_seconds", exact_interval(self.every_seconds))
        if self.expression is not None:
            check_text("expression", self.expression, MAX_EXPRESSION_LENGTH)
        check_text("timezone", self.timezone, MAX_NAME_LENGTH)
        if self.every_seconds is not None and self.timezone != "UTC":
            raise ValueError("timezone is for an expression: slots of every_seconds are multiples since the Unix epoch")
        structs.force_setattr(self, "jitter_s", _jitter(self.jitter_s))
        check_choice("misfire", self.misfire, Misfire)


class Event(TriggerBase, frozen=True, tag="event"):
    """Call for what is announced on `topic`: each PostgreSQL notification (mode `notify`), or each row of the outbox
    (mode `outbox`), whose notifications are only its doorbell.

    `where`: only if the payload is a JSON object that has these values; a name with dots goes into objects.
    """

    topic: Annotated[str, Meta(min_length=1, max_length=MAX_TOPIC_BYTES)]
    mode: Literal["notify", "outbox"] = "notify"
    where: Annotated[dict[str, bool | int | str], Meta(max_length=MAX_ARGUMENTS)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("topic", self.topic, MAX_TOPIC_BYTES)
        if "\x00" in self.topic or len(self.topic.encode()) > MAX_TOPIC_BYTES:
            raise ValueError(f"topic must be at most {MAX_TOPIC_BYTES} bytes of UTF-8, without NUL")
        check_choice("mode", self.mode, Literal["notify", "outbox"])
        check_where(self.where)


class Webhook(TriggerBase, frozen=True, tag="webhook"):
    """Call for each request that a holder of a key for this plugin posts. Its body is the payload."""


class Custom(TriggerBase, frozen=True, tag="custom"):
    """Call for what a producer of a third party fires; `options` are for it to understand."""

    producer: Name
    options: Annotated[dict[str, bool | int | str], Meta(max_length=MAX_ARGUMENTS)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_name(self.producer):
            raise ValueError(f"the producer of a trigger must be {NAME_RULE}")
        check_where(self.options)


Trigger: TypeAlias = Cron | Event | Block | Log | Metric | Webhook | Custom


def _jitter(jitter_s: object) -> Decimal:
    try:
        jitter = Decimal(str(jitter_s))
        is_allowed = 0 <= jitter <= MAX_JITTER_S and jitter == jitter.quantize(MILLISECOND)
    except ArithmeticError:
        raise ValueError(JITTER_RULE) from None
    if not is_allowed:
        raise ValueError(JITTER_RULE)
    return jitter.quantize(MILLISECOND).normalize() if jitter % 1 else Decimal(int(jitter))

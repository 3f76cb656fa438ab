"""Intent: what a plugin may answer. An Action is asked for, never done, until the executor's policy says so.

Built by plugin authors, so these two take positional arguments and check themselves when they are made: the worker
and the supervisor apply the same rule, because decoding makes them too.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeGuard

from msgspec import Meta, Struct, structs

from protocol.limits import (
    INT_MAX,
    MAX_ACTIONS,
    MAX_ARGUMENTS,
    MAX_NAME_LENGTH,
    MAX_TEXT_LENGTH,
    MAX_VALUES_PER_ACTION,
)
from protocol.values import PlainValue, Value, count_values, is_unicode, to_value

NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.\-]*\Z"
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=NAME_PATTERN)]

_NAME = re.compile(NAME_PATTERN)
_SHOWN_CATEGORIES = "LNPS"  # letters, numbers, punctuation, symbols
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols by category, but nothing is drawn

NAME_RULE = f"1 to {MAX_NAME_LENGTH} letters, digits or _ . - (ASCII), the first one a letter or _"


def is_name(text: object) -> TypeGuard[str]:
    """Whether `text` may name a plugin, an action, a read or an argument."""
    return isinstance(text, str) and len(text) <= MAX_NAME_LENGTH and _NAME.match(text) is not None


def is_blank(text: str) -> bool:
    """Whether nobody could see anything of `text`: spaces, controls, zero-width and combining characters only."""
    return not any(unicodedata.category(c)[0] in _SHOWN_CATEGORIES and c not in _BLANKS for c in text)


def checked_arguments(args: object) -> dict[str, Value]:
    """Arguments of an action or a read, by name, in wire form. Raises ValueError."""
    if not isinstance(args, Mapping) or len(args) > MAX_ARGUMENTS:
        raise ValueError(f"arguments must be a table of at most {MAX_ARGUMENTS} names")
    for name in args:
        if not is_name(name):
            raise ValueError(f"an argument name must be {NAME_RULE}")
    if count_values(args.values(), MAX_VALUES_PER_ACTION) > MAX_VALUES_PER_ACTION:
        raise ValueError(f"arguments hold more than {MAX_VALUES_PER_ACTION} values")
    return {str(name): to_value(value) for name, value in args.items()}


class Action(Struct, frozen=True, forbid_unknown_fields=True):
    """Declarative intent: `name` of an action in the vault's catalogue, its arguments by name, wei to send along."""

    name: Name
    args: dict[str, Value] = {}
    value_wei: int = 0

    if TYPE_CHECKING:  # authors may give more than what travels: bytes and tuples as well

        def __init__(self, name: str, args: Mapping[str, PlainValue] = {}, value_wei: int = 0) -> None: ...

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ValueError(f"an action name must be {NAME_RULE}")
        # Plain types, and a table of its own: what was checked is what travels.
        structs.force_setattr(self, "name", str(self.name))
        structs.force_setattr(self, "args", checked_arguments(self.args))
        structs.force_setattr(self, "value_wei", _wei(self.value_wei))


class Noop(Struct, frozen=True, forbid_unknown_fields=True, tag="noop", tag_field="kind"):
    """No action this time, and why. The reason is recorded and shown to the operator, so it must say something."""

    reason: Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]

    def __post_init__(self) -> None:
        structs.force_setattr(self, "reason", _reason(self.reason))


class Act(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="act", tag_field="kind"):
    """The Actions of one Decision, in order: all of them happen in one transaction, or none."""

    actions: Annotated[tuple[Action, ...], Meta(min_length=1, max_length=MAX_ACTIONS)]

    def __post_init__(self) -> None:
        if not self.actions:
            raise ValueError("an empty list of Actions says nothing: return a Noop with a reason")
        if len(self.actions) > MAX_ACTIONS:
            raise ValueError(f"at most {MAX_ACTIONS} Actions per Decision")


Outcome: TypeAlias = Act | Noop


def _wei(amount: object) -> int:
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= INT_MAX:
        raise ValueError("value_wei must be an integer amount of wei, from 0 to 2**256 - 1")
    return int(amount)


def _reason(reason: object) -> str:
    if not isinstance(reason, str) or is_blank(reason):
        raise ValueError("a Noop needs a reason that is not blank")
    if len(reason) > MAX_TEXT_LENGTH:
        raise ValueError(f"a Noop's reason is at most {MAX_TEXT_LENGTH} characters")
    if not is_unicode(reason):
        raise ValueError("a Noop's reason holds a lone surrogate and cannot be encoded as UTF-8")
    return str(reason)

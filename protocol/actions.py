"""Intent: what a plugin may answer. An Action is asked for, never done, until the executor's policy says so.

Built by plugin authors, so these two take positional arguments and check themselves when they are made: the worker
and the supervisor apply the same rule, because decoding makes them too.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias, get_args

from msgspec import Meta, Struct, structs

from protocol.expectations import Expectation
from protocol.limits import INT_MAX, MAX_ACTIONS, MAX_EXPECTATIONS, MAX_TEXT_LENGTH
from protocol.names import NAME_PATTERN, NAME_RULE, Name, checked_arguments, is_name
from protocol.values import PlainValue, Value, is_unicode

__all__ = [
    "NAME_PATTERN",
    "NAME_RULE",
    "Act",
    "Action",
    "Name",
    "Noop",
    "Outcome",
    "checked_arguments",
    "is_blank",
    "is_name",
]

_SHOWN_CATEGORIES = "LNPS"  # letters, numbers, punctuation, symbols
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols by category, but nothing is drawn


def is_blank(text: str) -> bool:
    """Whether nobody could see anything of `text`: spaces, controls, zero-width and combining characters only."""
    return not any(unicodedata.category(c)[0] in _SHOWN_CATEGORIES and c not in _BLANKS for c in text)


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


class Act(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag="act", tag_field="kind"):
    """The Actions of one Decision, in order: all of them happen in one transaction, or none.

    `expect` bounds what they may do to the vault. What breaks a bound in the simulation is not signed.
    """

    actions: Annotated[tuple[Action, ...], Meta(min_length=1, max_length=MAX_ACTIONS)]
    expect: Annotated[tuple[Expectation, ...], Meta(max_length=MAX_EXPECTATIONS)] = ()

    if TYPE_CHECKING:  # authors may give lists

        def __init__(self, actions: Sequence[Action], expect: Sequence[Expectation] = ()) -> None: ...

    def __post_init__(self) -> None:
        structs.force_setattr(self, "actions", _members(self.actions, (Action,), "actions", "Actions"))
        structs.force_setattr(
            self,
            "expect",
            _members(self.expect, get_args(Expectation), "expect", "BalanceChange(...), SharePrice(...)"),
        )
        if not self.actions:
            raise ValueError("an empty list of Actions says nothing: return a Noop with a reason")
        if len(self.actions) > MAX_ACTIONS:
            raise ValueError(f"at most {MAX_ACTIONS} Actions per Decision")
        if len(self.expect) > MAX_EXPECTATIONS:
            raise ValueError(f"at most {MAX_EXPECTATIONS} expectations per Decision")


Outcome: TypeAlias = Act | Noop


def _members(given: object, kinds: tuple[type, ...], name: str, wanted: str) -> tuple[object, ...]:
    items = tuple(given) if isinstance(given, list | tuple) else None
    if items is None:
        raise ValueError(f"{name} must be a list of {wanted}")
    odd = next((type(item).__name__ for item in items if not isinstance(item, kinds)), None)
    if odd is not None:
        raise ValueError(f"{name} holds a {odd}; only {wanted} may be in it")
    return items


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

"""Intent: what a plugin may answer. An Action is asked for, never done, until the executor's policy says so.

Built by plugin authors, so these two take positional arguments and check themselves when they are made: the worker
and the supervisor apply the same rule, because decoding makes them too.
"""

import re
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, structs

from protocol.limits import INT_MAX, MAX_ACTIONS, MAX_ARGUMENTS, MAX_NAME_LENGTH, MAX_TEXT_LENGTH
from protocol.values import Value, to_value

NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.\-]*\Z"
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=NAME_PATTERN)]

_NAME = re.compile(NAME_PATTERN)


class Action(Struct, frozen=True, forbid_unknown_fields=True):
    """Declarative intent: `name` of an action in the vault's catalogue, its arguments by name, wei to send along."""

    name: Name
    args: dict[str, Value] = {}
    value_wei: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or len(self.name) > MAX_NAME_LENGTH or not _NAME.match(self.name):
            raise ValueError(f"action name must be 1 to {MAX_NAME_LENGTH} letters, digits or _ . -")
        if not isinstance(self.args, dict) or len(self.args) > MAX_ARGUMENTS:
            raise ValueError(f"action arguments must be a table of at most {MAX_ARGUMENTS} names")
        for name in self.args:
            if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH or not _NAME.match(name):
                raise ValueError("an argument name must be letters, digits or _ . -")
        if isinstance(self.value_wei, bool) or not isinstance(self.value_wei, int):
            raise ValueError("value_wei must be an integer amount of wei")
        if not 0 <= self.value_wei <= INT_MAX:
            raise ValueError("value_wei must be between 0 and 2**256 - 1")
        structs.force_setattr(self, "args", {name: to_value(value) for name, value in self.args.items()})


class Noop(Struct, frozen=True, forbid_unknown_fields=True, tag="noop", tag_field="kind"):
    """No action this time, and why. The reason is recorded and shown to the operator, so it must say something."""

    reason: Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str) or not self.reason.strip():
            raise ValueError("a Noop needs a reason that is not blank")
        if len(self.reason) > MAX_TEXT_LENGTH:
            raise ValueError(f"a Noop's reason is at most {MAX_TEXT_LENGTH} characters")


class Act(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="act", tag_field="kind"):
    """The Actions of one Decision, in order: all of them happen in one transaction, or none."""

    actions: Annotated[tuple[Action, ...], Meta(min_length=1, max_length=MAX_ACTIONS)]

    def __post_init__(self) -> None:
        if not self.actions:
            raise ValueError("an empty list of Actions says nothing: return a Noop with a reason")
        if len(self.actions) > MAX_ACTIONS:
            raise ValueError(f"at most {MAX_ACTIONS} Actions per Decision")


Outcome: TypeAlias = Act | Noop

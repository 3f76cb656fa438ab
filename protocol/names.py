"""Names (of plugins, actions, reads, arguments) and tables of arguments by name: what Actions and reads are made of."""

import re
from collections.abc import Mapping
from typing import Annotated, TypeAlias, TypeGuard

from msgspec import Meta

from protocol.limits import MAX_ARGUMENTS, MAX_NAME_LENGTH, MAX_VALUES_PER_ACTION
from protocol.values import Value, count_values, to_value

NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.\-]*\Z"
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=NAME_PATTERN)]

_NAME = re.compile(NAME_PATTERN)

NAME_RULE = f"1 to {MAX_NAME_LENGTH} letters, digits or _ . - (ASCII), the first one a letter or _"


def is_name(text: object) -> TypeGuard[str]:
    """Whether `text` may name a plugin, an action, a read or an argument."""
    return isinstance(text, str) and len(text) <= MAX_NAME_LENGTH and _NAME.match(text) is not None


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

"""The filter `where` of event triggers: pure functions of a payload. A payload that is not JSON matches nothing.

Used by the producers of both modes. Values are compared by their kind: `true` is no 1, and "1" is no 1.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

NOT_JSON: Final = object()
"""What `read` makes of a payload that has no fields to look at."""


def read(payload: str) -> object:
    """The value of a JSON text, once for all triggers that look at it; NOT_JSON if it is none."""
    try:
        return msgspec.json.decode(payload)
    except (ValueError, RecursionError):  # nested too deep for us: whoever announces chooses the text
        return NOT_JSON


def matches(where: Mapping[str, bool | int | str], value: object) -> bool:
    """Whether `value`, as `read` gives it, is an object with all of these values.

    A name with dots goes into objects: `pool.id` is the field `id` of the object in `pool`. Without `where`, all match.
    """
    return all(_equal(wanted, _find(value, name)) for name, wanted in where.items())


def _find(value: object, name: str) -> object:
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return NOT_JSON
        value = value[part]
    return value


def _equal(wanted: bool | int | str, found: object) -> bool:
    """An integer may be written 25, 25.0 or 2.5e1."""
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(wanted, int):
        return isinstance(found, int | float) and found == wanted
    return isinstance(found, str) and found == wanted

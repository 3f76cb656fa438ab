"""The JSON that goes to a node and comes back. Requests may be built of tuples and mappings."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None
"""A decoded answer."""

JsonParam: TypeAlias = bool | int | float | str | Sequence["JsonParam"] | Mapping[str, "JsonParam"] | None
"""A parameter of a request. Never bytes: msgspec would write them as base64, a node wants `0x` hex."""

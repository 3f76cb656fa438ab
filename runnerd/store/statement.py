"""One SQL statement with its parameters, as a value. Modules of this package build them; `Store` runs them.

Every statement that goes through `Store.commit` is idempotent: after a lost connection it is simply run again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import LiteralString


@dataclass(frozen=True, slots=True)
class Statement:
    """`sql` with `%(name)s` placeholders."""

    sql: LiteralString
    parameters: Mapping[str, object] = field(default_factory=dict)


def storable(text: str) -> str:
    """`text` for a reader, without NUL, which PostgreSQL does not hold: plugins choose parts of what we record."""
    return text.replace("\0", "·")

"""What all tables of the configuration share: frozen, nothing unknown, and the bounds of usual numbers."""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400 * 366)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
MAX_BIGINT: Final = (1 << 63) - 1
Bigint: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_BIGINT)]
"""Fits a column of the ledger; EIP-2294 bounds chain ids about there too."""


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root of all tables: frozen, and a key that is not known is an error, never ignored."""

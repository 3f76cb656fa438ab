"""A read of the vault's catalogue that a plugin wants before each call."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct, structs

from protocol.limits import MAX_ARGUMENTS
from protocol.names import NAME_RULE, Name, checked_arguments, is_name
from protocol.values import PlainValue, Value


class Read(Struct, frozen=True, forbid_unknown_fields=True):
    """One named read of the vault's catalogue, with arguments if it takes any. `key` names it in `ctx.reads`."""

    name: Name
    args: Annotated[dict[str, Value], Meta(max_length=MAX_ARGUMENTS)] = {}
    alias: Name | None = None

    if TYPE_CHECKING:  # as for Action

        def __init__(self, name: str, args: Mapping[str, PlainValue] = {}, alias: str | None = None) -> None: ...

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ValueError(f"the name of a read must be {NAME_RULE}")
        if self.alias is not None and not is_name(self.alias):
            raise ValueError(f"the alias of a read must be {NAME_RULE}")
        structs.force_setattr(self, "args", checked_arguments(self.args))

    @property
    def key(self) -> str:
        return self.alias or self.name

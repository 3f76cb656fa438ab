"""What the owner grants in a catalogue: reads, actions and limits of their arguments.

Shapes alone, as in `runnerd.config.model`, which has the tables that these stand in.
"""

from typing import Annotated, ClassVar, Final, TypeAlias

from msgspec import Meta, Struct

from protocol.values import Value

Wei: TypeAlias = Annotated[int, Meta(ge=0)]
Magnitude: TypeAlias = Annotated[int, Meta(ge=0)]
Address: TypeAlias = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]


class _Grant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root of these tables, as `model` has one: a key that is not known is an error."""


class ReadGrant(_Grant, frozen=True):
    """`[vaults.V.reads.NAME]`: a view function that plugins of this vault may read."""

    contract: Address
    function: str
    errors: tuple[str, ...] = ()


class ArgumentLimit(_Grant, frozen=True):
    """`[vaults.V.actions.A.limits.ARGUMENT]`: what one argument may be. For a list, each of its items."""

    min: int | None = None
    max: int | None = None
    one_of: tuple[Value, ...] | None = None
    in_list: str | None = None
    """Only addresses of this `[address_lists]` entry."""
    not_in_list: str | None = None
    """No address of this `[address_lists]` entry."""
    max_per_call: Magnitude | None = None
    """The most that one Decision may ask for: all its Actions of this name, and all items of a list, together."""
    max_per_hour: Magnitude | None = None
    """The most in any 3,600 seconds, over all Decisions of all plugins of the vault."""
    max_per_day: Magnitude | None = None
    """The same in any 86,400 seconds. These three count magnitudes: a negative integer gives nothing back."""


class ActionGrant(_Grant, frozen=True):
    """`[vaults.V.actions.NAME]`: a function that plugins of this vault may ask for, within limits."""

    contract: Address
    function: str
    max_value_wei: Wei = 0
    limits: dict[str, ArgumentLimit] = {}
    reducing: bool = False
    """It only ever lowers a risk (closes, repays, withdraws to the vault): it passes in reducing mode too."""
    errors: tuple[str, ...] = ()
    """Custom errors of the contract, as fragments, so that a revert can be named in the record."""


WHY_PERMISSIONLESS: Final = (
    "write permissionless = true, your statement that everybody may call this function: a keeper has no rights, "
    "and an action that needs one belongs to a vault"
)


class KeeperAction(_Grant, frozen=True):
    """`[keepers.K.actions.NAME]`: a function that anybody may call, which plugins of this keeper may ask for.

    It never carries value.
    """

    contract: Address
    function: str
    permissionless: bool = False
    """Must be `true`, your statement that the contract lets every account call it. It is put to the test before each
    signature: what succeeds for the keeper and reverts for a stranger is refused."""
    limits: dict[str, ArgumentLimit] = {}
    reducing: bool = False
    """It only ever lowers a risk: it passes in reducing mode too."""
    errors: tuple[str, ...] = ()
    """Custom errors of the contract, as fragments, so that a revert can be named in the record."""

    max_value_wei: ClassVar[int] = 0

"""What a Decision expects of its own effects: bounds that the supervisor checks before it signs, and after the fact.

Built by plugin authors, as Actions are: they check themselves when they are made, on both sides of the wire. Which
tokens and reads may be named, the vault's owner says; that is the supervisor's part.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from msgspec import Meta, Struct, structs

from protocol.limits import INT_MAX, INT_MIN, MAX_CHANGE_BPS, MAX_VALUES_PER_EXPECTATION
from protocol.names import NAME_RULE, Name, checked_arguments, is_name
from protocol.values import PlainValue, Value, count_values

ADDRESS_PATTERN = r"^0x[0-9a-fA-F]{40}\Z"
Token: TypeAlias = Annotated[str, Meta(pattern=ADDRESS_PATTERN)]

_ADDRESS = re.compile(ADDRESS_PATTERN)


class BalanceChange(Struct, frozen=True, forbid_unknown_fields=True, tag="balance_change", tag_field="kind"):
    """How much the vault's balance may change: of the ERC-20 `token` (its address), or of native value if it is None.

    In the token's smallest units; less is negative. All that the transaction moves counts, `value_wei` too. At least
    one of the bounds is given; both belong to what is allowed.
    """

    token: Token | None = None
    min: int | None = None
    max: int | None = None

    def __post_init__(self) -> None:
        if self.token is not None:
            structs.force_setattr(self, "token", _token(self.token))
        for name in ("min", "max"):
            bound = getattr(self, name)
            if bound is not None:
                structs.force_setattr(self, name, _integer(bound, name))
        if self.min is None and self.max is None:
            raise ValueError("a BalanceChange needs min or max, or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min = {self.min} is above max = {self.max}: no balance change could meet it")


class SharePrice(Struct, frozen=True, forbid_unknown_fields=True, tag="share_price", tag_field="kind"):
    """A read of the catalogue that returns one integer moves by at most `max_change_bps`, up or down.

    A hundredth of a percent is one; measured against the value before the transaction.
    """

    read: Name
    max_change_bps: Annotated[int, Meta(ge=0, le=MAX_CHANGE_BPS)]
    args: dict[str, Value] = {}

    if TYPE_CHECKING:  # authors may give more than what travels: bytes and tuples as well

        def __init__(self, read: str, max_change_bps: int, args: Mapping[str, PlainValue] = {}) -> None: ...

    def __post_init__(self) -> None:
        if not is_name(self.read):
            raise ValueError(f"a read's name must be {NAME_RULE}")
        args = checked_arguments(self.args)
        if count_values(args.values(), MAX_VALUES_PER_EXPECTATION) > MAX_VALUES_PER_EXPECTATION:
            raise ValueError(f"arguments of an expectation hold more than {MAX_VALUES_PER_EXPECTATION} values")
        structs.force_setattr(self, "read", str(self.read))
        structs.force_setattr(self, "max_change_bps", _bps(self.max_change_bps))
        structs.force_setattr(self, "args", args)


Expectation: TypeAlias = BalanceChange | SharePrice


def MinimumOut(amount: int, token: str | None = None) -> BalanceChange:  # noqa: N802  # stands beside the two above
    """At least `amount` more of `token` (None: native) in the vault: a BalanceChange with a lower bound."""
    return BalanceChange(token=token, min=amount)


def _token(token: object) -> str:
    if not isinstance(token, str) or _ADDRESS.match(token) is None:
        raise ValueError("a token is an address, 0x and 40 hex digits; None is the native balance")
    return str(token)


def _bps(bps: object) -> int:
    if isinstance(bps, bool) or not isinstance(bps, int) or not 0 <= bps <= MAX_CHANGE_BPS:
        raise ValueError(f"max_change_bps must be an integer from 0 to {MAX_CHANGE_BPS}")
    return int(bps)


def _integer(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not INT_MIN <= value <= INT_MAX:
        raise ValueError(f"{name} must be an integer from -2**255 to 2**256 - 1, in the token's smallest units")
    return int(value)

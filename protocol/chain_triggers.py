"""Triggers that a chain fires: its blocks, the logs of its contracts, and reads that cross a bound.

Without `chain` it is that of the plugin's vault. `confirmations`: so many blocks must lie on top first; a reorg beyond
them takes back what was delivered, with a call that says so, and delivers what came in its place.
"""

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, TypeAlias

from msgspec import Meta, field, structs

from protocol.interval import exact_interval
from protocol.limits import INT_MAX, INT_MIN, MAX_ARGUMENTS, MAX_CHANGE_BPS, MAX_TEXT_LENGTH
from protocol.read import Read
from protocol.trigger import DEFAULT_JOB, Overlap, TriggerBase, check_text, check_where

MAX_CONFIRMATIONS = 10_000
MAX_EVERY = 1_000_000
MAX_ADDRESSES = 64

ChainName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Confirmations: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_CONFIRMATIONS)]
Every: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_EVERY)]
ADDRESS_PATTERN = r"^0x[0-9a-fA-F]{40}\Z"
Address: TypeAlias = Annotated[str, Meta(pattern=ADDRESS_PATTERN)]

_ADDRESS = re.compile(ADDRESS_PATTERN)


class Block(TriggerBase, frozen=True, tag="block"):
    """Call for each block whose number is a multiple of `every`."""

    chain: ChainName | None = None
    every: Every = 1
    confirmations: Confirmations = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_chain(self.chain)
        check_range("every", self.every, 1, MAX_EVERY)
        check_range("confirmations", self.confirmations, 0, MAX_CONFIRMATIONS)


class Log(TriggerBase, frozen=True, tag="log"):
    """Call for each log of `event` (a fragment, `event Trade(address indexed by, uint256 size)`) that one of the
    addresses wrote. `where`: only with these values of its arguments.
    """

    addresses: Annotated[tuple[Address, ...], Meta(min_length=1, max_length=MAX_ADDRESSES)]
    event: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_LENGTH)]
    where: Annotated[dict[str, bool | int | str], Meta(max_length=MAX_ARGUMENTS)] = field(default_factory=dict)
    chain: ChainName | None = None
    confirmations: Confirmations = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        structs.force_setattr(self, "addresses", _addresses(self.addresses))
        check_text("event", self.event, MAX_TEXT_LENGTH)
        check_where(self.where)
        _check_chain(self.chain)
        check_range("confirmations", self.confirmations, 0, MAX_CONFIRMATIONS)


class Metric(TriggerBase, frozen=True, tag="metric"):
    """Call when an integer read of the vault's catalogue goes above or below a bound, or changes by so much since the
    last call. It is taken every `every_blocks` blocks, or every `every_seconds`, whatever the chain does. After a call
    for a bound, the value must come back by `hysteresis` before it can call again.
    """

    read: Read
    above: int | None = None
    below: int | None = None
    change_bps: Annotated[int, Meta(ge=1, le=MAX_CHANGE_BPS)] | None = None
    hysteresis: int = 0
    every_blocks: Every = 1
    every_seconds: Decimal | None = None

    if TYPE_CHECKING:  # authors may give a number; it becomes exact

        def __init__(
            self,
            *,
            read: Read,
            above: int | None = None,
            below: int | None = None,
            change_bps: int | None = None,
            hysteresis: int = 0,
            every_blocks: int = 1,
            every_seconds: Decimal | float | str | None = None,
            job: str = DEFAULT_JOB,
            overlap: Overlap = "parallel",
        ) -> None: ...

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.read, Read):
            raise ValueError("a metric trigger needs a read: Read(...)")  # noqa: TRY004  # as every rule of a struct
        wanted = [name for name in ("above", "below", "change_bps") if getattr(self, name) is not None]
        if len(wanted) != 1:
            raise ValueError("a metric trigger needs exactly one of above, below and change_bps")
        check_range(
            wanted[0],
            getattr(self, wanted[0]),
            1 if wanted == ["change_bps"] else INT_MIN,
            MAX_CHANGE_BPS if wanted == ["change_bps"] else INT_MAX,
        )
        check_range("hysteresis", self.hysteresis, 0, INT_MAX)
        if self.hysteresis and wanted == ["change_bps"]:
            raise ValueError(
                "hysteresis is for above and below: change_bps is measured from the value of the last call"
            )
        check_range("every_blocks", self.every_blocks, 1, MAX_EVERY)
        if self.every_seconds is not None:
            if self.every_blocks != 1:
                raise ValueError("a metric trigger has either every_blocks or every_seconds")
            structs.force_setattr(self, "every_seconds", exact_interval(self.every_seconds))


def check_range(field: str, value: object, least: int, most: int) -> None:
    """Raise ValueError if it is not an integer in these bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{field} must be an integer from {least} to {most}")


def _check_chain(chain: object) -> None:
    if chain is not None:
        check_text("chain", chain, 64)


def _addresses(addresses: object) -> tuple[str, ...]:
    items = (addresses,) if isinstance(addresses, str) else addresses
    if not isinstance(items, tuple | list) or not 1 <= len(items) <= MAX_ADDRESSES:
        raise ValueError(f"addresses must be 1 to {MAX_ADDRESSES} addresses")
    for address in items:
        if not isinstance(address, str) or _ADDRESS.match(address) is None:
            raise ValueError(f"{address!r} is not an address: 0x and 40 hexadecimal digits")
    return tuple(items)

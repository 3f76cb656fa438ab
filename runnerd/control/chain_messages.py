"""Messages about a chain: of `runnerctl adopt`, `cancel` and `fees`, and of nodes. Part of `control.messages`."""

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from runnerd.control.message import Message

HASH_PATTERN = "^0x[0-9a-fA-F]{64}$"


class Adopt(Message, frozen=True, tag="adopt"):
    """A transaction that is not ours was meant so: the vaults that it paused go on."""

    hash: Annotated[str, Meta(pattern=HASH_PATTERN)]


class Cancel(Message, frozen=True, tag="cancel"):
    """Let the intent of a call end without effect, if that is still possible."""

    call_id: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


class GetFees(Message, frozen=True, tag="fees"):
    """Where do the knobs of a chain stand?"""

    chain: str


class TurnFees(Message, frozen=True, tag="turn_fees"):
    """Turn knobs of a chain; None leaves one as it is. With `is_reset` all go back to the configuration first."""

    chain: str
    max_fee_per_gas_wei: int | None = None
    min_priority_fee_wei: int | None = None
    replace_after_blocks: int | None = None
    is_reset: bool = False


ChainRequest: TypeAlias = Adopt | Cancel | GetFees | TurnFees


class KnobStatus(Struct, frozen=True, kw_only=True):
    """One knob. `turned_by` None: it stands where the configuration has it."""

    name: str
    value: int
    configured: int
    turned_by: str | None = None
    turned_at: datetime | None = None


class Fees(Message, frozen=True, tag="fees_reply"):
    """The knobs of a chain, as they stand now."""

    chain: str
    knobs: list[KnobStatus]


class NodeStatus(Struct, frozen=True, kw_only=True):
    """One node of a chain: its url without secrets, and whether it is `in` the pool, on `probation` or `out`."""

    name: str
    head: int | None
    state: str
    reason: str

"""What a chain's trigger finds in blocks. `chain_follower` asks it, and does the rest: order, reorgs, position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from protocol.messages import TriggerKind
from protocol.values import Value
from runnerd.chain.types import Block
from runnerd.triggers.chain_cursor import Found, Place

MAX_BLOCKS = 64
"""Blocks in one request: public nodes allow batches of a hundred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing in a block that a plugin is called for. `label` tells it from the others of its block."""

    label: str
    payload: dict[str, Value | dict[str, Value] | None]

    def encoded(self) -> str:
        """The payload of its call."""
        return msgspec.json.encode({**self.payload, "retracted": False}).decode()


class ChainSource(Protocol):
    """One trigger's. All methods raise ChainError."""

    @property
    def kind(self) -> TriggerKind:
        """Of its calls."""

    async def look(self, blocks: Sequence[Block]) -> list[Found[Finding]]:
        """What is in these blocks, one entry for each: exactly these, whatever the node's chain has become."""

    async def sweep(self, after: Place, last: int) -> list[Found[Finding]] | None:
        """What comes after this block, up to `last` or an earlier block, which is the last entry; blocks in which
        nothing is may be left out. None: look at each block. Empty: `after` is not in the chain any more.
        """

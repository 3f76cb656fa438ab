"""What a trigger has followed of a chain, and what the node's chain of now means for it. Pure: values in, values out.

A `Cursor` is the position that `chain_follower` commits with the calls it makes: the last blocks by number and hash.
It need not have every block, only every one that calls were made of, and the last. Asks no node and makes no call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from runnerd.chain.types import Block

MAX_DEPTH = 128
"""How many blocks a reorg may replace, and what was made of them is still taken back. Ethereum is final after 64."""

T = TypeVar("T")


class Place(NamedTuple):
    """A block, as far as it is remembered."""

    number: int
    hash: str


class Undone(NamedTuple):
    """A block that was taken back, and how often: if the chain comes back to it, its calls are others than before."""

    number: int
    hash: str
    times: int


class Cursor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a trigger has come."""

    start: int
    """Blocks up to this one are not its concern: they were there when it was declared."""
    trail: tuple[Place, ...]
    """What was followed, oldest first; never empty, within `MAX_DEPTH` of the last."""
    is_open: bool = False
    """Only some calls of the last block are made yet."""
    undone: tuple[Undone, ...] = ()

    @property
    def tip(self) -> Place:
        """The last block followed."""
        return self.trail[-1]

    def times_undone(self, block_hash: str) -> int:
        """How often this block was taken back."""
        return next((undone.times for undone in self.undone if undone.hash == block_hash), 0)

    @property
    def next_number(self) -> int:
        """Where to read on."""
        return self.tip.number if self.is_open else self.tip.number + 1


@dataclass(frozen=True, slots=True)
class Grown:
    """These blocks came after what was followed; none: there is nothing new, or no proof of it."""

    blocks: Sequence[Block] = ()


@dataclass(frozen=True, slots=True)
class Forked:
    """These blocks of the trail are not in the chain any more, newest first.

    `base` is what the cursor stands on if all of its trail is gone: the reorg was deeper than it remembers.
    """

    orphans: Sequence[Place]
    base: Place | None = None


@dataclass(frozen=True, slots=True)
class Older:
    """The two part below the blocks given: bring them from this number on."""

    number: int


Verdict: TypeAlias = Grown | Forked | Older


def begin(number: int, block_hash: str) -> Cursor:
    """The cursor of a trigger that calls for the blocks above this one."""
    return Cursor(start=number, trail=(Place(number, block_hash),))


def linked(blocks: Sequence[Block | None]) -> list[Block]:
    """The blocks up to the first that is missing, or is no child of the one before it: the chain moved meanwhile."""
    chain: list[Block] = []
    for block in blocks:
        if block is None:
            break
        if chain and (block.parent_hash != chain[-1].hash or block.number != chain[-1].number + 1):
            break
        chain.append(block)
    return chain


def compare(cursor: Cursor, run: Sequence[Block]) -> Verdict:
    """What `run`, a linked part of the node's chain, means for `cursor`."""
    if not run:
        return Grown()
    known = dict(cursor.trail)
    steps = [Place(run[0].number - 1, run[0].parent_hash), *(Place(block.number, block.hash) for block in run)]
    # A hash stands for all that is below it: the highest block that both have is where they part.
    shared = next((i for i in reversed(range(len(steps))) if known.get(steps[i].number) == steps[i].hash), None)
    oldest, last = cursor.trail[0], steps[-1].number
    if shared is None:
        if last < oldest.number:
            return Grown()  # a node that is far behind
        if run[0].number > oldest.number:
            return Older(oldest.number)
        return Forked(tuple(reversed(cursor.trail)), base=steps[0])
    if steps[shared] == cursor.tip:
        if not cursor.is_open:
            return Grown(run[shared:])
        return Grown(run[shared - 1 :]) if shared else Older(cursor.tip.number)
    orphans = [place for place in cursor.trail if place.number > steps[shared].number]
    if orphans[0].number > last:
        return Grown()  # a node that is behind: it has said nothing of the next block that we know
    return Forked(tuple(reversed(orphans)))


def taken_back(cursor: Cursor, base: Place | None = None) -> Cursor:
    """The cursor once all calls of its last block are taken back; `base` is put in the place of an empty trail."""
    tip = cursor.tip
    times = cursor.times_undone(tip.hash) + 1
    trail = cursor.trail[:-1] or (base or Place(max(0, tip.number - 1), ""),)
    kept = tuple(undone for undone in cursor.undone if undone.hash != tip.hash)
    return _with(cursor, trail=trail, is_open=False, undone=(*kept, Undone(tip.number, tip.hash, times)))


def followed(cursor: Cursor, place: Place, *, is_open: bool = False) -> Cursor:
    """The cursor once the calls of `place`, or some of them (`is_open`), are made."""
    trail = cursor.trail if place == cursor.tip else (*cursor.trail, place)
    return _with(
        cursor,
        trail=tuple(old for old in trail if old.number > place.number - MAX_DEPTH),
        is_open=is_open,
        undone=tuple(undone for undone in cursor.undone if undone.number > place.number - 2 * MAX_DEPTH),
    )


def _with(cursor: Cursor, **changes: object) -> Cursor:
    return msgspec.structs.replace(cursor, **changes)


# --- what is made of blocks ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[T]):
    """A block, and what in it calls for a plugin, in order."""

    block: Block
    items: Sequence[T] = ()

    @property
    def place(self) -> Place:
        """What is remembered of the block."""
        return Place(self.block.number, self.block.hash)


@dataclass(frozen=True, slots=True)
class Packed(Generic[T]):
    """As much as one commit takes: what to make calls of, the cursor of that commit, and what is left."""

    taken: Sequence[tuple[Block, T]]
    cursor: Cursor
    left: Sequence[Found[T]]


def pack(cursor: Cursor, found: Sequence[Found[T]], room: int) -> Packed[T]:
    """Whole blocks while they fit into `room`; only of a block that never would, a part."""
    taken: list[tuple[Block, T]] = []
    for i, one in enumerate(found):
        items = one.items if one.block.number > cursor.start else ()
        if len(taken) + len(items) <= room:
            taken += [(one.block, item) for item in items]
            cursor = followed(cursor, one.place)
            continue
        if not taken:
            taken = [(one.block, item) for item in items[:room]]
            rest = replace(one, items=items[room:])
            return Packed(taken, followed(cursor, one.place, is_open=True), [rest, *found[i + 1 :]])
        return Packed(taken, cursor, found[i:])
    return Packed(taken, cursor, [])


def encode(cursor: Cursor) -> str:
    """For the ledger."""
    return msgspec.json.encode(cursor).decode()


def decode(position: str) -> Cursor:
    """What `encode` wrote."""
    return msgspec.json.decode(position, type=Cursor)

"""Fires block triggers: one call for each block of a chain, or each whose number is a multiple of `every`."""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.messages import TriggerKind
from protocol.triggers import Block as BlockTrigger
from protocol.triggers import Trigger
from runnerd.chain.types import Block
from runnerd.triggers.chain_calls import Task
from runnerd.triggers.chain_cursor import Found, Place
from runnerd.triggers.chain_follower import ChainFollower
from runnerd.triggers.chain_producer import ChainProducer
from runnerd.triggers.chain_source import Finding
from runnerd.triggers.follower import Follower
from runnerd.triggers.producer import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSource:
    """`ChainSource` of one block trigger: all it needs is in the blocks."""

    chain: str
    every: int
    kind: TriggerKind = TriggerKind.BLOCK

    async def look(self, blocks: Sequence[Block]) -> list[Found[Finding]]:
        """See ChainSource."""
        return [
            Found(block=block, items=() if block.number % self.every else (self._finding(block),)) for block in blocks
        ]

    async def sweep(self, after: Place, last: int) -> list[Found[Finding]] | None:
        """Each block is looked at: its parent's hash says that none is missing."""
        return None

    def _finding(self, block: Block) -> Finding:
        return Finding(
            label=f"block {self.chain} {block.hash}",
            payload={
                "number": block.number,
                "hash": block.hash,
                "parent_hash": block.parent_hash,
                "timestamp": block.timestamp,
            },
        )


class BlockProducer(ChainProducer):
    """A Producer for all chains."""

    name = "block"

    def serves(self, trigger: Trigger) -> bool:
        """Blocks."""
        return isinstance(trigger, BlockTrigger)

    def _make(self, plugin: str, trigger: Trigger, terms: Terms) -> Follower:
        assert isinstance(trigger, BlockTrigger)  # it serves no other
        network = self._network(trigger.chain or terms.chain)
        task = Task(producer=self.name, plugin=plugin, trigger=trigger, chain=network.name)
        source = BlockSource(chain=network.name, every=trigger.every)
        return ChainFollower(task, source, network, self._router, self._store, self._clock, terms.call_deadline)

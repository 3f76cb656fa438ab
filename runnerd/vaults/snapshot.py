"""A call's context from the chain: one block, and all of the plugin's reads at exactly that block."""

from collections.abc import Mapping, Sequence

from protocol.messages import BlockRef, VaultRef
from protocol.triggers import Read
from protocol.values import Value
from runnerd.chain.errors import AbiError, ChainError
from runnerd.chain.reads import ReadRequest, fetch_reads
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.types import Block
from runnerd.config.model import Config
from runnerd.network import Network
from runnerd.supervisor.context import Snapshot, SnapshotFailed
from runnerd.vaults.catalogue import Catalogue
from runnerd.vaults.vaults import address_of
from runnerd.wallets.signer import Signer


class VaultSnapshots:
    """`supervisor.context.Snapshots` over the configured vaults and keepers."""

    def __init__(self, vaults: dict[str, tuple[VaultRef, Catalogue, Network]]) -> None:
        self._vaults = vaults
        self._requests: dict[tuple[str, str], ReadRequest] = {}
        self._last: dict[str, tuple[Block, Snapshot]] = {}

    def check(self, vault: str, reads: Sequence[Read]) -> str | None:
        """Why these reads cannot be served, or None. Encodes them once; `take` uses what was encoded."""
        _, catalogue, _ = self._vaults[vault]
        for read in reads:
            entry = catalogue.reads.get(read.name)
            if entry is None:
                granted = ", ".join(catalogue.reads) or "none"
                return f"read {read.name!r} is not in the catalogue of {catalogue.place}; granted: {granted}"
            try:
                self._request(vault, read)
            except AbiError as error:
                return f"read {read.name!r}: {error}"
        return None

    def at_hand(self, vault: str, reads: Sequence[Read]) -> Snapshot | None:
        """Without reads the newest block is that of the last poll, if the last or the one before brought one."""
        if reads:
            return None
        network = self._vaults[vault][2]
        block = network.head.recent(2 * network.config.poll_s)
        if block is None:
            return None
        known, snapshot = self._last.get(vault, (None, None))
        if snapshot is None or known is not block:
            snapshot = self._snapshot(vault, block, {})
            self._last[vault] = block, snapshot
        return snapshot

    async def take(self, vault: str, reads: Sequence[Read]) -> Snapshot:
        """The newest block and all reads at it. Raises SnapshotFailed."""
        network = self._vaults[vault][2]
        requests = [self._request(vault, read) for read in reads]

        async def look(node: NodeBatches, block: Block) -> tuple[Block, dict[str, Value]]:
            return block, await fetch_reads(node, block, requests)

        try:
            block, values = await network.at_newest_block(look) if requests else (await network.head.fetch(), {})
        except ChainError as error:
            raise SnapshotFailed(str(error)) from error
        return self._snapshot(vault, block, values)

    def _snapshot(self, vault: str, block: Block, values: dict[str, Value]) -> Snapshot:
        return Snapshot(
            block=BlockRef(number=block.number, hash=block.hash, timestamp=block.timestamp),
            vault=self._vaults[vault][0],
            reads=values,
        )

    def _request(self, vault: str, read: Read) -> ReadRequest:
        _, catalogue, _ = self._vaults[vault]
        key = _key(vault, read)
        if key not in self._requests:
            entry = catalogue.reads[read.name]
            self._requests[key] = ReadRequest(
                name=read.key, to=entry.contract, function=entry.function, args=read.args, errors=entry.errors
            )
        return self._requests[key]


def _key(vault: str, read: Read) -> tuple[str, str]:
    return vault, repr(read)


def open_snapshots(
    config: Config,
    catalogues: Mapping[str, Catalogue],
    networks: Mapping[str, Network],
    signers: Mapping[str, Signer],
) -> VaultSnapshots:
    """Over the vaults and keepers of `config`, with their catalogues by name, their networks by chain, and the wallets.

    What a plugin sees as the vault of a keeper is the keeper: its wallet's address makes the calls.
    """
    return VaultSnapshots(
        {
            name: (
                VaultRef(
                    name=name,
                    address=address_of(place, signers[place.wallet].address),
                    chain_id=config.chains[place.chain].id,
                    actions=tuple(place.actions),
                ),
                catalogues[name],
                networks[place.chain],
            )
            for name, place in config.places.items()
        }
    )

"""Nonces that nothing of ours will use, though later ones wait for them: found at every block, and filled.

They cannot come about by our own doing. They do when blocks that were final fall out of the chain, or a stranger's
transaction does, after we had gone on behind it. The same bytes go out first; where there are none, or the chain does
not take them, a no-op.
"""

import logging

from runnerd.chain.errors import ChainError
from runnerd.chain.fees import NoBump, bump
from runnerd.executor.attempt import prepare_noop, sign_noop
from runnerd.executor.lane import Lane
from runnerd.executor.tracked import Book
from runnerd.log import fields
from runnerd.store import foreign
from runnerd.store.foreign import Filler, filler_from_row
from runnerd.wallets.errors import WalletError

logger = logging.getLogger("runnerd.executor")

SAME_BYTES_BLOCKS = 10
"""How long the bytes that were there before are offered, until a no-op takes their place."""
MAX_FILLED = 16
"""Nonces that are filled at one block; the lowest are what the others wait for."""


class GapFiller:
    """One per lane."""

    def __init__(self, lane: Lane, book: Book) -> None:
        self._lane = lane
        self._network = lane.network
        self._book = book
        self._since: dict[int, int] = {}
        """Nonces that were missing at the last look, and from which block on."""

    @property
    def nonces(self) -> list[int]:
        """What is missing now."""
        return sorted(self._since)

    async def look(self, used: int, head: int) -> None:
        """`used` nonces are in blocks up to `head`. A gap counts when two blocks show it: a node may lag."""
        chain_id, wallet = self._network.config.id, self._lane.signer.address
        waiting = self._book.nonces(chain_id, wallet)
        missing = [nonce for nonce in range(used, self._lane.next_nonce) if nonce not in waiting]
        self._since = {nonce: self._since.get(nonce, head) for nonce in missing}
        for nonce in missing[:MAX_FILLED]:
            if head <= self._since[nonce]:
                continue
            try:
                await self._fill(nonce, head)
            except (ChainError, WalletError) as error:
                logger.warning(
                    "nonce %d of %s is missing, and cannot be filled now: %s", nonce, wallet, error,
                    extra=fields("gap_waits", wallet=wallet, chain=self._network.name, nonce=nonce),
                )  # fmt: skip

    async def _fill(self, nonce: int, head: int) -> None:
        chain_id, wallet = self._network.config.id, self._lane.signer.address
        rows = await self._book.store.fetch(foreign.attempts_at(chain_id, wallet, nonce))
        is_patient = head - self._since[nonce] <= SAME_BYTES_BLOCKS
        if rows and is_patient:
            raw, what = bytes(rows[0]["raw"]), "the bytes that were there"
        else:
            raw, what = await self._filler(nonce, head), "a no-op"
        logger.error(
            "nonce %d of %s is missing on chain: sending %s", nonce, wallet, what,
            extra=fields("gap_filled", wallet=wallet, chain=self._network.name, nonce=nonce,
                         call=rows[0]["call_id"] if rows else None),
        )  # fmt: skip
        await self._network.broadcast([raw])

    async def _filler(self, nonce: int, head: int) -> bytes:
        """The no-op for this nonce: the last one, or a dearer one when that has waited long enough."""
        chain_id, wallet = self._network.config.id, self._lane.signer.address
        rows = await self._book.store.fetch(foreign.fillers_at(chain_id, wallet, nonce))
        last = filler_from_row(rows[0]) if rows else None
        if last is not None and head - last.signed_block < self._network.rules.replace_after_blocks:
            return last.raw
        ready, _ = await prepare_noop(self._network, wallet)
        fees = (
            ready.market.suggested
            if last is None
            else bump(last.fees, ready.market, self._network.fees.max_fee_cap_wei)
        )
        if isinstance(fees, NoBump):
            assert last is not None  # a first one has nothing to be bumped
            return last.raw
        signed = await sign_noop(self._lane.signer, chain_id, nonce, ready, fees)
        filler = Filler(hash=signed.hash, nonce=nonce, raw=signed.raw, fees=fees, signed_block=ready.block.number)
        await self._book.store.commit(foreign.add_filler(chain_id, wallet, filler, self._book.clock.now()))
        return filler.raw

"""Nonces that nothing of ours will use, though later ones wait for them: found at every block, and filled.

They cannot come about by our own doing. They do when blocks that were final fall out of the chain, or a stranger's
transaction does, after we had gone on behind it. The same bytes go out first; where there are none, or the chain does
not take them, a no-op.
"""

import logging
from collections.abc import Sequence

from runnerd.chain.errors import ChainError, FeeCapTooLow
from runnerd.chain.fees import Fees, NoBump, bump, outbid
from runnerd.crash_points import reached
from runnerd.executor.attempt import Ready, prepare_noop, sign_noop
from runnerd.executor.lane import Lane
from runnerd.executor.tracked import Book
from runnerd.log import fields
from runnerd.store import audit, foreign
from runnerd.store.foreign import Filler, fees_of, filler_from_row
from runnerd.store.store import Rows
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
        # Of a batch only if it was told to be final: an effect that was told not to have happened must not come back.
        again = next((row for row in rows if row["kind"] == "noop" or row["intent_state"] == "final"), None)
        if again is not None and head - self._since[nonce] <= SAME_BYTES_BLOCKS:
            raw, what = bytes(again["raw"]), "the bytes that were there"
        else:
            raw, what = await self._filler(nonce, head, rows), "a no-op"
        logger.error(
            "nonce %d of %s is missing on chain: sending %s", nonce, wallet, what,
            extra=fields("gap_filled", wallet=wallet, chain=self._network.name, nonce=nonce,
                         call=rows[0]["call_id"] if rows else None),
        )  # fmt: skip
        await self._network.broadcast([raw])

    async def _filler(self, nonce: int, head: int, before: Rows) -> bytes:
        """The no-op for this nonce: the last one, or a dearer one when that has waited long enough.

        `before` was signed at this nonce once, and may still be in some pool: a first no-op must replace it.
        """
        chain_id, wallet = self._network.config.id, self._lane.signer.address
        rows = await self._book.store.fetch(foreign.fillers_at(chain_id, wallet, nonce))
        last = filler_from_row(rows[0]) if rows else None
        if last is not None and head - last.signed_block < self._network.rules.replace_after_blocks:
            return last.raw
        ready, _ = await prepare_noop(self._network, wallet)
        fees = self._price(ready, last, [fees_of(row) for row in before])
        if fees is None:
            assert last is not None
            return last.raw
        signed = await sign_noop(self._lane.signer, chain_id, nonce, ready, fees)
        filler = Filler(hash=signed.hash, nonce=nonce, raw=signed.raw, fees=fees, signed_block=ready.block.number)
        now = self._book.clock.now()
        trail = audit.append(audit.filler(chain_id, wallet, filler, now))
        await self._book.store.commit(foreign.add_filler(chain_id, wallet, filler, now), trail)
        reached("filler.stored")
        return filler.raw

    def _price(self, ready: Ready, last: Filler | None, before: Sequence[Fees]) -> Fees | None:
        """What the next filler bids; None while the last one must do: at the cap, above the market, or out of money."""
        market, cap_wei = ready.market, self._lane.wallet_fee_cap
        if last is None:
            dearest = max(before, key=lambda fees: fees.max_fee_per_gas_wei, default=None)
            if dearest is not None:
                return outbid(dearest, market, cap_wei)
            fees = market.capped(cap_wei)
            if fees is None:
                raise FeeCapTooLow(base_fee_wei=market.base_fee_wei, max_fee_cap_wei=cap_wei)
            return fees
        bid = bump(last.fees, market, cap_wei)
        if isinstance(bid, NoBump) or self._lane.purse.objection(ready.gas_limit * bid.max_fee_per_gas_wei) is not None:
            return None
        return bid

"""One operator: compares the nonces of our wallets on chain with the ledger, and finds out about what does not fit.

A transaction that is not ours pauses the vaults of its wallet until somebody adopts it or resumes them: bot or human,
not both. It also is the proof of death of an intent whose nonce it used. Asked by `follow` at every block.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runnerd.chain.errors import ChainError, RpcRefused
from runnerd.chain.jsonrpc import Request
from runnerd.chain.search import BY_HASH, FoundTransaction, find_transaction, identity, read_transaction
from runnerd.chain.types import decode_count, decode_quantity, decode_receipt
from runnerd.crash_points import reached
from runnerd.executor.gaps import GapFiller
from runnerd.executor.lane import Lane
from runnerd.executor.observation import Died, Effect
from runnerd.executor.tracked import Book, Tracked
from runnerd.executor.wanted import IntentState
from runnerd.log import fields
from runnerd.network import Network
from runnerd.pauses import Mode, Pause, Pauses, Scope
from runnerd.store import audit, foreign, workers
from runnerd.store.audit import Record
from runnerd.store.errors import StoreError
from runnerd.store.statement import Statement

logger = logging.getLogger("runnerd.executor")

BY_US = "runnerd: transaction"
"""How the reason of a pause begins that `adopt` may end."""
WHAT_TO_DO = "runnerctl adopt HASH if it was meant so, or resume"
MAX_NAMED = 20
"""Strangers that are looked for at one block: each costs some 20 requests."""
MAX_WAIT_BLOCKS = 1_024


@dataclass(slots=True)
class _Stranger:
    """A used nonce of a wallet that the ledger knows nothing of."""

    wallet: str
    nonce: int
    found: FoundTransaction | None = None
    hash: str | None = None
    is_adopted: bool = False
    tries: int = 0
    look_again_at: int = 0


class Auditor:
    """One per chain. `vaults_of` names the vaults of each wallet."""

    def __init__(
        self,
        network: Network,
        lanes: Mapping[str, Lane],
        vaults_of: Mapping[str, Sequence[str]],
        book: Book,
        pauses: Pauses,
        on_foreign: Callable[[str], None],
    ) -> None:
        self._network = network
        self._lanes = lanes
        self._vaults_of = vaults_of
        self._book = book
        self._pauses = pauses
        self._on_foreign = on_foreign
        self._chain_id = network.config.id
        self._suspects: dict[int, Tracked] = {}
        self._strangers: dict[tuple[str, int], _Stranger] = {}
        self._changing = asyncio.Lock()
        """An adoption must not end the pause of a stranger that is being stored at this moment."""
        self._gaps = {wallet: GapFiller(lane, book) for wallet, lane in lanes.items()}

    async def load(self) -> None:
        """Take up what stands in the ledger: strangers that were not named, or not adopted. Raises StoreUnavailable."""
        for row in await self._book.store.fetch(foreign.of_chain(self._chain_id)):
            stranger = _Stranger(row["wallet"], row["nonce"], None, row["hash"], row["adopted_by"] is not None)
            self._strangers[stranger.wallet, stranger.nonce] = stranger

    @property
    def unadopted(self) -> list[str]:
        """Hashes of transactions that nobody has adopted yet, as far as they were found."""
        return [each.hash for each in self._strangers.values() if each.hash is not None and not each.is_adopted]

    def suspect(self, tracked: Tracked) -> None:
        """Its nonce is used, and not by an attempt of it that we can see."""
        self._suspects[tracked.intent.call_id] = tracked

    async def look(self, head: int) -> list[tuple[Tracked, Effect]]:
        """At every block; what follows for intents. Raises ChainError, StoreError: the next block tries again."""
        for wallet, lane in self._lanes.items():
            used = await self._fetch_used(wallet, head)
            if used is None:
                continue
            if used > lane.next_nonce:
                await self._pass_strangers(lane, used)
            await self._gaps[wallet].look(used, head)
        await self._name_strangers(head)
        effects: list[tuple[Tracked, Effect]] = []
        for tracked in list(self._suspects.values()):
            try:
                effects += await self._investigate(tracked, head)
            except (ChainError, StoreError) as error:  # what was proven of the others must still be carried out
                logger.warning(
                    "what became of intent %d cannot be found out now: %s", tracked.intent.call_id, error,
                    extra=fields("investigation_waits", call=tracked.intent.call_id, plugin=tracked.intent.plugin),
                )  # fmt: skip
        return effects

    @property
    def gaps(self) -> dict[str, list[int]]:
        """Nonces that are missing on chain and being filled, by wallet."""
        return {wallet: nonces for wallet, gap in self._gaps.items() if (nonces := gap.nonces)}

    async def adopt(self, tx_hash: str, by: str, *also: Record) -> str | None:
        """It was meant so; when it was the last one, the vaults it paused go on. None if it is not on this chain.

        `also` goes into the audit trail with it. Raises StoreError.
        """
        if all(each.hash != tx_hash for each in self._strangers.values()):
            await self._learn(tx_hash)
        async with self._changing:
            stranger = next((each for each in self._strangers.values() if each.hash == tx_hash), None)
            return None if stranger is None else await self._adopt(stranger, tx_hash, by, also)

    async def _learn(self, tx_hash: str) -> None:
        """An operator names one that we could not find, in state that the node has no more: others may confirm it."""
        try:
            (answer,) = await self._network.agreed([(BY_HASH, [tx_hash])], key=identity)
            found = None if isinstance(answer, RpcRefused) else read_transaction(answer)
        except ChainError as error:
            logger.warning("%s cannot be looked up now: %s", tx_hash, error, extra=fields("adopt_unproven", tx=tx_hash))
            return
        if found is None or found.hash != tx_hash:
            return
        place = (found.sender, found.nonce)
        suspects = {(each.intent.wallet, each.intent.nonce) for each in self._suspects.values()}
        ours = {attempt.hash for each in self._suspects.values() for attempt in each.intent.attempts}
        if (place in self._strangers or place in suspects) and tx_hash not in ours:
            await self._record(found.sender, found)

    async def _adopt(self, stranger: _Stranger, tx_hash: str, by: str, also: Sequence[Record]) -> str:
        vaults = self._vaults_of.get(stranger.wallet, ())
        others = [each for each in self._strangers.values() if each.wallet == stranger.wallet and each is not stranger]
        left = [each for each in others if not each.is_adopted]
        paused = [self._pauses.active.get((Scope.VAULT, vault)) for vault in vaults]
        ending = [] if left else [pause for pause in paused if pause is not None and pause.paused_by.startswith(BY_US)]
        now = self._book.clock.now()
        await self._book.store.commit(
            foreign.adopt(self._chain_id, tx_hash, by, now),
            audit.append(*also, audit.adopted(self._chain_id, tx_hash, by, now, nonce=stranger.nonce)),
            *(workers.resume(Scope.VAULT.value, pause.name) for pause in ending),
        )
        reached("adopted.stored")
        stranger.is_adopted = True
        for pause in ending:
            self._pauses.remove(Scope.VAULT, pause.name)
        told = f"adopted {tx_hash}, nonce {stranger.nonce} of {stranger.wallet}"
        if left:
            names = ", ".join(each.hash or f"nonce {each.nonce}, not found yet" for each in left)
            return f"{told}; still to adopt: {names}"
        return told + (f"; resumed: {', '.join(pause.name for pause in ending)}" if ending else "")

    async def _fetch_used(self, wallet: str, head: int) -> int | None:
        """How many nonces the chain has used at `head`, None when this cannot be said now; its lane's purse as well."""
        requests: list[Request] = [("eth_getTransactionCount", [wallet, hex(head)])]
        answer, balance = await self._network.rpc.batch([*requests, ("eth_getBalance", [wallet, hex(head)])])
        lane = self._lanes[wallet]
        if not isinstance(balance, RpcRefused):
            lane.purse.see(decode_quantity(balance, "eth_getBalance"))
        if not isinstance(answer, RpcRefused) and decode_count(answer, requests[0][0]) > lane.next_nonce:
            (answer,) = await self._network.agreed(requests, min_head=head)  # one node's word moves no nonce
        if isinstance(answer, RpcRefused):
            return None  # it does not have this block any more
        return decode_count(answer, requests[0][0])

    async def _pass_strangers(self, lane: Lane, used: int) -> None:
        async with self._changing:
            await self._pass(lane, used)

    async def _pass(self, lane: Lane, used: int) -> None:
        wallet, now = lane.signer.address, self._book.clock.now()
        nonces = range(lane.next_nonce, used)
        what = f"of nonce {nonces[-1]}" if len(nonces) == 1 else f"of nonces {lane.next_nonce} to {used - 1}"
        pauses = self._make_pauses(wallet, what, is_new=True)
        # One commit: a nonce that was moved without its pause would hide the stranger for ever.
        await lane.skip_to(used, foreign.used(self._chain_id, wallet, nonces, now), *_statements(pauses))
        reached("stranger.stored")
        for nonce in nonces[-foreign.MAX_UNNAMED :]:
            self._strangers[wallet, nonce] = _Stranger(wallet, nonce)
        self._alarm(wallet, what, pauses)

    def _make_pauses(self, wallet: str, what: str, *, is_new: bool) -> list[Pause]:
        """For a new stranger, pauses where there are none; in any case ours again, with what is known by now."""
        reason = f"{BY_US} {what} of the operator is not ours: {WHAT_TO_DO}"
        pauses = []
        for vault in self._vaults_of.get(wallet, ()):
            active = self._pauses.active.get((Scope.VAULT, vault))
            if is_new and (active is None or active.mode is Mode.REDUCING):  # reducing lets something pass
                pauses.append(Pause(Scope.VAULT, vault, reason, self._book.clock.now()))
            elif active is not None and active.paused_by.startswith(BY_US):
                pauses.append(Pause(Scope.VAULT, vault, reason, active.paused_at))
        return pauses

    def _alarm(self, wallet: str, what: str, pauses: Sequence[Pause]) -> None:
        for pause in pauses:
            self._pauses.add(pause)
        self._on_foreign(self._network.name)
        logger.error(
            "a transaction of %s is not ours (%s): its vaults are paused", wallet, what,
            extra=fields("foreign_transaction", wallet=wallet, chain=self._network.name, what=what,
                         vaults=list(self._vaults_of.get(wallet, ()))),
        )  # fmt: skip

    async def _name_strangers(self, head: int) -> None:
        unnamed = [each for each in self._strangers.values() if each.hash is None and each.look_again_at <= head]
        for stranger in unnamed[-MAX_NAMED:]:
            # Ever more seldom: it may be older than what the node remembers, or no transaction of this account at all.
            stranger.tries += 1
            stranger.look_again_at = head + min(2**stranger.tries, MAX_WAIT_BLOCKS)
            try:
                found = await find_transaction(self._network.rpc, stranger.wallet, stranger.nonce, head)
            except RpcRefused:
                continue
            if found is not None:
                await self._record(stranger.wallet, found)

    async def _record(self, wallet: str, found: FoundTransaction) -> None:
        async with self._changing:
            await self._store_found(wallet, found)

    async def _store_found(self, wallet: str, found: FoundTransaction) -> None:
        what = (
            f"{found.hash} (nonce {found.nonce}, block {found.block}, to {found.target or 'a new contract'}, "
            f"selector {found.selector or 'none'}, {found.value_wei} wei)"
        )
        known, now = self._strangers.get((wallet, found.nonce)), self._book.clock.now()
        is_other = known is not None and known.hash not in (None, found.hash)  # after a reorg: nobody has adopted that
        is_adopted = known is not None and known.is_adopted and not is_other
        pauses = [] if is_adopted else self._make_pauses(wallet, what, is_new=known is None or is_other)
        await self._book.store.commit(
            foreign.seen(self._chain_id, wallet, found.nonce, found, now),
            audit.append(
                audit.foreign(
                    self._chain_id, wallet, found.nonce, found.hash, now,
                    block=found.block, target=found.target, selector=found.selector, value_wei=found.value_wei,
                )
            ),
            *_statements(pauses),
        )  # fmt: skip
        self._strangers[wallet, found.nonce] = _Stranger(wallet, found.nonce, found, found.hash, is_adopted)
        self._alarm(wallet, what, pauses)

    async def _investigate(self, tracked: Tracked, head: int) -> list[tuple[Tracked, Effect]]:
        """Who used the nonce of an unresolved intent; dead if that is final, and a quorum says so."""
        intent = tracked.intent
        if intent.state is not IntentState.UNRESOLVED or intent.nonce is None:
            del self._suspects[intent.call_id]
            return []
        stranger = self._strangers.get((intent.wallet, intent.nonce))
        found = stranger.found if stranger is not None else None
        if found is None or not await self._is_still_there(found):
            found = await find_transaction(self._network.rpc, intent.wallet, intent.nonce, head)
            if found is None or any(found.hash == attempt.hash for attempt in intent.attempts):
                return []  # not to be found here, or ours: its receipt is still to come
            await self._record(intent.wallet, found)
        if not await self._is_proven(found, intent.wallet, intent.nonce, head):
            return []
        effects = await tracked.see(Died(found.hash, found.block), self._network.rules)
        self._suspects.pop(intent.call_id, None)
        return [(tracked, effect) for effect in effects]

    async def _is_still_there(self, found: FoundTransaction) -> bool:
        receipt = decode_receipt(await self._network.rpc.call("eth_getTransactionReceipt", [found.hash]))
        return receipt is not None and receipt.block_hash == found.block_hash

    async def _is_proven(self, found: FoundTransaction, wallet: str, nonce: int, head: int) -> bool:
        """Whether it is final that this transaction used this nonce. A quorum says both: that it is in that block, and
        that it is the wallet's at that nonce. One node could name any final transaction as ours."""
        rules = self._network.rules
        if rules.is_final_by_tag:
            if found.block > await self._network.fetch_finalized():
                return False  # spares the question
        elif head - found.block + 1 < rules.confirmations:
            return False
        requests: list[Request] = [("eth_getTransactionReceipt", [found.hash]), (BY_HASH, [found.hash])]
        answers = await self._network.agreed_when_final(found.block, requests, key=identity)
        receipt, transaction = (None if isinstance(answer, RpcRefused) else answer for answer in answers)
        mined, named = decode_receipt(receipt), read_transaction(transaction)
        if mined is None or named is None:
            return False
        is_there = mined.transaction_hash == found.hash and mined.block_hash == named.block_hash == found.block_hash
        return is_there and (named.hash, named.sender, named.nonce) == (found.hash, wallet, nonce)


def _statements(pauses: Sequence[Pause]) -> list[Statement]:
    """In place of those that stand."""
    return [
        statement
        for pause in pauses
        for statement in (
            workers.resume(pause.scope.value, pause.name),
            workers.pause(pause.scope.value, pause.name, pause.paused_by, pause.paused_at),
        )
    ]

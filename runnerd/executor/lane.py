"""The one writer of a wallet on a chain: simulate → nonce → sign → store → broadcast, several intents at a time.

Nonces are gapless because they are allotted only in the commit that stores the bytes signed with them. Everything
after the first broadcast is seen by `follow` and carried out by `push`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate, islice, takewhile
from typing import TypeAlias

from runnerd.chain.abi import AbiFunction
from runnerd.chain.errors import ChainError
from runnerd.chain.fees import Fees
from runnerd.config.model import WalletConfig
from runnerd.crash_points import reached
from runnerd.executor.attempt import Prepared, Ready, prepare, sign_attempt
from runnerd.executor.broadcast import Broadcaster
from runnerd.executor.effect_checks import EffectChecks
from runnerd.executor.expectations import Result
from runnerd.executor.observation import Broadcast, Signed, SimulationReverted
from runnerd.executor.purse import Purse
from runnerd.executor.rehearsals import Rehearsals
from runnerd.executor.tracked import Book, Rehearsal, Tracked
from runnerd.executor.usage import GasBudget
from runnerd.executor.wanted import Attempt, AttemptKind, Intent
from runnerd.log import fields
from runnerd.network import Network
from runnerd.pauses import Pauses
from runnerd.services.metrics import Metrics
from runnerd.store import audit, intents
from runnerd.store.calls import JobOutcome
from runnerd.store.errors import CommitRefused, StoreError
from runnerd.store.statement import Statement
from runnerd.wallets.errors import SignerUnavailable, WalletError
from runnerd.wallets.signer import Signer

logger = logging.getLogger("runnerd.executor")

MAX_GROUP = 32
"""Intents that are simulated, stored and sent together. More of them make the first one wait."""
RETRY_S = 0.5
Priced: TypeAlias = tuple[Tracked, Ready, Fees]
TOO_LATE = "its deadline passed before it could be signed"


class Lane:
    """Serves the intents of one wallet, oldest first; one that cannot be judged now lets the others pass.

    `next_nonce` is the ledger's. `is_keeper`: what a stranger could not do is not signed.
    """

    def __init__(
        self,
        network: Network,
        signer: Signer,
        next_nonce: int,
        limits: WalletConfig,
        errors: tuple[AbiFunction, ...],
        book: Book,
        pauses: Pauses,
        gas: GasBudget,
        metrics: Metrics,
        checks: EffectChecks,
        is_keeper: bool = False,
    ) -> None:
        self.network = network
        self.signer = signer
        self.next_nonce = next_nonce
        self.errors = errors
        self.broadcaster = Broadcaster(network, book, metrics)
        self.problem: str | None = None
        """Why this lane signs nothing any more, or None."""
        self._limits = limits
        self._book = book
        self._pauses = pauses
        self.gas = gas
        self.purse = Purse(network.config.id, signer.address, book)
        self._metrics = metrics
        self._checks = checks
        self._is_keeper = is_keeper
        self._waiting: deque[Tracked] = deque()
        self._rehearsals = Rehearsals(self.prepare, book.clock)
        self._wake = asyncio.Event()
        self._withdrawal = asyncio.Event()
        self._allotting = asyncio.Lock()
        book.on_ended(lambda _: self._wake.set())

    def put(self, tracked: Tracked) -> None:
        """Take a planned intent that stands in the ledger."""
        self._waiting.append(tracked)
        self._wake.set()

    def withdraw(self, tracked: Tracked, reason: str) -> None:
        """End a planned intent as denied for `reason`, soon. One that is being signed just now is cancelled later."""
        tracked.withdrawn = reason
        self._withdrawal.set()
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Planned intents that have no nonce yet."""
        return len(self._waiting)

    def fee_cap(self, intent: Intent, kind: AttemptKind = AttemptKind.BATCH) -> int:
        """The highest fee per gas, in wei, that may be signed for it: the lowest of chain, wallet and plugin.

        A plugin's does not hold for no-ops: its cheap transaction must not keep those of all others waiting for ever.
        """
        own = intent.max_fee_per_gas_wei if kind is AttemptKind.BATCH else None
        return self.wallet_fee_cap if own is None else min(self.wallet_fee_cap, own)

    @property
    def wallet_fee_cap(self) -> int:
        """The lower of chain and wallet."""
        chain_wei, wallet_wei = self.network.fees.max_fee_cap_wei, self._limits.max_fee_per_gas_wei
        return chain_wei if wallet_wei is None else min(chain_wei, wallet_wei)

    async def prepare(self, wanted: Sequence[Intent]) -> list[Prepared]:
        """What signing each of them needs, or why not. Raises ChainError, which proves nothing of any."""
        return await prepare(self.network, self.signer.address, wanted, self.errors, self._checks, self._is_keeper)

    async def skip_to(self, next_nonce: int, *also: Statement) -> None:
        """Go on at a higher nonce: others have used those before it. In one commit with `also`; raises StoreError."""
        async with self._allotting:
            wallet = intents.set_wallet(self.network.config.id, self.signer.address, next_nonce)
            await self._book.store.commit(wallet, *also)
            self.next_nonce = max(self.next_nonce, next_nonce)

    async def run(self) -> None:
        """Until cancelled.

        If the ledger refuses a commit its picture of the wallet is not ours: the lane stops, and says so in `problem`.
        """
        try:
            await self._run()
        except StoreError as error:
            self.problem = f"the ledger refused to store a signed transaction: {error}"
            logger.critical(
                "wallet %s signs nothing any more: %s", self.signer.address, error,
                extra=fields("lane_stopped", wallet=self.signer.address, chain=self.network.name),
            )  # fmt: skip
            if isinstance(error, CommitRefused):
                await self._refuse_all(self.problem)

    async def _refuse_all(self, reason: str) -> None:
        """Nothing is signed any more: whoever asks is told so, instead of waiting for ever."""
        while True:
            while self._waiting:
                tracked = self._waiting.popleft()
                try:
                    await self._book.give_up(tracked, JobOutcome.FAILED, f"not signed: {reason}")
                except StoreError as error:  # it stays planned, for the next start; the others need their ends
                    logger.error(
                        "intent %d cannot be ended: %s", tracked.intent.call_id, error,
                        extra=fields("intent_not_ended", call=tracked.intent.call_id, plugin=tracked.intent.plugin),
                    )  # fmt: skip
            self._wake.clear()
            await self._wake.wait()

    async def _run(self) -> None:
        postponed = 0
        """How many of the waiting, at the end of the queue, could not be judged since the last success."""
        while True:
            while self._waiting and (room := self._room()) > 0:
                group = list(islice(self._waiting, min(room, MAX_GROUP)))
                ahead = list(islice(self._waiting, len(group), min(room, len(group) + MAX_GROUP)))
                # The node simulates the next ones while these are signed, stored and sent.
                left, _ = await asyncio.gather(self._serve(group), self._rehearsals.ahead(ahead))
                postponed = postponed + len(left) if len(left) == len(group) else len(left)
                if left and postponed >= len(self._waiting):
                    postponed = 0
                    await self._rest()
            self._wake.clear()
            if not self._waiting:
                await self._wake.wait()
            elif self._room() <= 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S):
                        await self._wake.wait()
                await self._end_stopped(list(self._waiting))

    async def _rest(self) -> None:
        """Nothing can be signed now: wait a moment, but let nobody wait for what he took back."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await self._withdrawal.wait()
        self._withdrawal.clear()
        await self._end_stopped(list(self._waiting))

    def _room(self) -> int:
        return self._limits.max_in_flight - self._book.in_flight(self.network.config.id, self.signer.address)

    async def _serve(self, group: list[Tracked]) -> list[Tracked]:
        """Sign and send what can be signed now. Returns what must wait, which is at the end of the queue then."""
        group = await self._end_stopped(group)
        prepared = await self._prepare_all(group)
        priced: list[Priced] = []
        left: list[Tracked] = []
        for tracked, outcome in zip(group, prepared, strict=True):
            if isinstance(outcome, SimulationReverted):
                self._waiting.remove(tracked)
                await tracked.see(outcome, self.network.rules)
                if outcome.is_breach:
                    self._metrics.expected(tracked.intent.plugin, Result.DENIED)
                continue
            cap = self.fee_cap(tracked.intent)
            fees = outcome.market.capped(cap) if isinstance(outcome, Ready) else None
            if isinstance(outcome, Ready) and fees is not None:
                priced.append((tracked, outcome, fees))
            else:
                is_away = isinstance(outcome, ChainError)
                self._postpone(tracked, str(outcome) if is_away else f"fees are above {cap} wei")
                left.append(tracked)
        ready = self._payable(priced)
        left += [tracked for tracked, _, _ in priced[len(ready) :]]
        # The node may have taken seconds, and an operator who was told "paused" meanwhile must be able to rely on it.
        going = set(map(id, await self._end_stopped([tracked for tracked, _, _ in ready])))
        return left + await self._sign([one for one in ready if id(one[0]) in going])

    def _payable(self, priced: list[Priced]) -> list[Priced]:
        """As many of them, from the first, as the wallet can pay for; the others are postponed."""
        costs = list(accumulate(ready.gas_limit * fees.max_fee_per_gas_wei for _, ready, fees in priced))
        if not priced or self.purse.objection(costs[-1]) is None:
            return priced
        for number, cost_wei in enumerate(costs):
            if (short := self.purse.objection(cost_wei)) is not None:
                for tracked, _, _ in priced[number:]:
                    self._postpone(tracked, short)
                return priced[:number]
        return priced

    def _postpone(self, tracked: Tracked, why: str) -> None:
        """No nonce is allotted yet, so the order is free: one must not hold up those behind it."""
        logger.warning(
            "intent %d cannot be signed now: %s", tracked.intent.call_id, why,
            extra=fields("intent_waits", call=tracked.intent.call_id, plugin=tracked.intent.plugin),
        )  # fmt: skip
        tracked.postponed = why
        self._waiting.remove(tracked)
        self._waiting.append(tracked)

    async def _end_stopped(self, group: list[Tracked]) -> list[Tracked]:
        """End those that must not be signed any more, by an operator, their deadline or a pause; the rest."""
        now, rest = self._book.clock.now(), []
        for tracked in group:
            intent = tracked.intent
            objection = self._pauses.objection(intent.plugin, intent.vault, intent.actions)
            if now < intent.deadline_at and objection is None and tracked.withdrawn is None:
                rest.append(tracked)
                continue
            self._waiting.remove(tracked)
            if tracked.withdrawn is not None:
                await self._book.give_up(tracked, JobOutcome.DENIED, tracked.withdrawn)
            elif objection is not None:
                await self._book.give_up(tracked, JobOutcome.DENIED, f"not signed: {objection}")
            else:
                why = f"{TOO_LATE}: {tracked.postponed}" if tracked.postponed else TOO_LATE
                await self._book.give_up(tracked, JobOutcome.EXPIRED, why)
        return rest

    async def _prepare_all(self, group: list[Tracked]) -> list[Prepared]:
        found = {id(tracked): self._rehearsals.take(tracked) for tracked in group}
        unknown = [tracked for tracked in group if found[id(tracked)] is None]
        if unknown:
            try:
                prepared: list[Prepared] = await self.prepare([tracked.intent for tracked in unknown])
            except ChainError as error:
                prepared = [error] * len(unknown)
            found |= {id(tracked): outcome for tracked, outcome in zip(unknown, prepared, strict=True)}
        return [outcome for tracked in group if (outcome := found[id(tracked)]) is not None]

    async def _sign(self, ready: list[Priced]) -> list[Tracked]:
        """Allot nonces, sign, store all of it at once, and only then send. Returns what waits for the signer."""
        signed: list[tuple[Tracked, Attempt]] = []
        left: list[Tracked] = []
        async with self._allotting:
            first = self.next_nonce
            reserved: dict[int, Statement] = {}
            for number, (tracked, outcome, fees) in enumerate(ready):
                intent, gas_wei = tracked.intent, outcome.gas_limit * fees.max_fee_per_gas_wei
                objection = self.gas.check(intent, gas_wei)
                if objection is not None:
                    self._waiting.remove(tracked)
                    await self._book.give_up(tracked, JobOutcome.DENIED, f"not signed: {objection}")
                    continue
                reserved[intent.call_id] = self.gas.reserve(intent, gas_wei)  # no await since it was checked
                try:
                    attempt = await sign_attempt(self.signer, tracked.intent, first + len(signed), outcome, fees)
                except SignerUnavailable as error:
                    left = [one for one, _, _ in ready[number:]]
                    for one in left:  # those behind it would wait as long for the same answer
                        self._postpone(one, str(error))
                    break
                except WalletError as error:
                    self._waiting.remove(tracked)
                    await self._book.give_up(tracked, JobOutcome.FAILED, f"not signed: {error}")
                else:
                    signed.append((tracked, attempt))
            # A signer elsewhere may have taken seconds as well. What it signed is nowhere but here: what is stopped by
            # now is forgotten, and so are those with the nonces behind it, which are signed again.
            going = set(map(id, await self._end_stopped([tracked for tracked, _ in signed])))
            signed = list(takewhile(lambda one: id(one[0]) in going, signed))
            for call_id in reserved.keys() - {tracked.intent.call_id for tracked, _ in signed}:
                self.gas.release(call_id)  # not stored, so there is nothing to take back in the ledger
            if not signed:
                return left
            now, wanted = self._book.clock.now(), [tracked.intent for tracked, _ in signed]
            # Stored, durably, before anyone can see the bytes. If this raises nothing was given away.
            trail = audit.append(
                *(
                    audit.attempt(tracked.intent, first + offset, attempt, now)
                    for offset, (tracked, attempt) in enumerate(signed)
                )
            )
            allot = intents.allot_nonces(wanted, first, [attempt for _, attempt in signed], now)
            reached("attempt.signed")
            await self._book.store.commit(allot, trail, *(reserved[tracked.intent.call_id] for tracked, _ in signed))
            reached("attempt.stored")
            self.next_nonce = first + len(signed)
            for offset, (tracked, attempt) in enumerate(signed):
                self._waiting.remove(tracked)  # before `_send`, which may raise: what was signed is not given up
                tracked.is_busy = True  # the first to send it are we
                effects = tracked.note(Signed(first + offset, attempt), self.network.rules)
                assert effects == (Broadcast(attempt),)
        try:
            await self.broadcaster.send(*signed)
        finally:
            for tracked, _ in signed:
                tracked.is_busy = False
        return left

    async def rehearse(self, intent: Intent) -> Rehearsal | None:
        """Simulate while the Decision is being committed. None when it is of no use. Never raises."""
        if self._waiting:
            return None  # it has to wait anyway, and is simulated together with the others then
        return await self._rehearsals.alone(intent)

"""The one writer of a wallet on a chain: simulate → nonce → sign → store → broadcast, one intent after the other.

Nonces are gapless because one is allotted only in the commit that stores the bytes signed with it. Everything after
the first broadcast is watched by `follow`.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress

from runnerd.chain.abi import AbiFunction
from runnerd.chain.errors import ChainError, FeeCapTooLow, RpcRefused, RpcUnavailable
from runnerd.chain.fees import build_fee_request, bump, decode_fees
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.simulate import CallMessage, Reverted, build_simulation, decode_simulation
from runnerd.chain.types import Block, decode_hash
from runnerd.executor.intent import ENDED, Accepted, Attempt, Broadcast, Intent, IntentState, Signed, SimulationReverted
from runnerd.executor.tracked import Book, Ready, Rehearsal, Tracked
from runnerd.log import fields
from runnerd.network import Network
from runnerd.pauses import Pauses
from runnerd.services.metrics import Metrics
from runnerd.store import intents
from runnerd.store.calls import JobOutcome
from runnerd.store.errors import CommitRefused, StoreError
from runnerd.wallets.errors import WalletError
from runnerd.wallets.signer import Signer
from runnerd.wallets.transaction import UnsignedTransaction

logger = logging.getLogger("runnerd.executor")

MAX_IN_FLIGHT = 16
RETRY_S = 0.5
TOO_LATE = "its deadline passed before it could be signed"
FRESH_S = 0.25
"""A block that was fetched this recently is still the one to simulate at: nothing of ours can be in it anyway."""
_KNOWN = ("already known", "already imported", "known transaction", "already in mempool")


class Lane:
    """Serves the intents of one wallet in order. `next_nonce` is the ledger's."""

    def __init__(
        self,
        network: Network,
        signer: Signer,
        next_nonce: int,
        errors: tuple[AbiFunction, ...],
        book: Book,
        pauses: Pauses,
        metrics: Metrics,
    ) -> None:
        self.network = network
        self.signer = signer
        self.next_nonce = next_nonce
        self.problem: str | None = None
        """Why this lane signs nothing any more, or None."""
        self._errors = errors
        self._book = book
        self._pauses = pauses
        self._metrics = metrics
        self._waiting: deque[Tracked] = deque()
        self._wake = asyncio.Event()
        book.on_ended(lambda _: self._wake.set())

    def put(self, tracked: Tracked) -> None:
        """Take a planned intent that stands in the ledger."""
        self._waiting.append(tracked)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Planned intents that have no nonce yet."""
        return len(self._waiting)

    async def run(self) -> None:
        """Until cancelled. An intent that the node cannot judge now waits, and so do those behind it.

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
                await self._book.give_up(self._waiting.popleft(), JobOutcome.FAILED, f"not signed: {reason}")
            self._wake.clear()
            await self._wake.wait()

    async def _run(self) -> None:
        while True:
            while self._waiting and self._book.in_flight(self.network.config.id, self.signer.address) < MAX_IN_FLIGHT:
                if await self._serve(self._waiting[0]):
                    self._waiting.popleft()
                else:
                    await asyncio.sleep(RETRY_S)
            self._wake.clear()
            if not self._waiting:
                await self._wake.wait()
            elif self._book.in_flight(self.network.config.id, self.signer.address) >= MAX_IN_FLIGHT:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), RETRY_S)
                await self._expire_waiting()

    async def _expire_waiting(self) -> None:
        """What waits behind a full flight must not wait beyond its deadline."""
        now = self._book.clock.now()
        for tracked in [tracked for tracked in self._waiting if tracked.call.deadline_at <= now]:
            self._waiting.remove(tracked)
            await self._book.give_up(tracked, JobOutcome.EXPIRED, TOO_LATE)

    async def _serve(self, tracked: Tracked) -> bool:
        """Whether the intent has left the queue: signed, denied or expired."""
        if self._book.clock.now() >= tracked.call.deadline_at:
            await self._book.give_up(tracked, JobOutcome.EXPIRED, TOO_LATE)
            return True
        pause = self._pauses.of(tracked.intent.plugin, tracked.intent.vault)
        if pause is not None:
            await self._book.give_up(tracked, JobOutcome.DENIED, f"not signed: {pause}")
            return True
        try:
            ready = self._rehearsed(tracked) or await self.prepare(tracked.intent)
        except (RpcUnavailable, RpcRefused, FeeCapTooLow) as error:
            logger.warning(
                "intent %d cannot be simulated now: %s", tracked.intent.call_id, error,
                extra=fields("intent_waits", call=tracked.intent.call_id, plugin=tracked.intent.plugin),
            )  # fmt: skip
            return False
        if isinstance(ready, SimulationReverted):
            await tracked.see(ready, self.network.patience)
            return True
        nonce = self.next_nonce
        try:
            attempt = self._sign(tracked.intent, nonce, ready)
        except WalletError as error:
            await self._book.give_up(tracked, JobOutcome.FAILED, f"not signed: {error}")
            return True
        at = self._book.clock.now()
        # Stored, durably, before anyone can see the bytes. If this raises nothing was given away.
        await self._book.store.commit(intents.allot_nonce(tracked.intent, nonce, attempt, at))
        self.next_nonce = nonce + 1
        for effect in tracked.note(Signed(nonce, attempt), self.network.patience):
            if isinstance(effect, Broadcast):
                await self.broadcast(tracked, effect.attempt)
        return True

    async def rehearse(self, intent: Intent) -> Rehearsal | None:
        """Simulate while the Decision is being committed. None when the node cannot say."""
        try:
            outcome = await self.prepare(intent)
        except ChainError:
            return None
        return Rehearsal(outcome, self._book.clock.monotonic())

    def _rehearsed(self, tracked: Tracked) -> Ready | SimulationReverted | None:
        rehearsal, tracked.rehearsal = tracked.rehearsal, None
        if rehearsal is None or self._book.clock.monotonic() - rehearsal.at > FRESH_S:
            return None
        return rehearsal.outcome

    async def prepare(self, intent: Intent) -> Ready | SimulationReverted:
        """Simulate at the newest block and fetch fees, in one round trip. Raises what proves nothing."""
        network = self.network
        message = CallMessage(sender=self.signer.address, to=intent.target, data=intent.calldata, value_wei=0)
        margin = round((network.config.gas_limit_factor - 1) * 100)

        async def look(node: NodeBatches, block: Block) -> Ready | SimulationReverted:
            requests = [*build_simulation(block, message), build_fee_request(network.fees)]
            call, estimate, history = await node.batch(requests)
            simulated = decode_simulation(block, call, estimate, gas_margin_percent=margin, errors=self._errors)
            if isinstance(simulated, Reverted):
                return SimulationReverted(simulated.reason, block.number)
            return Ready(block, simulated.gas_limit, decode_fees(history, network.fees))

        return await network.at_newest_block(look, FRESH_S)

    async def replace(self, tracked: Tracked) -> None:
        """Sign the intent again at its nonce, with fees that replace the last attempt, and send it."""
        intent = tracked.intent
        if self._pauses.of(intent.plugin, intent.vault) is not None:
            return  # nothing new is signed; what is out stays out
        try:
            ready = await self.prepare(intent)
        except ChainError as error:
            logger.warning("no replacement now: %s", error, extra=fields("replacement_waits", call=intent.call_id))
            return
        if tracked.intent.state in (*ENDED, IntentState.INCLUDED):
            return  # it made it while we looked
        if isinstance(ready, SimulationReverted):
            logger.warning(
                "not replaced, it would revert now: %s", ready.reason,
                extra=fields("replacement_refused", call=intent.call_id, plugin=intent.plugin),
            )  # fmt: skip
            return
        fees = bump(intent.latest.fees, ready.fees, self.network.fees)
        if fees is None or intent.nonce is None:
            logger.warning(
                "not replaced, fees would be above max_fee_per_gas_wei",
                extra=fields("replacement_capped", call=intent.call_id, plugin=intent.plugin),
            )
            return
        attempt = self._sign(intent, intent.nonce, Ready(ready.block, ready.gas_limit, fees))
        add = intents.add_attempt(intent.call_id, intent.nonce, attempt, self._book.clock.now())
        await self._book.store.commit(add)
        for effect in tracked.note(Signed(intent.nonce, attempt), self.network.patience):
            if isinstance(effect, Broadcast):
                await self.broadcast(tracked, effect.attempt)

    async def broadcast(self, tracked: Tracked, attempt: Attempt) -> None:
        """Hand the stored bytes to the node. The bytes may be out whatever it answers: an error concludes nothing."""
        method = "eth_sendRawTransaction"
        try:
            answer = decode_hash(await self.network.rpc.call(method, ["0x" + attempt.raw.hex()]), method)
        except (RpcRefused, RpcUnavailable) as error:
            is_known = isinstance(error, RpcRefused) and any(word in error.message.lower() for word in _KNOWN)
            if not is_known:
                logger.warning(
                    "broadcast is unclear: %s", error,
                    extra=fields("broadcast_unclear", call=tracked.intent.call_id, tx=attempt.hash),
                )  # fmt: skip
                await self._book.store.commit(intents.send_error(attempt.hash, str(error)[:500]))
                return
        else:
            if answer != attempt.hash:
                logger.error(
                    "the node answers with another hash", extra=fields("node_lies", tx=attempt.hash, answer=answer)
                )
                return
        self._metrics.accepted(tracked.intent.plugin)
        at = self._book.clock.now()
        if tracked.intent.state not in (IntentState.FINAL, IntentState.REVERTED):
            await tracked.see(
                Accepted(attempt.hash),
                self.network.patience,
                *intents.accepted(tracked.intent.call_id, attempt.hash, at),
            )

    def _sign(self, intent: Intent, nonce: int, ready: Ready) -> Attempt:
        signed = self.signer.sign(
            UnsignedTransaction(
                chain_id=intent.chain_id,
                nonce=nonce,
                to=intent.target,
                value_wei=0,
                data=intent.calldata,
                gas_limit=ready.gas_limit,
                max_fee_per_gas_wei=ready.fees.max_fee_per_gas_wei,
                max_priority_fee_per_gas_wei=ready.fees.max_priority_fee_per_gas_wei,
            )
        )
        return Attempt(
            hash=signed.hash,
            raw=signed.raw,
            fees=ready.fees,
            gas_limit=ready.gas_limit,
            signed_block=ready.block.number,
        )

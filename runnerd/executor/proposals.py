"""The desk of one Safe that wants several signatures: planned intents wait here, one at a time is shown to the owners.

When enough have signed, the intent's calldata is fixed in the ledger and the wallet's lane takes it, as any other.
What stands in the ledger is taken up again after a restart. Which signature counts is `proposal`'s to say.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final, assert_never

from runnerd.chain.errors import AbiError, ChainError
from runnerd.chain.vaults.safe_multisig import SafeMultisigVault, SafeState
from runnerd.errors import RunnerdError
from runnerd.executor.lane import Lane
from runnerd.executor.observation import Finish
from runnerd.executor.proposal import (
    Collecting,
    Complete,
    GivenUp,
    Overtaken,
    Proposal,
    Shown,
    check_signature,
    judge,
    signatures_that_count,
)
from runnerd.executor.safe_node import SafeNode
from runnerd.executor.safe_verdict import FellOut, NotFinal, Passed, UsedBy
from runnerd.executor.tracked import Book, Rehearsal, Tracked
from runnerd.executor.wanted import Intent, IntentState
from runnerd.log import fields
from runnerd.store import audit, intents, proposals
from runnerd.store.calls import JobOutcome
from runnerd.store.errors import StoreError

logger = logging.getLogger("runnerd.executor")

LOOK_EVERY_S: Final = 2.0
"""How often one node is asked for the Safe's nonce, owners and threshold while signatures are collected."""


class ProposalRefused(RunnerdError):
    """A command about a proposal that cannot be carried out. The text says why and what there is."""


class ProposalDesk:
    """One Safe. `run` is a vital task of its chain; the lane is that of the wallet that submits."""

    def __init__(
        self, vault: str, adapter: SafeMultisigVault, lane: Lane, book: Book, look_every_s: float = LOOK_EVERY_S
    ) -> None:
        self.vault = vault
        self._adapter = adapter
        self._lane = lane
        self._book = book
        self._node = SafeNode(adapter, lane.network)
        self._waiting: list[Tracked] = []
        self._proposal: Proposal | None = None
        self._is_complete = False
        self._safe: SafeState | None = None
        self._passed: Passed | None = None
        """Where a quorum saw that the proposal's nonce is used; not by whom."""
        self._look_every_s = look_every_s
        self._wake = asyncio.Event()
        self._busy = asyncio.Lock()  # a command must not meet a proposal that is just being completed or ended
        book.on_ended(lambda _: self._wake.set())

    # --- as the executor sees it, like a lane ------------------------------------------------------------------------

    def put(self, tracked: Tracked) -> None:
        """Take a planned intent that stands in the ledger."""
        self._waiting.append(tracked)
        self._wake.set()

    async def rehearse(self, intent: Intent) -> Rehearsal | None:
        """Nothing to try yet: a Safe refuses what is not signed. The lane simulates when it is complete."""
        return None

    @property
    def waiting(self) -> int:
        """Intents that have not all their signatures."""
        return len(self._waiting)

    # --- as the operator sees it -------------------------------------------------------------------------------------

    def shown(self) -> list[Shown]:
        """What waits, the one that can be signed first."""
        found = []
        proposal = self._proposal
        for tracked in self._open_here():
            is_current = proposal is not None and proposal.call_id == tracked.intent.call_id
            current = proposal if is_current else None
            signed_by: Sequence[str] = ()
            if current is not None and self._safe is not None:
                signed_by = sorted(signatures_that_count(current, self._safe, self._operator))
            found.append(
                Shown(
                    intent=tracked.intent,
                    deadline_at=_deadline(tracked),
                    proposal=current,
                    safe=self._safe,
                    signed_by=tuple(signed_by),
                    is_complete=is_current and self._is_complete,
                )
            )
        return sorted(found, key=lambda one: (one.proposal is None, one.intent.call_id))

    async def add_signature(self, call_id: int, signature: bytes, principal: str) -> str:
        """Count an owner's signature; what there is now, in words. Raises ProposalRefused, SignatureRefused,
        ChainError when the node does not say who the owners are, and StoreError."""
        async with self._busy:
            proposal = self._signable(call_id)
            _, self._safe = await self._node.fetch_state()
            approval = check_signature(proposal, self._safe, self._operator, signature)
            now = self._book.clock.now()
            trail = audit.append(audit.signature(proposal, approval, principal, now))
            await self._book.store.commit(proposals.add_signature(proposal, approval, principal, now), trail)
            self._proposal = replace(proposal, approvals=(*proposal.approvals, approval))
            count = len(signatures_that_count(self._proposal, self._safe, self._operator))
            logger.info(
                "call %d: %s has signed, %d of %d", call_id, approval.owner, count, self._safe.threshold,
                extra=fields("safe_signature_added", vault=self.vault, call=call_id, owner=approval.owner,
                             principal=principal),
            )  # fmt: skip
            self._wake.set()
            return f"{approval.owner} has signed call {call_id}: {count} of {self._safe.threshold} signatures"

    async def reject(self, call_id: int, principal: str) -> str:
        """End it as denied. Raises ProposalRefused when it is with the operator already, and StoreError."""
        async with self._busy:
            tracked = next((one for one in self._waiting if one.intent.call_id == call_id), None)
            if tracked is None or call_id not in self._book.open:
                raise ProposalRefused(self._absence(call_id))
            await self._give_up(tracked, JobOutcome.DENIED, f"rejected by {principal}")
            trail = audit.append(audit.command("safe reject", principal, self._book.clock.now(), call=call_id))
            await self._book.store.commit(trail)
            return f"call {call_id} is rejected"

    def _signable(self, call_id: int) -> Proposal:
        proposal = self._proposal
        if call_id not in self._book.open:
            raise ProposalRefused(self._absence(call_id))
        if proposal is not None and proposal.call_id == call_id and not self._is_complete:
            return proposal
        if any(one.intent.call_id == call_id for one in self._waiting):
            before = (
                f"call {proposal.call_id} is before it" if proposal is not None else "the Safe is not looked at yet"
            )
            raise ProposalRefused(f"call {call_id} cannot be signed yet: {before}; a Safe has one proposal at a time")
        raise ProposalRefused(self._absence(call_id))

    def _absence(self, call_id: int) -> str:
        if self._is_complete and self._proposal is not None and self._proposal.call_id == call_id:
            return f"call {call_id} has its signatures and is with the operator: see runnerctl tx"
        known = ", ".join(str(one.intent.call_id) for one in self._open_here()) or "none"
        return f"vault {self.vault} has no open proposal of call {call_id}; open: {known}"

    # --- the work ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        is_loaded = False
        while True:
            self._wake.clear()
            try:
                async with self._busy:
                    if not is_loaded:
                        await self._load()
                        is_loaded = True
                    await self._step()
            except (ChainError, StoreError) as error:
                logger.warning(
                    "proposals of vault %s wait: %s", self.vault, error,
                    extra=fields("safe_proposals_wait", vault=self.vault),
                )  # fmt: skip
                await asyncio.sleep(self._look_every_s)
                continue
            # Not `wait_for`: until Python 3.12 it swallows a cancellation that comes together with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_every_s if self._waiting else None):
                    await self._wake.wait()

    async def _load(self) -> None:
        """The proposal that a former process left open."""
        network = self._lane.network
        row = await self._book.store.fetch(proposals.open_of(network.config.id, self._adapter.address))
        if not row:
            return
        call_id = row[0]["call_id"]
        tracked = self._book.open.get(call_id)
        if tracked is None:  # its intent ended, and the process with it before this was noted
            await self._book.store.commit(proposals.end(call_id))
            return
        self._proposal = proposals.from_rows(row, await self._book.store.fetch(proposals.signatures_of(call_id)))
        self._is_complete = row[0]["state"] == "complete"

    async def _step(self) -> None:
        await self._expire_waiting()
        await self._forget_ended()
        if self._proposal is None and self._waiting:
            # In the order of the calls: their Decisions may have been stored in another one.
            await self._open(min(self._waiting, key=lambda one: one.intent.call_id))
        proposal = self._proposal
        if proposal is None:
            return
        tracked = next((one for one in self._waiting if one.intent.call_id == proposal.call_id), None)
        if tracked is None:
            return
        if self._is_complete:  # left by a former process, or what the lane signed of it can never be mined
            self._waiting.remove(tracked)
            self._lane.put(tracked)
            return
        if self._passed is None:
            self._passed = await self._look(tracked, proposal)
        if self._passed is not None:
            await self._look_for_user(tracked, proposal, self._passed)

    async def _look(self, tracked: Tracked, proposal: Proposal) -> Passed | None:
        """Whether the Safe is where it was: one node's word lets it wait, and only a quorum's changes anything."""
        block, self._safe = await self._node.fetch_state()
        verdict = judge(proposal, self._safe, self._operator, self._book.clock.now())
        if verdict != Collecting():
            self._safe = await self._node.fetch_agreed_state(block)
            verdict = judge(proposal, self._safe, self._operator, self._book.clock.now())
        match verdict:
            case Collecting():
                pass
            case Complete(signatures):
                await self._complete(tracked, signatures)
            case Overtaken(nonce):
                return Passed(block, nonce)
            case GivenUp(outcome, reason):
                await self._give_up(tracked, outcome, reason)
            case _:
                assert_never(verdict)
        return None

    async def _forget_ended(self) -> None:
        self._waiting = [one for one in self._waiting if one.intent.call_id in self._book.open]
        if self._proposal is not None and self._proposal.call_id not in self._book.open:
            await self._book.store.commit(proposals.end(self._proposal.call_id))
            self._proposal, self._is_complete, self._passed = None, False, None

    async def _expire_waiting(self) -> None:
        now = self._book.clock.now()
        current = self._proposal.call_id if self._proposal is not None else None
        for tracked in [one for one in self._waiting if one.intent.call_id != current and now >= _deadline(one)]:
            before = f"call {current} was before it" if current is not None else "the Safe could not be asked"
            await self._give_up(tracked, JobOutcome.EXPIRED, f"never shown to the Safe's owners: {before}")

    async def _open(self, tracked: Tracked) -> None:
        """Ask the owners for the first one: what they sign stands in the ledger before they see it."""
        network = self._lane.network
        block = await network.head.fetch()
        self._safe = await self._node.fetch_agreed_state(block)
        try:
            safe_tx = self._adapter.safe_tx(tracked.intent.calldata, network.config.id, self._safe.nonce)
            theirs = await self._node.fetch_agreed_hash(safe_tx, block)
        except AbiError as error:
            await self._give_up(tracked, JobOutcome.FAILED, f"no proposal: {error}")
            return
        if theirs != safe_tx.hash:  # a Safe before 1.3 has another domain
            await self._give_up(
                tracked, JobOutcome.FAILED,
                f"the Safe {self._adapter.address} would have another hash signed than we: is it older than 1.3?",
            )  # fmt: skip
            return
        proposal = Proposal(
            call_id=tracked.intent.call_id, safe_tx=safe_tx, opened_block=block.number, deadline_at=_deadline(tracked)
        )
        await self._book.store.commit(proposals.add(proposal, self._book.clock.now()))
        self._proposal, self._is_complete = proposal, False
        logger.info(
            "call %d waits for signatures of the Safe's owners", proposal.call_id,
            extra=fields("safe_proposal_opened", vault=self.vault, call=proposal.call_id,
                         plugin=tracked.intent.plugin, nonce=safe_tx.nonce, safe_tx="0x" + safe_tx.hash.hex()),
        )  # fmt: skip

    async def _complete(self, tracked: Tracked, signatures: bytes) -> None:
        intent = tracked.intent
        calldata = self._adapter.with_signatures(intent.calldata, signatures)
        now = self._book.clock.now()
        trail = audit.append(audit.completed(intent, calldata, now))
        await self._book.store.commit(proposals.complete(intent.call_id, calldata, now), trail)
        tracked.intent = replace(intent, calldata=calldata)
        self._is_complete = True
        self._waiting.remove(tracked)
        logger.info(
            "call %d has its signatures", intent.call_id,
            extra=fields("safe_proposal_complete", vault=self.vault, call=intent.call_id, plugin=intent.plugin),
        )  # fmt: skip
        self._lane.put(tracked)

    async def _look_for_user(self, tracked: Tracked, proposal: Proposal, passed: Passed) -> None:
        """The Safe's nonce is used. If it was by this very SafeTx the effect is there, once."""
        match await self._node.find_user(proposal, passed):
            case NotFinal():
                return
            case FellOut():
                self._passed = None
            case UsedBy(JobOutcome.ACTED, reason, execution):
                before = tracked.intent
                tracked.intent = replace(before, state=IntentState.FINAL)
                ended = intents.set_state(before.call_id, IntentState.FINAL, self._book.clock.now(), reason)
                try:
                    await self._book.end(tracked, Finish(JobOutcome.ACTED, reason, execution.transaction), [ended])
                except StoreError:
                    tracked.intent = before
                    raise
                self._wake.set()
            case UsedBy(outcome, reason):
                await self._give_up(tracked, outcome, reason)

    async def _give_up(self, tracked: Tracked, outcome: JobOutcome, reason: str) -> None:
        await self._book.give_up(tracked, outcome, reason)
        logger.warning(
            "call %d is not sent: %s", tracked.intent.call_id, reason,
            extra=fields("safe_proposal_ended", vault=self.vault, call=tracked.intent.call_id,
                         plugin=tracked.intent.plugin, outcome=outcome.value),
        )  # fmt: skip
        self._wake.set()

    @property
    def _operator(self) -> str:
        return self._adapter.operator

    def _open_here(self) -> list[Tracked]:
        current = self._book.open.get(self._proposal.call_id) if self._proposal is not None else None
        here = [*self._waiting, *([current] if current is not None and current not in self._waiting else [])]
        return [one for one in here if one.intent.call_id in self._book.open]


def _deadline(tracked: Tracked) -> datetime:
    return tracked.intent.deadline_at

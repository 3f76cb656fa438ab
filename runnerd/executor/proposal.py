"""A Safe's transaction that waits for its owners: whose signature counts, and when there are enough. Pure.

Used by `proposals.ProposalDesk`, which believes one node that it goes on waiting, and a quorum anything else. The
owners and the threshold may change meanwhile. Who used a nonce that is gone is `safe_verdict`'s to say.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from runnerd.chain.vaults.safe_multisig import SafeState
from runnerd.chain.vaults.safe_tx import SafeTx, SignatureRefused, assemble, pre_validated, recover_owner
from runnerd.executor.wanted import Intent
from runnerd.store.calls import JobOutcome


@dataclass(frozen=True, slots=True)
class Approval:
    """An owner's signature, as a Safe wants it."""

    owner: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What the owners are asked to sign for one call, and who has."""

    call_id: int
    safe_tx: SafeTx
    opened_block: int
    deadline_at: datetime
    approvals: tuple[Approval, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """A proposal as the operator sees it. `proposal` is None while it waits for the one before it."""

    intent: Intent
    deadline_at: datetime
    proposal: Proposal | None
    safe: SafeState | None
    signed_by: tuple[str, ...]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Collecting:
    """It goes on waiting."""


@dataclass(frozen=True, slots=True)
class Complete:
    """Enough: `signatures` as execTransaction takes them."""

    signatures: bytes


@dataclass(frozen=True, slots=True)
class Overtaken:
    """The Safe's nonce is used: by another transaction, or by this very one, sent by somebody else."""

    nonce: int


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It ends without being sent."""

    outcome: JobOutcome
    reason: str


Verdict: TypeAlias = Collecting | Complete | Overtaken | GivenUp


def judge(proposal: Proposal, safe: SafeState, operator: str, now: datetime) -> Verdict:
    """What to do with it now. What is complete in time is sent, even when the deadline passes in the same moment.

    While the Safe is at a lower nonce (a reorg took a transaction back) it would refuse what is complete.
    """
    if safe.nonce > proposal.safe_tx.nonce:
        return Overtaken(safe.nonce)
    counted = signatures_that_count(proposal, safe, operator)
    if now >= proposal.deadline_at:
        reason = f"{len(counted)} of {safe.threshold} signatures of the Safe's owners came before its deadline"
        return GivenUp(JobOutcome.EXPIRED, reason)
    if safe.nonce < proposal.safe_tx.nonce or len(counted) < safe.threshold:
        return Collecting()
    # The operator's own first: with it in the bundle nobody else can send the transaction.
    chosen = sorted(counted, key=lambda owner: owner != operator)[: safe.threshold]
    return Complete(assemble({owner: counted[owner] for owner in chosen}))


def signatures_that_count(proposal: Proposal, safe: SafeState, operator: str) -> dict[str, bytes]:
    """By owner. The operator's approval is that it sends the transaction, if it is an owner."""
    counted = {approval.owner: approval.signature for approval in proposal.approvals if approval.owner in safe.owners}
    if operator in safe.owners:
        counted[operator] = pre_validated(operator)
    return counted


def check_signature(proposal: Proposal, safe: SafeState, operator: str, signature: bytes) -> Approval:
    """The approval that `signature` is. Raises SignatureRefused: foreign, twice, or not of this transaction."""
    owner, normal = recover_owner(proposal.safe_tx.hash, signature)
    if owner not in safe.owners:
        raise SignatureRefused(
            f"the signature is by {owner}, who is no owner of the Safe: or it is of another transaction than "
            f"0x{proposal.safe_tx.hash.hex()}; owners: {', '.join(sorted(safe.owners))}"
        )
    if owner == operator:
        raise SignatureRefused(f"{owner} is our operator: its approval counts already, by sending the transaction")
    if any(approval.owner == owner for approval in proposal.approvals):
        raise SignatureRefused(f"{owner} has signed this transaction already")
    return Approval(owner, normal)

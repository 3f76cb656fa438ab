"""When a proposal goes on waiting, is complete, is overtaken, or ends: every combination of what decides it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32

from runnerd.chain.address import checksum_address
from runnerd.chain.vaults.multisend import Operation
from runnerd.chain.vaults.safe_multisig import SafeState
from runnerd.chain.vaults.safe_tx import SafeTx, SignatureRefused, pre_validated
from runnerd.executor.proposal import (
    Approval,
    Collecting,
    Complete,
    GivenUp,
    Overtaken,
    Proposal,
    check_signature,
    judge,
)
from runnerd.store.calls import JobOutcome

PEOPLE = [Account.from_key(bytes([number]) * 32) for number in range(1, 4)]
ADA, BEN, EVE = PEOPLE
OPERATOR = Account.from_key(b"\x09" * 32).address
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SAFE_TX = SafeTx(
    chain_id=1, safe=checksum_address("0x" + "5a" * 20), to=checksum_address("0x" + "4e" * 20), value_wei=0, data=b"",
    operation=Operation.CALL, nonce=7,
)  # fmt: skip
PROPOSAL = Proposal(call_id=1, safe_tx=SAFE_TX, opened_block=1, deadline_at=NOW + timedelta(seconds=60))


def signature(account: LocalAccount, tx: SafeTx = SAFE_TX) -> bytes:
    """As an owner's wallet makes it."""
    return bytes(account.unsafe_sign_hash(Hash32(tx.hash)).signature)


def approved(*accounts: LocalAccount) -> Proposal:
    """With the signatures of these."""
    return replace(PROPOSAL, approvals=tuple(Approval(each.address, signature(each)) for each in accounts))


@pytest.mark.parametrize(
    "signed, threshold, is_owner, is_late, has_moved", list(product(range(4), (1, 2, 3, 4), *[(False, True)] * 3))
)
def test_verdict_follows_from_nonce_signatures_and_deadline(
    signed: int, threshold: int, is_owner: bool, is_late: bool, has_moved: bool
) -> None:
    """In this order: a nonce that is gone, the deadline, then how many of the owners have signed."""
    owners = {each.address for each in PEOPLE} | ({OPERATOR} if is_owner else set())
    safe = SafeState(8 if has_moved else 7, threshold, frozenset(owners))
    verdict = judge(approved(*PEOPLE[:signed]), safe, OPERATOR, NOW + timedelta(seconds=60 if is_late else 59))

    count = signed + is_owner
    if has_moved:
        assert verdict == Overtaken(8)
    elif is_late:
        assert isinstance(verdict, GivenUp)
        assert verdict.outcome is JobOutcome.EXPIRED
        assert f"{count} of {threshold} signatures" in verdict.reason
    elif count < threshold:
        assert verdict == Collecting()
    else:
        assert isinstance(verdict, Complete)
        assert len(verdict.signatures) == 65 * threshold
        assert (pre_validated(OPERATOR) in verdict.signatures) == is_owner


def test_signature_of_one_who_is_no_owner_any_more_does_not_count() -> None:
    """Owners may change while a proposal waits."""
    proposal = approved(ADA, BEN)
    assert judge(proposal, SafeState(7, 2, frozenset({ADA.address, EVE.address})), OPERATOR, NOW) == Collecting()
    assert isinstance(judge(proposal, SafeState(7, 2, frozenset({ADA.address, BEN.address})), OPERATOR, NOW), Complete)


def test_complete_proposal_waits_while_the_safe_is_at_a_lower_nonce() -> None:
    """After a reorg: sent now it would revert. It is no reason to go on beyond the deadline."""
    behind = SafeState(6, 2, frozenset({ADA.address, BEN.address}))
    assert judge(approved(ADA, BEN), behind, OPERATOR, NOW) == Collecting()
    assert isinstance(judge(approved(ADA, BEN), behind, OPERATOR, PROPOSAL.deadline_at), GivenUp)


def test_signature_is_refused_with_its_reason() -> None:
    """Foreign, of another transaction, given before, or by the operator, whose own counts already."""
    safe = SafeState(7, 2, frozenset({ADA.address, BEN.address, OPERATOR}))
    assert check_signature(PROPOSAL, safe, OPERATOR, signature(ADA)) == Approval(ADA.address, signature(ADA))
    refused = {
        f"{EVE.address}, who is no owner": (PROPOSAL, signature(EVE)),
        "of another transaction": (PROPOSAL, signature(ADA, replace(SAFE_TX, nonce=8))),
        f"{ADA.address} has signed this transaction already": (approved(ADA), signature(ADA)),
        "is our operator": (PROPOSAL, signature(Account.from_key(b"\x09" * 32))),
    }
    for reason, (proposal, given) in refused.items():
        with pytest.raises(SignatureRefused, match=reason):
            check_signature(proposal, safe, OPERATOR, given)

"""Who used a Safe's nonce: what proves that it was our SafeTx, what that it was another, and what proves nothing."""

from itertools import product
from typing import Any

import pytest

from runnerd.chain.errors import RpcMalformed
from runnerd.chain.types import Block
from runnerd.executor.proposal import Proposal
from runnerd.executor.safe_verdict import (
    EXECUTION_FAILURE,
    EXECUTION_SUCCESS,
    Execution,
    FellOut,
    Passed,
    Unexplained,
    UsedBy,
    decode_executions,
    find_user,
    is_in_receipt,
)
from runnerd.store.calls import JobOutcome
from tests.executor.test_proposal import NOW, SAFE_TX

SAFE = SAFE_TX.safe
OURS = "0x" + SAFE_TX.hash.hex()
THEIRS, THEIRS_TOO = "0x" + "aa" * 32, "0x" + "bb" * 32
OPENED = 100
PROPOSAL = Proposal(call_id=1, safe_tx=SAFE_TX, opened_block=OPENED, deadline_at=NOW)
BLOCK_HASH = "0x" + "0b" * 32


def passed(used: int = 1) -> Passed:
    """So many nonces from the proposal's on are used."""
    block = Block(number=120, hash=BLOCK_HASH, timestamp=0, base_fee_wei=None, gas_limit=1)
    return Passed(block, SAFE_TX.nonce + used)


def execution(safe_tx_hash: str, block: int = 110, *, is_success: bool = True) -> Execution:
    """Of a SafeTx, in a transaction that is called after its block."""
    return Execution(safe_tx_hash, is_success, f"0x{block:064x}", block)


@pytest.mark.parametrize("used, shown, is_ours", list(product((1, 2, 3), (0, 1, 2, 3), (False, True))))
def test_absence_is_proven_by_as_many_others_as_nonces_have_passed(used: int, shown: int, is_ours: bool) -> None:
    """Our own hash is proof alone; without it, fewer executions than nonces that passed prove nothing at all."""
    others = [execution(THEIRS, 110 + i) for i in range(shown)]
    user = find_user(PROPOSAL, passed(used), BLOCK_HASH, [*others, *([execution(OURS, 119)] if is_ours else [])])
    if is_ours:
        assert isinstance(user, UsedBy)
        assert (user.outcome, user.execution) == (JobOutcome.ACTED, execution(OURS, 119))
    elif shown < used:
        assert isinstance(user, Unexplained)
        assert f"{shown} of {used} executions are to be seen in blocks 101 to 120" in user.reason
    else:
        assert isinstance(user, UsedBy)
        assert user.outcome is JobOutcome.FAILED
        assert f"moved on to {7 + used}: another transaction took 7, {others[shown - used].transaction}" in user.reason


def test_executions_from_before_the_proposal_explain_nothing() -> None:
    """They used lower nonces. Only our own hash counts there: after a reorg it may stand in such a block."""
    before = [execution(THEIRS, OPENED), execution(THEIRS_TOO, OPENED - 1)]
    assert isinstance(find_user(PROPOSAL, passed(), BLOCK_HASH, before), Unexplained)
    ours = execution(OURS, OPENED - 1)
    user = find_user(PROPOSAL, passed(), BLOCK_HASH, [*before, ours])
    assert isinstance(user, UsedBy)
    assert user.execution == ours


def test_nothing_is_concluded_from_a_block_that_fell_out() -> None:
    """Whatever the logs of the new chain say: the nonce that had passed was the old one's."""
    for executions in ([], [execution(OURS)], [execution(THEIRS)]):
        assert find_user(PROPOSAL, passed(), "0x" + "0c" * 32, executions) == FellOut()


def test_execution_of_ours_that_failed_is_no_effect() -> None:
    """ExecutionFailure uses the nonce up; the call says who sent it."""
    user = find_user(PROPOSAL, passed(), BLOCK_HASH, [execution(OURS, is_success=False)])
    assert isinstance(user, UsedBy)
    assert user.outcome is JobOutcome.FAILED
    assert "sent by somebody else, and it failed: 0x" in user.reason


def wire_log(topics: list[str], data: str, address: str = SAFE, block: int = 110) -> dict[str, Any]:
    """A log as eth_getLogs and a receipt have it, with a field that nobody reads."""
    return {
        "address": address.lower(), "topics": topics, "data": data, "blockNumber": hex(block),
        "transactionHash": f"0x{block:064X}".replace("X", "x"), "blockTimestamp": "0x1",
    }  # fmt: skip


PAYMENT = "00" * 32
NEW = wire_log([EXECUTION_SUCCESS, OURS.upper().replace("X", "x")], "0x" + PAYMENT)
OLD = wire_log([EXECUTION_SUCCESS], OURS + PAYMENT)
FAILED = wire_log([EXECUTION_FAILURE, OURS], "0x" + PAYMENT)


def test_events_of_all_versions_are_read_and_those_of_others_are_not() -> None:
    """1.3 has the hash in the data, later ones in a topic. A node that filters badly names no stranger's event."""
    foreign = wire_log([EXECUTION_SUCCESS, OURS], "0x", address="0x" + "77" * 20)
    answer: Any = [NEW, OLD, FAILED, foreign, wire_log(["0x" + "11" * 32, OURS], "0x"), wire_log([], "0x")]
    success = execution(OURS)
    assert decode_executions(answer, SAFE) == (success, success, execution(OURS, is_success=False))


@pytest.mark.parametrize("answer", [None, {}, "0x", [None], [{}], [NEW | {"blockNumber": "1"}], [NEW] * 1_001])
def test_odd_logs_are_refused(answer: Any) -> None:
    """They are no vote: not the same as no logs."""
    with pytest.raises(RpcMalformed):
        decode_executions(answer, SAFE)


def test_receipt_has_to_show_the_execution_at_the_same_place() -> None:
    """Of that transaction, in that block, successful, and with the event itself."""
    receipt: dict[str, Any] = {
        "transactionHash": execution(OURS).transaction, "blockNumber": hex(110), "blockHash": BLOCK_HASH,
        "status": "0x1", "gasUsed": "0x1", "effectiveGasPrice": "0x1", "logs": [NEW],
    }  # fmt: skip
    assert is_in_receipt(receipt, execution(OURS), SAFE)
    assert is_in_receipt(receipt | {"logs": [OLD]}, execution(OURS), SAFE)
    changes: list[dict[str, Any]] = [
        {"logs": []}, {"logs": [FAILED]}, {"status": "0x0"}, {"blockNumber": "0x1"}, {"transactionHash": THEIRS},
        {"logs": [wire_log([EXECUTION_SUCCESS, THEIRS], "0x")]},
    ]  # fmt: skip
    for change in changes:
        assert not is_in_receipt(receipt | change, execution(OURS), SAFE), change
    assert not is_in_receipt(None, execution(OURS), SAFE)

"""Who used a Safe's nonce: what a quorum says of the chain up to a final block, and what that proves. Pure.

Used by `safe_node.SafeNode`. A nonce that has passed does not say by whom. That it was our SafeTx is proven by the
Safe's own event with our hash; that it was not, by as many others as nonces have passed: no events prove nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from eth_hash.auto import keccak
from msgspec import Meta

from runnerd.chain.errors import RpcMalformed, printable
from runnerd.chain.json_values import JsonValue
from runnerd.chain.logs import Log, decode_logs
from runnerd.chain.types import Block, Count, Hash, decode_receipt
from runnerd.executor.proposal import Proposal
from runnerd.store.calls import JobOutcome

EXECUTION_SUCCESS: Final = "0x" + keccak(b"ExecutionSuccess(bytes32,uint256)").hex()
EXECUTION_FAILURE: Final = "0x" + keccak(b"ExecutionFailure(bytes32,uint256)").hex()
"""A Safe writes one of the two for every nonce that it uses: 1.3 with the hash in the data, 1.4.1 with it indexed."""
MAX_LOGS: Final = 1_000
"""In one answer: a Safe that executes in every block of a page has as many."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A quorum says that after `block` the Safe's next nonce was `nonce`, which is higher than the proposal's."""

    block: Block
    nonce: int


@dataclass(frozen=True, slots=True)
class Execution:
    """A SafeTx that the Safe carried out, and the transaction that did it. Hashes are in lower case."""

    safe_tx_hash: str
    is_success: bool
    transaction: str
    block: int


@dataclass(frozen=True, slots=True)
class NotFinal:
    """Nothing is proven yet: look again at the next block."""


@dataclass(frozen=True, slots=True)
class FellOut:
    """The block of `Passed` is not in the chain any more: what was seen there is worth nothing."""


@dataclass(frozen=True, slots=True)
class Unexplained:
    """The nodes do not show who used the nonces. It proves nothing, whoever agrees on it."""

    reason: str


@dataclass(frozen=True, slots=True)
class UsedBy:
    """Our SafeTx, whoever sent it (`acted`, or `failed` if it failed), or another one (`failed`): ours never will be.

    `outcome` and `reason` are those of the call.
    """

    outcome: JobOutcome
    reason: str
    execution: Execution


class _WireLog(Log, frozen=True, rename="camel"):
    transaction_hash: Hash
    block_number: Count


def find_user(
    proposal: Proposal, passed: Passed, block_hash: str, executions: Sequence[Execution]
) -> FellOut | Unexplained | UsedBy:
    """Who used the proposal's nonce, by what a quorum says when the block of `passed` is final.

    `block_hash` is of the block that has its number now, `executions` are all up to it, oldest first.
    """
    if block_hash != passed.block.hash:
        return FellOut()
    nonce, wanted = proposal.safe_tx.nonce, "0x" + proposal.safe_tx.hash.hex()
    ours = next((each for each in executions if each.safe_tx_hash == wanted), None)
    if ours is not None:
        how = f"the Safe carried it out in block {ours.block}, sent by somebody else"
        if ours.is_success:
            return UsedBy(JobOutcome.ACTED, how, ours)
        return UsedBy(JobOutcome.FAILED, f"{how}, and it failed: {ours.transaction}", ours)
    # The proposal has the nonce that the Safe had after `opened_block`.
    later = [each for each in executions if each.block > proposal.opened_block]
    used = passed.nonce - nonce
    moved = f"the Safe's nonce moved on to {passed.nonce}"
    if len(later) < used:
        where = f"in blocks {proposal.opened_block + 1} to {passed.block.number}"
        return Unexplained(f"{moved} from {nonce}, and {len(later)} of {used} executions are to be seen {where}")
    other = later[-used]
    reason = f"{moved}: another transaction took {nonce}, {other.transaction} in block {other.block}"
    return UsedBy(JobOutcome.FAILED, reason, other)


def decode_executions(answer: JsonValue, safe: str) -> tuple[Execution, ...]:
    """The executions in an answer to eth_getLogs, in its order. Raises RpcMalformed."""
    try:
        logs = msgspec.convert(answer, Annotated[tuple[_WireLog, ...], Meta(max_length=MAX_LOGS)])
    except (msgspec.ValidationError, RecursionError) as error:
        raise RpcMalformed(printable(str(error)), method="eth_getLogs") from None
    return tuple(
        Execution(*event, log.transaction_hash.lower(), int(log.block_number, 16))
        for log in logs
        if (event := _event(log, safe)) is not None
    )


def is_in_receipt(answer: JsonValue, execution: Execution, safe: str) -> bool:
    """Whether the receipt of its transaction shows this execution as well. Raises RpcMalformed."""
    receipt = decode_receipt(answer)
    if receipt is None or receipt.status != 1:
        return False
    place = (receipt.transaction_hash, receipt.block_number)
    events = [_event(log, safe) for log in decode_logs(answer)]
    return place == (execution.transaction, execution.block) and (
        (execution.safe_tx_hash, execution.is_success) in events
    )


def _event(log: Log, safe: str) -> tuple[str, bool] | None:
    """The hash of the SafeTx, and whether it succeeded; None for any other log."""
    name = log.topics[0].lower() if log.topics else ""
    if log.address.lower() != safe.lower() or name not in (EXECUTION_SUCCESS, EXECUTION_FAILURE):
        return None
    named = log.topics[1] if len(log.topics) > 1 else log.data[:66]
    return named.lower(), name == EXECUTION_SUCCESS

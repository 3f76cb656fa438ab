"""Statements about Safe transactions that wait for their owners' signatures, and about the signatures."""

from datetime import datetime
from decimal import Decimal

from runnerd.chain.vaults.multisend import Operation
from runnerd.chain.vaults.safe_tx import SafeTx
from runnerd.executor.proposal import Approval, Proposal
from runnerd.store.statement import Statement
from runnerd.store.store import Rows


def add(proposal: Proposal, at: datetime) -> Statement:
    """Store it before anyone is asked to sign. Refused while another one of the same Safe has not ended."""
    safe_tx = proposal.safe_tx
    return Statement(
        """
        insert into safe_proposals (call_id, chain_id, safe, safe_nonce, safe_tx_hash, "to", value_wei, data, operation,
                                    opened_block, created_at, deadline_at, state)
        values (%(call_id)s, %(chain_id)s, %(safe)s, %(safe_nonce)s, %(hash)s, %(to)s, %(value_wei)s, %(data)s,
                %(operation)s, %(opened_block)s, %(at)s, %(deadline_at)s, 'collecting')
        on conflict (call_id) do nothing
        """,
        {
            "call_id": proposal.call_id,
            "chain_id": safe_tx.chain_id,
            "safe": safe_tx.safe,
            "safe_nonce": safe_tx.nonce,
            "hash": "0x" + safe_tx.hash.hex(),
            "to": safe_tx.to,
            "value_wei": Decimal(safe_tx.value_wei),
            "data": safe_tx.data,
            "operation": int(safe_tx.operation),
            "opened_block": proposal.opened_block,
            "at": at,
            "deadline_at": proposal.deadline_at,
        },
    )


def add_signature(proposal: Proposal, approval: Approval, principal: str, at: datetime) -> Statement:
    """Store an owner's signature, and who brought it."""
    return Statement(
        """
        insert into safe_signatures (call_id, safe_tx_hash, owner, signature, by, at)
        values (%(call_id)s, %(hash)s, %(owner)s, %(signature)s, %(by)s, %(at)s)
        on conflict (call_id, owner) do nothing
        """,
        {
            "call_id": proposal.call_id,
            "hash": "0x" + proposal.safe_tx.hash.hex(),
            "owner": approval.owner,
            "signature": approval.signature,
            "by": principal,
            "at": at,
        },
    )


def complete(call_id: int, calldata: bytes, at: datetime) -> Statement:
    """Put the signatures into the intent's calldata and let it be signed. Rolls back unless it is still planned."""
    return Statement(
        """
        with fixed as (
            update intents set calldata = %(calldata)s, updated_at = %(at)s
            where call_id = %(call_id)s and state = 'planned'
            returning 1
        ), moved as (
            update safe_proposals set state = 'complete' where call_id = %(call_id)s and state <> 'ended' returning 1
        )
        select require((select count(*) from fixed) = 1, 'the intent is not planned any more'),
               require((select count(*) from moved) = 1, 'the proposal has ended')
        """,
        {"call_id": call_id, "calldata": calldata, "at": at},
    )


def end(call_id: int) -> Statement:
    """Its intent has ended: the Safe is free for the next one."""
    return Statement("update safe_proposals set state = 'ended' where call_id = %(id)s", {"id": call_id})


def open_of(chain_id: int, safe: str) -> Statement:
    """The proposal of a Safe that has not ended, with its state; at most one."""
    return Statement(
        "select * from safe_proposals where chain_id = %(chain_id)s and safe = %(safe)s and state <> 'ended'",
        {"chain_id": chain_id, "safe": safe},
    )


def signatures_of(call_id: int) -> Statement:
    """In the order in which they came."""
    return Statement("select owner, signature from safe_signatures where call_id = %(id)s order by at", {"id": call_id})


def from_rows(row: Rows, signature_rows: Rows) -> Proposal:
    """The one proposal in `row`, with its signatures."""
    (stored,) = row
    return Proposal(
        call_id=stored["call_id"],
        safe_tx=SafeTx(
            chain_id=stored["chain_id"],
            safe=stored["safe"],
            to=stored["to"],
            value_wei=int(stored["value_wei"]),
            data=bytes(stored["data"]),
            operation=Operation(stored["operation"]),
            nonce=stored["safe_nonce"],
        ),
        opened_block=stored["opened_block"],
        deadline_at=stored["deadline_at"],
        approvals=tuple(Approval(each["owner"], bytes(each["signature"])) for each in signature_rows),
    )

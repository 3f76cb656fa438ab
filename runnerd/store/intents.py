"""Statements about intents and attempts: what is wanted on chain, and every signed transaction for it."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from runnerd.chain.fees import Fees
from runnerd.executor.intent import Attempt, Intent, IntentState, Mined
from runnerd.store.statement import Statement, storable
from runnerd.store.store import Rows


def plan(intent: Intent, at: datetime) -> Statement:
    """Store the intent of a Decision, in the Decision's transaction."""
    return Statement(
        """
        insert into intents (call_id, plugin, vault, chain_id, wallet, target, calldata, value_wei, actions, state,
                             created_at, updated_at)
        values (%(call_id)s, %(plugin)s, %(vault)s, %(chain_id)s, %(wallet)s, %(target)s, %(calldata)s, %(value_wei)s,
                %(actions)s, 'planned', %(at)s, %(at)s)
        on conflict (call_id) do nothing
        """,
        {
            "call_id": intent.call_id,
            "plugin": intent.plugin,
            "vault": intent.vault,
            "chain_id": intent.chain_id,
            "wallet": intent.wallet,
            "target": intent.target,
            "calldata": intent.calldata,
            "value_wei": Decimal(intent.value_wei),
            "actions": list(intent.actions),
            "at": at,
        },
        is_independent=True,
    )


def set_state(call_id: int, state: IntentState, at: datetime, reason: str | None = None) -> Statement:
    """Move an intent; an ended one stays as it is."""
    return Statement(
        """
        update intents set state = %(state)s, updated_at = %(at)s, reason = coalesce(%(reason)s, reason)
        where call_id = %(call_id)s and state not in ('final', 'reverted', 'denied')
        """,
        {"call_id": call_id, "state": state.value, "at": at, "reason": storable(reason) if reason else None},
        is_independent=True,
    )


_ADD_ATTEMPT: Final = """
    insert into attempts (hash, call_id, nonce, raw, max_fee_per_gas_wei, max_priority_fee_wei, gas_limit, signed_at,
                          signed_block)
    values (%(hash)s, %(call_id)s, %(nonce)s, %(raw)s, %(max_fee)s, %(max_priority)s, %(gas_limit)s, %(at)s, %(block)s)
    on conflict (hash) do nothing
"""


def allot_nonce(intent: Intent, nonce: int, attempt: Attempt, at: datetime) -> Statement:
    """Give `nonce` to the intent, move the wallet on, and store the bytes that were signed with it.

    Rolls the commit back unless wallet and intent were as we thought.
    """
    return Statement(
        f"""
        with moved as (
            update wallets set next_nonce = %(nonce)s + 1
            where chain_id = %(chain_id)s and address = %(wallet)s and next_nonce in (%(nonce)s, %(nonce)s + 1)
            returning 1
        ), allotted as (
            update intents set state = 'signed', nonce = %(nonce)s, updated_at = %(at)s
            where call_id = %(call_id)s and (nonce is null or nonce = %(nonce)s)
            returning 1
        ), stored as ({_ADD_ATTEMPT})
        select require((select count(*) from moved) = 1, 'the wallet''s next nonce is not what this process thinks'),
               require((select count(*) from allotted) = 1, 'the intent has another nonce')
        """,  # noqa: S608  # a constant
        {
            "chain_id": intent.chain_id,
            "wallet": intent.wallet,
            **_attempt_parameters(intent.call_id, nonce, attempt, at),
        },
    )


def add_attempt(call_id: int, nonce: int, attempt: Attempt, at: datetime) -> Statement:
    """Store the signed bytes of a replacement. Always before they are broadcast."""
    return Statement(_ADD_ATTEMPT, _attempt_parameters(call_id, nonce, attempt, at))


def _attempt_parameters(call_id: int, nonce: int, attempt: Attempt, at: datetime) -> dict[str, object]:
    return {
        "hash": attempt.hash,
        "call_id": call_id,
        "nonce": nonce,
        "raw": attempt.raw,
        "max_fee": Decimal(attempt.fees.max_fee_per_gas_wei),
        "max_priority": Decimal(attempt.fees.max_priority_fee_per_gas_wei),
        "gas_limit": attempt.gas_limit,
        "at": at,
        "block": attempt.signed_block,
    }


def accepted(tx_hash: str, at: datetime) -> Statement:
    """A node has it."""
    return Statement(
        "update attempts set accepted_at = coalesce(accepted_at, %(at)s), error = null where hash = %(hash)s",
        {"hash": tx_hash, "at": at},
        is_independent=True,
    )


def send_error(tx_hash: str, error: str) -> Statement:
    """What the node said when it did not take it; for the operator, it decides nothing."""
    return Statement(
        "update attempts set error = %(error)s where hash = %(hash)s", {"hash": tx_hash, "error": storable(error)}
    )


def mined(observation: Mined) -> Statement:
    """Where an attempt was included."""
    return Statement(
        """
        update attempts set included_block = %(block)s, included_block_hash = %(block_hash)s,
                            is_success = %(is_success)s, gas_used = %(gas_used)s, effective_gas_price_wei = %(price)s
        where hash = %(hash)s
        """,
        {
            "hash": observation.hash,
            "block": observation.block,
            "block_hash": observation.block_hash,
            "is_success": observation.is_success,
            "gas_used": observation.gas_used,
            "price": Decimal(observation.effective_gas_price_wei),
        },
        is_independent=True,
    )


def fell_out(call_id: int) -> Statement:
    """An included attempt is in no block any more (reorg)."""
    return Statement(
        """
        update attempts set included_block = null, included_block_hash = null, is_success = null
        where call_id = %(call_id)s and included_block is not null
        """,
        {"call_id": call_id},
    )


def open_intents() -> Statement:
    """Intents that have not ended, in the order of their calls: where a restart goes on."""
    return Statement("select * from intents where state not in ('final', 'reverted', 'denied') order by call_id")


def attempts_of(call_ids: Sequence[int]) -> Statement:
    """All attempts of some intents, oldest first: by the fee, which rises with each; a clock may be set back."""
    return Statement(
        "select * from attempts where call_id = any(%(ids)s) order by call_id, max_fee_per_gas_wei",
        {"ids": list(call_ids)},
    )


def calls_of(call_ids: Sequence[int]) -> Statement:
    """The calls of some intents."""
    return Statement("select * from job_calls where id = any(%(ids)s)", {"ids": list(call_ids)})


def wallet(chain_id: int, address: str) -> Statement:
    """The nonce that the ledger would give next."""
    return Statement(
        "select next_nonce from wallets where chain_id = %(chain_id)s and address = %(address)s",
        {"chain_id": chain_id, "address": address},
    )


def set_wallet(chain_id: int, address: str, next_nonce: int) -> Statement:
    """Start a wallet's ledger, or move it past transactions that are not ours. Never back."""
    return Statement(
        """
        insert into wallets (chain_id, address, next_nonce) values (%(chain_id)s, %(address)s, %(next)s)
        on conflict (chain_id, address) do update set next_nonce = greatest(wallets.next_nonce, excluded.next_nonce)
        """,
        {"chain_id": chain_id, "address": address, "next": next_nonce},
    )


def recent_transactions(limit: int) -> Statement:
    """The last attempts with their intents, newest first."""
    return Statement(
        """
        select a.*, i.plugin, i.vault, i.state, i.value_wei, i.target, i.wallet, i.chain_id from attempts a
        join intents i on i.call_id = a.call_id order by a.signed_at desc limit %(limit)s
        """,
        {"limit": limit},
    )


def from_rows(intent_rows: Rows, attempt_rows: Rows) -> list[Intent]:
    """Intents with their attempts, as they stand in the tables."""
    attempts: dict[int, list[Attempt]] = {}
    for row in attempt_rows:
        attempts.setdefault(row["call_id"], []).append(
            Attempt(
                hash=row["hash"],
                raw=bytes(row["raw"]),
                fees=Fees(
                    max_fee_per_gas_wei=int(row["max_fee_per_gas_wei"]),
                    max_priority_fee_per_gas_wei=int(row["max_priority_fee_wei"]),
                ),
                gas_limit=row["gas_limit"],
                signed_block=row["signed_block"],
                is_accepted=row["accepted_at"] is not None,
            )
        )
    return [
        Intent(
            call_id=row["call_id"],
            plugin=row["plugin"],
            vault=row["vault"],
            chain_id=row["chain_id"],
            wallet=row["wallet"],
            target=row["target"],
            calldata=bytes(row["calldata"]),
            value_wei=int(row["value_wei"]),
            actions=tuple(row["actions"]),
            state=IntentState(row["state"]),
            nonce=row["nonce"],
            attempts=tuple(attempts.get(row["call_id"], ())),
        )
        for row in intent_rows
    ]

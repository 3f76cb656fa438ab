"""Statements about intents and attempts: what is wanted on chain, and every signed transaction for it."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, LiteralString

from psycopg.rows import DictRow

from runnerd.chain.fees import Fees
from runnerd.executor.observation import Mined
from runnerd.executor.wanted import Attempt, AttemptKind, Cancellation, Intent, IntentState, Route
from runnerd.store.statement import Statement, storable
from runnerd.store.store import Rows

_ENDED: Final = "('final', 'reverted', 'denied', 'expired', 'cancelled')"


def plan(intent: Intent, at: datetime) -> Statement:
    """Store the intent of a Decision, in the Decision's transaction."""
    return Statement(
        """
        insert into intents (call_id, plugin, vault, chain_id, wallet, target, calldata, value_wei, actions, state,
                             deadline_at, route, max_fee_per_gas_wei, created_at, updated_at)
        values (%(call_id)s, %(plugin)s, %(vault)s, %(chain_id)s, %(wallet)s, %(target)s, %(calldata)s, %(value_wei)s,
                %(actions)s, 'planned', %(deadline_at)s, %(route)s, %(max_fee)s, %(at)s, %(at)s)
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
            "deadline_at": intent.deadline_at,
            "route": intent.route.value,
            "max_fee": None if intent.max_fee_per_gas_wei is None else Decimal(intent.max_fee_per_gas_wei),
            "at": at,
        },
        is_independent=True,
    )


def set_state(call_id: int, state: IntentState, at: datetime, reason: str | None = None) -> Statement:
    """Move an intent; an ended one stays as it is."""
    return Statement(
        f"""
        update intents set state = %(state)s, updated_at = %(at)s, reason = coalesce(%(reason)s, reason)
        where call_id = %(call_id)s and state not in {_ENDED}
        """,  # noqa: S608  # a constant
        {"call_id": call_id, "state": state.value, "at": at, "reason": storable(reason) if reason else None},
        is_independent=True,
    )


def give_up(call_id: int, state: IntentState, at: datetime, reason: str) -> Statement:
    """End an intent of which nothing that is signed can take effect. Rolls the commit back if it has a nonce."""
    return Statement(
        f"""
        with ended as (
            update intents set state = %(state)s, updated_at = %(at)s, reason = %(reason)s
            where call_id = %(call_id)s and nonce is null and state not in {_ENDED} returning 1
        )
        select require((select nonce is null from intents where call_id = %(call_id)s), 'the intent was signed')
        """,  # noqa: S608  # a constant
        {"call_id": call_id, "state": state.value, "at": at, "reason": storable(reason)},
    )


_ADD_ATTEMPTS: LiteralString = """
    insert into attempts (hash, call_id, nonce, raw, max_fee_per_gas_wei, max_priority_fee_wei, gas_limit, signed_at,
                          signed_block, kind)
    select hash, call_id, nonce, raw, max_fee, max_priority, gas_limit, %(at)s, signed_block, kind from given
    on conflict (hash) do nothing
"""
_GIVEN: LiteralString = """
    given as (select * from unnest(
        %(call_ids)s::bigint[], %(nonces)s::bigint[], %(hashes)s::text[], %(raws)s::bytea[], %(max_fees)s::numeric[],
        %(max_priorities)s::numeric[], %(gas_limits)s::bigint[], %(signed_blocks)s::bigint[], %(kinds)s::text[]
    ) as given (call_id, nonce, hash, raw, max_fee, max_priority, gas_limit, signed_block, kind))
"""


def allot_nonces(intents: Sequence[Intent], first_nonce: int, attempts: Sequence[Attempt], at: datetime) -> Statement:
    """Give the nonces from `first_nonce` on to these intents of one wallet, and store what was signed with them.

    Moves the wallet on. Rolls the commit back unless wallet and intents were as we thought. Run again it finds its own.
    """
    return Statement(
        f"""
        with {_GIVEN}, before as (
            select (select next_nonce from wallets
                    where chain_id = %(chain_id)s and address = %(wallet)s) as next_nonce,
                   (select count(*) from intents join given using (call_id, nonce)) as allotted
        ), moved as (
            update wallets set next_nonce = %(next)s
            where chain_id = %(chain_id)s and address = %(wallet)s and next_nonce in (%(first)s, %(next)s)
            returning 1
        ), allotted as (
            update intents set state = 'signed', nonce = given.nonce, updated_at = %(at)s from given
            where intents.call_id = given.call_id and (intents.nonce is null or intents.nonce = given.nonce)
              and intents.cancel_as is null and intents.state in ('planned', 'signed')
            returning 1
        ), stored as ({_ADD_ATTEMPTS})
        select require((select count(*) from moved) = 1
                       and (select next_nonce = %(first)s or allotted = %(count)s from before),
                       'the wallet''s next nonce is not what this process thinks'),
               require((select count(*) from allotted) = %(count)s, 'an intent has another nonce, or has ended')
        """,  # noqa: S608  # constants
        {
            "chain_id": intents[0].chain_id,
            "wallet": intents[0].wallet,
            "first": first_nonce,
            "next": first_nonce + len(intents),
            "count": len(intents),
            **_given(intents, range(first_nonce, first_nonce + len(intents)), attempts, at),
        },
    )


def add_attempt(intent: Intent, attempt: Attempt, at: datetime, cancellation: Cancellation | None = None) -> Statement:
    """Store the signed bytes of a replacement, always before they are broadcast; of a no-op with why.

    Rolls the commit back unless the intent is open and has this nonce, and nothing but no-ops follows a cancellation.
    """
    assert intent.nonce is not None  # it was signed before
    is_noop = attempt.kind is AttemptKind.NOOP
    return Statement(
        f"""
        with {_GIVEN}, touched as (
            update intents set updated_at = %(at)s, cancel_as = coalesce(cancel_as, %(cancel_as)s),
                               cancel_reason = coalesce(cancel_reason, %(cancel_reason)s)
            where call_id = %(call_id)s and nonce = %(nonce)s and state not in {_ENDED}
              and (%(is_noop)s or cancel_as is null)
            returning 1
        ), stored as ({_ADD_ATTEMPTS})
        select require((select count(*) from touched) = 1, 'the intent has another nonce, is cancelled or has ended')
        """,  # noqa: S608  # constants
        {
            "call_id": intent.call_id,
            "nonce": intent.nonce,
            "is_noop": is_noop,
            "cancel_as": cancellation.ending.value if cancellation else None,
            "cancel_reason": storable(cancellation.reason) if cancellation else None,
            **_given([intent], [intent.nonce], [attempt], at),
        },
    )


def _given(
    intents: Sequence[Intent], nonces: Sequence[int], attempts: Sequence[Attempt], at: datetime
) -> dict[str, object]:
    return {
        "call_ids": [intent.call_id for intent in intents],
        "nonces": list(nonces),
        "hashes": [attempt.hash for attempt in attempts],
        "raws": [attempt.raw for attempt in attempts],
        "max_fees": [Decimal(attempt.fees.max_fee_per_gas_wei) for attempt in attempts],
        "max_priorities": [Decimal(attempt.fees.max_priority_fee_per_gas_wei) for attempt in attempts],
        "gas_limits": [attempt.gas_limit for attempt in attempts],
        "signed_blocks": [attempt.signed_block for attempt in attempts],
        "kinds": [attempt.kind.value for attempt in attempts],
        "at": at,
    }


def accepted(hashes: Sequence[str], at: datetime) -> Statement:
    """A node has these; intents that were only signed are sent now."""
    return Statement(
        """
        with known as (
            update attempts set accepted_at = coalesce(accepted_at, %(at)s), error = null where hash = any(%(hashes)s)
            returning call_id
        )
        update intents set state = 'sent', updated_at = %(at)s
        where state = 'signed' and call_id in (select call_id from known)
        """,
        {"hashes": list(hashes), "at": at},
    )


def died(call_id: int, by: str, at: datetime) -> Statement:
    """Its nonce is used for good by another transaction: its attempts can never take effect, it has no nonce now."""
    return Statement(
        """
        with dead as (update attempts set dead_by = %(by)s where call_id = %(call_id)s and dead_by is null)
        update intents set nonce = null, updated_at = %(at)s where call_id = %(call_id)s
        """,
        {"call_id": call_id, "by": by, "at": at},
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
    return Statement(f"select * from intents where state not in {_ENDED} order by call_id")  # noqa: S608


def attempts_of(call_ids: Sequence[int]) -> Statement:
    """All attempts of some intents that may take effect, oldest first: by the fee, which rises with each, no-ops last.

    Not by the time: a clock may be set back.
    """
    return Statement(
        """
        select * from attempts where call_id = any(%(ids)s) and dead_by is null
        order by call_id, kind, max_fee_per_gas_wei
        """,
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
    """Intents with their attempts, as they stand in the tables.

    None of the attempts counts as accepted: what a node said to a former process it may have forgotten since.
    """
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
                kind=AttemptKind(row["kind"]),
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
            deadline_at=row["deadline_at"],
            route=Route(row["route"]),
            max_fee_per_gas_wei=None if row["max_fee_per_gas_wei"] is None else int(row["max_fee_per_gas_wei"]),
            state=IntentState(row["state"]),
            nonce=row["nonce"],
            attempts=tuple(attempts.get(row["call_id"], ())),
            cancellation=_cancellation(row),
        )
        for row in intent_rows
    ]


def _cancellation(row: DictRow) -> Cancellation | None:
    if row["cancel_as"] is None:
        return None
    return Cancellation(IntentState(row["cancel_as"]), row["cancel_reason"])

"""Statements about transactions of the operator that this ledger did not make, and about the no-ops that fill gaps."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from psycopg.rows import DictRow

from runnerd.chain.fees import Fees
from runnerd.chain.search import FoundTransaction
from runnerd.store.statement import Statement

MAX_UNNAMED = 1_000
"""Strangers that are written down at once: a key that somebody else used for years is not ours to list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filler:
    """A signed no-op for a nonce that nothing else will use."""

    hash: str
    nonce: int
    raw: bytes
    fees: Fees
    signed_block: int


def seen(chain_id: int, wallet: str, nonce: int, found: FoundTransaction | None, at: datetime) -> Statement:
    """A nonce of the wallet is used by a stranger; named at once or later. Who adopted it stays.

    Unless a reorg put another one in its place: that one nobody has adopted.
    """
    return Statement(
        """
        insert into foreign_transactions (chain_id, wallet, nonce, hash, block, target, selector, value_wei, seen_at)
        values (%(chain_id)s, %(wallet)s, %(nonce)s, %(hash)s, %(block)s, %(target)s, %(selector)s, %(value)s, %(at)s)
        on conflict (chain_id, wallet, nonce) do update set
            hash = coalesce(excluded.hash, foreign_transactions.hash),
            block = coalesce(excluded.block, foreign_transactions.block),
            target = coalesce(excluded.target, foreign_transactions.target),
            selector = coalesce(excluded.selector, foreign_transactions.selector),
            value_wei = coalesce(excluded.value_wei, foreign_transactions.value_wei),
            adopted_by = case when coalesce(excluded.hash, foreign_transactions.hash) = foreign_transactions.hash
                              then foreign_transactions.adopted_by end,
            adopted_at = case when coalesce(excluded.hash, foreign_transactions.hash) = foreign_transactions.hash
                              then foreign_transactions.adopted_at end
        """,
        {
            "chain_id": chain_id,
            "wallet": wallet,
            "nonce": nonce,
            "hash": found.hash if found else None,
            "block": found.block if found else None,
            "target": found.target if found else None,
            "selector": found.selector if found else None,
            "value": Decimal(found.value_wei) if found else None,
            "at": at,
        },
    )


def used(chain_id: int, wallet: str, nonces: range, at: datetime) -> Statement:
    """These nonces of the wallet are used by strangers that have no name yet; of very many, the last ones."""
    first = max(nonces.start, nonces.stop - MAX_UNNAMED)
    return Statement(
        """
        insert into foreign_transactions (chain_id, wallet, nonce, seen_at)
        select %(chain_id)s, %(wallet)s, nonce, %(at)s from generate_series(%(first)s::bigint, %(last)s::bigint) nonce
        on conflict (chain_id, wallet, nonce) do nothing
        """,
        {"chain_id": chain_id, "wallet": wallet, "first": first, "last": nonces.stop - 1, "at": at},
    )


def of_chain(chain_id: int) -> Statement:
    """All that were seen on a chain, by nonce."""
    return Statement(
        "select * from foreign_transactions where chain_id = %(chain_id)s order by wallet, nonce",
        {"chain_id": chain_id},
    )


def adopt(chain_id: int, tx_hash: str, by: str, at: datetime) -> Statement:
    """Somebody says that it was meant so. The row, adopted by him or by who was earlier; none if it is not known."""
    return Statement(
        """
        update foreign_transactions
        set adopted_by = coalesce(adopted_by, %(by)s), adopted_at = coalesce(adopted_at, %(at)s)
        where chain_id = %(chain_id)s and hash = %(hash)s returning *
        """,
        {"chain_id": chain_id, "hash": tx_hash, "by": by, "at": at},
    )


def attempts_at(chain_id: int, wallet: str, nonce: int) -> Statement:
    """What the ledger has for a nonce of a wallet that may take effect, the one that was included first."""
    return Statement(
        """
        select a.*, i.state as intent_state from attempts a join intents i using (call_id)
        where i.chain_id = %(chain_id)s and i.wallet = %(wallet)s and a.nonce = %(nonce)s and a.dead_by is null
        order by a.included_block is null, a.max_fee_per_gas_wei desc
        """,
        {"chain_id": chain_id, "wallet": wallet, "nonce": nonce},
    )


def fillers_at(chain_id: int, wallet: str, nonce: int) -> Statement:
    """The no-ops for a nonce, the dearest first."""
    return Statement(
        """
        select * from fillers where chain_id = %(chain_id)s and wallet = %(wallet)s and nonce = %(nonce)s
        order by max_fee_per_gas_wei desc
        """,
        {"chain_id": chain_id, "wallet": wallet, "nonce": nonce},
    )


def add_filler(chain_id: int, wallet: str, filler: Filler, at: datetime) -> Statement:
    """Store a signed no-op. Always before it is broadcast."""
    return Statement(
        """
        insert into fillers (hash, chain_id, wallet, nonce, raw, max_fee_per_gas_wei, max_priority_fee_wei, signed_at,
                             signed_block)
        values (%(hash)s, %(chain_id)s, %(wallet)s, %(nonce)s, %(raw)s, %(max_fee)s, %(max_priority)s, %(at)s,
                %(block)s)
        on conflict (hash) do nothing
        """,
        {
            "hash": filler.hash,
            "chain_id": chain_id,
            "wallet": wallet,
            "nonce": filler.nonce,
            "raw": filler.raw,
            "max_fee": Decimal(filler.fees.max_fee_per_gas_wei),
            "max_priority": Decimal(filler.fees.max_priority_fee_per_gas_wei),
            "at": at,
            "block": filler.signed_block,
        },
    )


def filler_from_row(row: DictRow) -> Filler:
    """The no-op in a row of `fillers`."""
    return Filler(
        hash=row["hash"],
        nonce=row["nonce"],
        raw=bytes(row["raw"]),
        fees=fees_of(row),
        signed_block=row["signed_block"],
    )


def fees_of(row: DictRow) -> Fees:
    """The fees in a row of `fillers` or `attempts`."""
    return Fees(
        max_fee_per_gas_wei=int(row["max_fee_per_gas_wei"]),
        max_priority_fee_per_gas_wei=int(row["max_priority_fee_wei"]),
    )

"""Reads the audit trail, and the tables that it must agree with, row by row: memory does not grow with the ledger.

For `runnerctl audit`, on a connection of its own: one read-only transaction, so that a running daemon changes nothing
under the reader.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from runnerd.store.audit_chain import Broken, ChainedRecord, compute_genesis

CHUNK: Final = 2_000
"""Rows that are in memory at a time."""

_RECORDS: Final = """
select seq, kind, key, call_id, body, previous_hash, hash,
       case when isfinite(at) then (extract(epoch from at) * 1000000)::bigint else -9223372036854775808 end as at_us
from audit_records
"""


def has_trail(connection: psycopg.Connection[Any]) -> bool:
    """Whether a release that keeps one has run on this ledger."""
    row = connection.execute("select to_regclass('audit_records') is not null").fetchone()
    return row is not None and bool(row[0])


def fetch_anchor(connection: psycopg.Connection[Any], from_seq: int) -> tuple[int, bytes]:
    """Number and hash of what record `from_seq` follows; 0 and the genesis for the first one. Taken as they stand."""
    if from_seq > 1:
        row = connection.execute(
            "select seq, hash from audit_records where seq < %s order by seq desc limit 1", (from_seq,)
        ).fetchone()
        if row is not None:
            return row[0], row[1]
    row = connection.execute("select id from ledger").fetchone()
    assert row is not None, "the first migration fills it"
    ledger_id: UUID = row[0]
    return 0, compute_genesis(ledger_id)


def fetch_last_call_before(connection: psycopg.Connection[Any]) -> int:
    """The last call that was there before the trail; 0 when the first record does not say."""
    row = connection.execute("select body from audit_records where kind = 'opened' order by seq limit 1").fetchone()
    last = parse_body(row[0]).get("last_call") if row else None
    return last if isinstance(last, int) else 0


def read_records(
    connection: psycopg.Connection[Any], from_seq: int, since: datetime | None = None
) -> Iterator[ChainedRecord]:
    """The records from `from_seq` on, in order; only those not older than `since`, if given."""
    sql = _RECORDS + " where seq >= %(from)s and (%(since)s::timestamptz is null or at >= %(since)s) order by seq"
    for row in _stream(connection, sql, {"from": from_seq, "since": since}):
        yield ChainedRecord(**row)


def parse_body(body: str) -> dict[str, Any]:
    """The body as an object; empty when somebody has made something else of it."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


# --- what the records and the tables say of each other ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of a table, each beside its record. Columns with `_` say which; the others must be equal in the body.

    `_seq`, `_key`, `_body`: of the record, null if there is none. `_row`: names the row, null if there is none.
    `_call`: the row's call. `_for`: the record's call, where the row's own `call_id` must be equal to it.
    `_later_seq`, `_later_key`, `_later_body`: of a later record that replaces values of the first one.
    """

    noun: str
    sql: LiteralString
    newest: LiteralString = "_seq"
    """The number of the newest record of a row: one that is older than what is verified is left out."""


COMPARISONS: Final = (
    Comparison(
        "decisions",
        """
        select r.seq as _seq, r.key as _key, r.body as _body, 'the decision of call ' || t.call_id as _row,
               t.call_id as _call, t.plugin, t.generation, t.digest, t.attempt,
               encode(sha256(convert_to(t.context, 'UTF8')), 'hex') as context_sha256,
               encode(sha256(convert_to(t.outcome, 'UTF8')), 'hex') as outcome_sha256
        from decisions t
        full join (select * from audit_records where kind = 'decision') r on r.call_id = t.call_id
        """,
    ),
    Comparison(
        "intents",
        """
        select r.seq as _seq, r.key as _key, r.body as _body, 'the intent of call ' || t.call_id as _row,
               t.call_id as _call, l.seq as _later_seq, l.key as _later_key, l.body as _later_body,
               t.plugin, t.vault, t.chain_id, t.wallet, t.target, t.value_wei,
               encode(sha256(t.calldata), 'hex') as calldata_sha256
        from intents t
        full join (select * from audit_records where kind = 'planned') r on r.call_id = t.call_id
        left join (select * from audit_records where kind = 'completed') l on l.key = 'completed:' || r.call_id
        """,
        newest="greatest(_seq, _later_seq)",
    ),
    Comparison(
        "signatures",
        """
        select r.seq as _seq, r.key as _key, r.body as _body,
               'the signature of ' || t.owner || ' for call ' || t.call_id as _row, t.call_id as _call,
               t.by as principal, t.owner, t.safe_tx_hash, encode(sha256(t.signature), 'hex') as signature_sha256
        from safe_signatures t
        full join (select * from audit_records where kind = 'signature') r
               on r.key = 'signature:' || t.call_id || ':' || t.owner
        """,
    ),
    Comparison(
        "attempts",
        """
        select r.seq as _seq, r.key as _key, r.body as _body, 'the attempt ' || t.hash as _row,
               t.call_id as _call, r.call_id as _for, t.call_id, t.hash, t.nonce, t.gas_limit, t.signed_block,
               t.max_fee_per_gas_wei, t.max_priority_fee_wei, encode(sha256(t.raw), 'hex') as raw_sha256,
               case t.kind when 'batch' then 'effect' when 'noop' then 'cancel' end as purpose
        from attempts t
        full join (select * from audit_records where kind = 'attempt' and call_id is not null) r
               on r.key = 'attempt:' || t.hash
        """,
    ),
    # Records of the same kind, of no call. A ledger that is older than its trail may hold some that have none.
    Comparison(
        "fillers",
        """
        select r.seq as _seq, r.key as _key, r.body as _body, 'the filler ' || t.hash as _row, null::bigint as _call,
               t.hash, t.chain_id, t.wallet, t.nonce, t.signed_block, t.max_fee_per_gas_wei, t.max_priority_fee_wei,
               encode(sha256(t.raw), 'hex') as raw_sha256, case when t.hash is not null then 'filler' end as purpose
        from fillers t
        full join (select * from audit_records where kind = 'attempt' and call_id is null) r
               on r.key = 'attempt:' || t.hash
        where r.seq is not null
           or t.signed_at >= (select coalesce(min(at), '-infinity') from audit_records where kind = 'opened')
        """,
    ),
    Comparison(
        "settled transactions",
        """
        select r.seq as _seq, r.key as _key, r.body as _body, 'the settled attempt ' || t.hash as _row,
               t.call_id as _call, t.hash, t.included_block as block, t.included_block_hash as block_hash, t.is_success,
               t.gas_used, t.effective_gas_price_wei
        from (select a.*, i.state from attempts a left join intents i on i.call_id = a.call_id
              where a.included_block is not null) t
        full join (select * from audit_records where kind in ('final', 'reverted')) r
               on split_part(r.key, ':', 2) = t.hash
        where r.seq is not null or t.state in ('final', 'reverted')
        """,
    ),
    Comparison(
        "results",
        """
        select r.seq as _seq, r.key as _key, r.body as _body, 'the result of call ' || t.id as _row,
               t.id as _call, t.plugin, t.outcome, t.reason
        from (select * from job_calls where state = 'done') t
        full join (select * from audit_records where kind = 'result') r on r.call_id = t.id
        """,
    ),
)


def compare(
    connection: psycopg.Connection[Any],
    comparison: Comparison,
    from_seq: int,
    last_call_before: int,
    on_broken: Callable[[Broken], None],
) -> int:
    """Tell where record and row do not agree; how many rows were compared. Rows with an older record are left out."""
    count = 0
    sql = f"select * from ({comparison.sql}) c where _seq is null or {comparison.newest} >= %(from)s"  # noqa: S608  # constants
    for row in _stream(connection, sql, {"from": from_seq}):
        count += 1
        broken = find_difference(row, last_call_before)
        if broken is not None:
            on_broken(broken)
    return count


def find_difference(row: DictRow, last_call_before: int) -> Broken | None:
    """What is wrong with a row and its record, or None. A call that is older than the trail need not have one."""
    if row["_seq"] is None:
        is_older = row["_call"] is not None and row["_call"] <= last_call_before
        return None if is_older else Broken(None, f"{row['_row']} has no record")
    name = f"record {row['_seq']} ({row['_key']})"
    if row["_row"] is None:
        return Broken(row["_seq"], f"{name} has no row in its table")
    told = {**parse_body(row["_body"]), "call_id": row.get("_for")}
    if row.get("_later_seq") is not None:
        told = _replace(told, parse_body(row["_later_body"]))
        name += f" and record {row['_later_seq']} ({row['_later_key']})"
    differing = [
        column
        for column, value in row.items()
        if not column.startswith("_") and told.get(column) != (int(value) if isinstance(value, Decimal) else value)
    ]
    if not differing:
        return None
    return Broken(row["_seq"], f"{row['_row']} is not as in {name}: {', '.join(differing)}")


def _replace(told: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """What is told after a later record: it counts for a value only if it names the one that it took the place of."""
    replaced = {
        name: value for name, value in later.items() if name in told and later.get(f"{name}_before") == told[name]
    }
    return told | replaced


def _stream(connection: psycopg.Connection[Any], sql: LiteralString, parameters: dict[str, Any]) -> Iterator[DictRow]:
    with connection.cursor(name="audit", row_factory=dict_row) as cursor:
        cursor.itersize = CHUNK
        cursor.execute(sql, parameters)
        yield from cursor

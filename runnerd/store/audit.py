"""Records of the audit trail, one builder for each kind, and the statement that appends them.

Whoever changes something appends its record in the same commit: both stand, or neither. Small values and digests, no
secret. The chain itself is made by the database, see `audit_chain`; `runnerctl audit` reads and verifies it.
"""

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from typing import Any, Final, LiteralString, TypeAlias

import msgspec

from runnerd.executor.observation import Mined
from runnerd.executor.proposal import Approval, Proposal
from runnerd.executor.wanted import Attempt, Intent
from runnerd.store.calls import JobCall, JobOutcome
from runnerd.store.decisions import DecisionRecord
from runnerd.store.foreign import Filler
from runnerd.store.statement import Bulk, Form, Statement, storable

Value: TypeAlias = str | int | bool | None
_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode
_quick: Final = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Record:
    """What happened. A second record of the same `key` is dropped: a commit may be repeated, and keeps its first one.

    `body` is canonical JSON: sorted keys, no spaces, ASCII; hashes of digests are hex without 0x.
    """

    at: datetime
    kind: str
    key: str
    call_id: int | None
    body: str


_APPEND: Final = Form(
    """
    select audit_append(%(at)s::timestamptz[], %(kind)s::text[], %(key)s::text[], %(call_id)s::bigint[],
                        %(body)s::text[])
    """,
    ("at", "kind", "key", "call_id", "body"),
)


def append(*records: Record) -> Statement:
    """Append records, in this order. Give all of one commit to one `append`: that costs one message, not several."""
    rows = [(record.at, record.kind, record.key, record.call_id, record.body) for record in records]
    sql, names = _append_sql(len(rows))
    parameters = dict(zip(names, chain.from_iterable(rows), strict=True))
    return Statement(sql, parameters, is_independent=True, is_ordered=True, bulk=Bulk(_APPEND, rows))


@lru_cache(maxsize=32)
def _append_sql(count: int) -> tuple[LiteralString, tuple[str, ...]]:
    """The statement for `count` records, and its parameters in the order of their columns."""
    assert count, "nothing to append"
    names = tuple(f"{column}_{n}" for n in range(count) for column in ("at", "kind", "key", "call", "body"))
    rows = [f"(%(at_{n})s, %(kind_{n})s, %(key_{n})s, %(call_{n})s, %(body_{n})s)" for n in range(count)]
    sql: LiteralString = f"""
        insert into audit_records (at, kind, key, call_id, body) values {", ".join(rows)} on conflict (key) do nothing
    """  # noqa: S608  # constants and numbers
    return sql, names


def head() -> Statement:
    """The last record: whoever knows its hash can prove later that everything up to it is unchanged."""
    return Statement("select seq, hash from audit_records order by seq desc limit 1")


def canonical(body: Mapping[str, Any]) -> str:
    """The one spelling of `body`."""
    # A fifth of the time of the json module, and the same where nothing has to be escaped.
    with suppress(UnicodeEncodeError):  # a lone surrogate: json has an escape for it
        quick = _quick(body).decode()
        if quick.isascii() and "\\" not in quick and "\x7f" not in quick:
            return quick
    return _canonical(body)


def digest(data: bytes | str) -> str:
    """SHA-256 in hex."""
    return sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def _record(at: datetime, kind: str, name: object, call_id: int | None, /, **body: Value) -> Record:
    return Record(at, kind, f"{kind}:{name}", call_id, canonical(body))


# --- calls -----------------------------------------------------------------------------------------------------------


def decision(record: DecisionRecord, state_writes: int) -> Record:
    """What a worker answered, and to what, by the digests of the texts in `decisions`."""
    return _record(
        record.decided_at, "decision", record.call_id, record.call_id,
        plugin=record.plugin, generation=record.generation, digest=record.digest, attempt=record.attempt,
        context_sha256=digest(record.context), outcome_sha256=digest(record.outcome), state_writes=state_writes,
    )  # fmt: skip


def denial(call: JobCall, rule: str, at: datetime) -> Record:
    """It was refused, and by which rule: of policy, or a pause."""
    return _record(at, "denial", call.id, call.id, plugin=call.plugin, rule=storable(rule))


def result(call: JobCall, outcome: JobOutcome, reason: str, transaction: str | None, at: datetime) -> Record:
    """The JobResult: the one end of a call."""
    return _record(
        at, "result", call.id, call.id,
        plugin=call.plugin, outcome=outcome.value, reason=storable(reason), transaction=transaction,
    )  # fmt: skip


# --- transactions ----------------------------------------------------------------------------------------------------


def planned(intent: Intent, at: datetime) -> Record:
    """A Decision was approved: this effect is wanted on chain."""
    return _record(
        at, "planned", intent.call_id, intent.call_id,
        plugin=intent.plugin, vault=intent.vault, chain_id=intent.chain_id, wallet=intent.wallet, target=intent.target,
        calldata_sha256=digest(intent.calldata), value_wei=intent.value_wei,
    )  # fmt: skip


def attempt(intent: Intent, nonce: int, signed: Attempt, at: datetime, purpose: str = "effect") -> Record:
    """A transaction was signed, and is about to be sent. `purpose`: `effect`, or what else a signature may be for."""
    return _record(
        at, "attempt", signed.hash, intent.call_id,
        hash=signed.hash, purpose=purpose, chain_id=intent.chain_id, wallet=intent.wallet, nonce=nonce,
        raw_sha256=digest(signed.raw), gas_limit=signed.gas_limit, signed_block=signed.signed_block,
        max_fee_per_gas_wei=signed.fees.max_fee_per_gas_wei,
        max_priority_fee_wei=signed.fees.max_priority_fee_per_gas_wei,
    )  # fmt: skip


def filler(chain_id: int, wallet: str, signed: Filler, at: datetime) -> Record:
    """A no-op was signed for a nonce that nothing else will use, and is about to be sent."""
    return _record(
        at, "attempt", signed.hash, None,
        hash=signed.hash, purpose="filler", chain_id=chain_id, wallet=wallet, nonce=signed.nonce,
        raw_sha256=digest(signed.raw), signed_block=signed.signed_block,
        max_fee_per_gas_wei=signed.fees.max_fee_per_gas_wei,
        max_priority_fee_wei=signed.fees.max_priority_fee_per_gas_wei,
    )  # fmt: skip


def signature(proposal: Proposal, approval: Approval, principal: str, at: datetime) -> Record:
    """An owner of a Safe has signed what it was shown, and who brought the signature."""
    return _record(
        at, "signature", f"{proposal.call_id}:{approval.owner}", proposal.call_id,
        principal=principal, owner=approval.owner, safe_tx_hash="0x" + proposal.safe_tx.hash.hex(),
        signature_sha256=digest(approval.signature),
    )  # fmt: skip


def completed(intent: Intent, calldata: bytes, at: datetime) -> Record:
    """Enough owners of a Safe have signed: `calldata` takes the place of the intent's own, in its row as well.

    It names what was replaced, so that a row that was changed before is not vouched for: see `audit_reader`.
    """
    return _record(
        at, "completed", intent.call_id, intent.call_id,
        calldata_sha256=digest(calldata), calldata_sha256_before=digest(intent.calldata),
    )  # fmt: skip


def included(intent: Intent, seen: Mined, at: datetime) -> Record:
    """An attempt is in a block. Once for each block that it was seen in, however often it is looked at."""
    return _record(at, "included", f"{seen.hash}:{seen.block_hash}", intent.call_id, **_place(seen))


def fell_out(intent: Intent, at: datetime) -> Record:
    """An attempt that was in a block is in none any more (reorg)."""
    return _record(at, "fell_out", f"{intent.call_id}:{uuid.uuid4().hex}", intent.call_id, nonce=intent.nonce)


def settled(intent: Intent, seen: Mined, at: datetime) -> Record:
    """An attempt is as deep as it must be: `final` when it succeeded, `reverted` when it failed on chain."""
    return _record(at, "final" if seen.is_success else "reverted", seen.hash, intent.call_id, **_place(seen))


def _place(seen: Mined) -> dict[str, Value]:
    return {
        "hash": seen.hash,
        "block": seen.block,
        "block_hash": seen.block_hash,
        "is_success": seen.is_success,
        "gas_used": seen.gas_used,
        "effective_gas_price_wei": seen.effective_gas_price_wei,
    }


def foreign(chain_id: int, wallet: str, nonce: int, tx_hash: str, at: datetime, /, **details: Value) -> Record:
    """A transaction of an operator's key that this ledger did not sign."""
    return _record(
        at, "foreign", f"{chain_id}:{tx_hash}", None,
        chain_id=chain_id, wallet=wallet, nonce=nonce, hash=tx_hash, **_printable(details),
    )  # fmt: skip


def adopted(chain_id: int, tx_hash: str, principal: str, at: datetime, /, **details: Value) -> Record:
    """An operator said that a foreign transaction is known and in order."""
    return _record(
        at, "adopted", f"{chain_id}:{tx_hash}", None,
        chain_id=chain_id, hash=tx_hash, principal=principal, **_printable(details),
    )  # fmt: skip


# --- operators and the daemon ----------------------------------------------------------------------------------------


def command(command: str, principal: str, at: datetime, /, **details: Value) -> Record:
    """An operator's command (`pause`, `resume`, `fire`, `restart` …) that was carried out."""
    return _record(at, "command", uuid.uuid4().hex, None, command=command, principal=principal, **_printable(details))


def daemon(event: str, version: str, configuration_sha256: str, at: datetime) -> Record:
    """runnerd `started`, `stopped`, or `reloaded` its configuration."""
    return _record(
        at, event, uuid.uuid4().hex, None, version=version, configuration_sha256=configuration_sha256
    )  # fmt: skip


def _printable(details: Mapping[str, Value]) -> dict[str, Value]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in details.items()}


__all__ = [
    "Record", "adopted", "append", "attempt", "canonical", "command", "completed", "daemon", "decision", "denial",
    "digest", "fell_out", "filler", "foreign", "head", "included", "planned", "result", "settled", "signature",
]  # fmt: skip

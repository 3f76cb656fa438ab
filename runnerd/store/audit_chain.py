"""The chain of the audit trail, computed without the database: the encoding of a record, its hash, and what is broken.

Pure. The same is computed by the trigger in `migrations/0004_audit.sql`; `runnerctl audit verify` compares the two.

    hash = SHA-256( seq: 8 bytes | at: 8 bytes, µs since 1970 | 00 or 01: has a call | call_id: 8 bytes, 0 without one
                    | previous_hash: 32 bytes | kind, UTF-8 | 00 | key, UTF-8 | 00 | body, UTF-8 )

Numbers are big-endian and signed. It is unambiguous: all up to `kind` has a fixed length, and no text of PostgreSQL's
holds a zero byte. The first record's `previous_hash` is SHA-256 of `runnerd audit 1` and the ledger's id (16 bytes).
"""

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

_GENESIS: Final = b"runnerd audit 1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIXED: Final = struct.Struct(">qq?q")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainedRecord:
    """A row of `audit_records`."""

    seq: int
    at_us: int
    """Microseconds since 1970, as hashed: a row that was changed may hold a time that no datetime can."""
    kind: str
    key: str
    call_id: int | None
    body: str
    previous_hash: bytes
    hash: bytes

    @property
    def name(self) -> str:
        """How an operator is told which one is meant."""
        return f"record {self.seq} ({self.key})"

    @property
    def at(self) -> str:
        """ISO 8601, UTC, to the microsecond."""
        try:
            return f"{_EPOCH + timedelta(microseconds=self.at_us):%Y-%m-%dT%H:%M:%S.%fZ}"
        except OverflowError:
            return f"{self.at_us} µs"


def compute_genesis(ledger_id: UUID) -> bytes:
    """What the first record follows: no record can be moved to the beginning of another ledger's chain."""
    return hashlib.sha256(_GENESIS + ledger_id.bytes).digest()


def encode_record(record: ChainedRecord) -> bytes:
    """The bytes that are hashed: everything of the record but its own hash."""
    fixed = _FIXED.pack(record.seq, record.at_us, record.call_id is not None, record.call_id or 0)
    texts = (text.encode("utf-8", "surrogatepass") for text in (record.kind, record.key, record.body))
    return fixed + record.previous_hash + b"\0".join(texts)


def compute_hash(record: ChainedRecord) -> bytes:
    """What its `hash` must be."""
    return hashlib.sha256(encode_record(record)).digest()


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that an untouched trail does not have. `what` names the record."""

    seq: int | None
    what: str


class ChainReader:
    """Takes the records in the order of `seq`, one by one, and tells what is broken. Keeps one record's hash.

    `after` and `previous_hash`: the number and the hash of the record before the first one; 0 and the genesis for the
    whole chain.
    """

    def __init__(self, after: int, previous_hash: bytes, on_broken: Callable[[Broken], None]) -> None:
        self.count = 0
        self.first_seq: int | None = None
        self.last_seq = after
        self.head = previous_hash
        self._on_broken = on_broken

    def read_all(self, records: Iterable[ChainedRecord]) -> None:
        """All of them."""
        for record in records:
            self.read(record)

    def read(self, record: ChainedRecord) -> None:
        """The next record.

        Goes on from the hash that stands in the row, also when it is wrong: a change is told once, at its place, and
        not again for all that follow.
        """
        expected = self.last_seq + 1
        if record.seq > expected:
            gap = (
                f"record {expected} is" if record.seq == expected + 1 else f"records {expected} to {record.seq - 1} are"
            )
            self._on_broken(Broken(expected, f"{gap} missing"))
        elif record.seq < expected:
            self._on_broken(Broken(record.seq, f"{record.name} stands after record {self.last_seq}"))
        if record.previous_hash != self.head:
            before = f"record {self.last_seq}" if self.last_seq else "the beginning of this ledger"
            self._on_broken(
                Broken(record.seq, f"{record.name} does not follow {before}: another hash is written in it")
            )
        if compute_hash(record) != record.hash:
            self._on_broken(Broken(record.seq, f"{record.name} was changed: its hash is not that of its content"))
        self.count += 1
        self.first_seq = record.seq if self.first_seq is None else self.first_seq
        self.last_seq, self.head = record.seq, record.hash

"""The encoding of the audit trail, byte for byte, and that a reader of the chain finds whatever was changed in it."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runnerd.store.audit_chain import (
    Broken,
    ChainedRecord,
    ChainReader,
    compute_genesis,
    compute_hash,
    encode_record,
)

LEDGER = UUID("00112233-4455-6677-8899-aabbccddeeff")
GENESIS = compute_genesis(LEDGER)
GOLDEN = ChainedRecord(
    seq=258,
    at_us=1_767_268_800_000_001,
    kind="result",
    key="result:7",
    call_id=7,
    body='{"outcome":"noop"}',
    previous_hash=bytes(range(32)),
    hash=b"",
)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)
CALL = st.none() | INT64
CONTENT = st.tuples(INT64, TEXT, TEXT, CALL, TEXT)


def chain(contents: list[tuple[int, str, str, int | None, str]]) -> list[ChainedRecord]:
    """Records with these contents, linked as the database links them."""
    found: list[ChainedRecord] = []
    previous = GENESIS
    for seq, (at_us, kind, key, call_id, body) in enumerate(contents, 1):
        bare = ChainedRecord(
            seq=seq, at_us=at_us, kind=kind, key=key, call_id=call_id, body=body, previous_hash=previous, hash=b""
        )  # fmt: skip
        previous = compute_hash(bare)
        found.append(replace(bare, hash=previous))
    return found


def read(records: list[ChainedRecord]) -> tuple[list[Broken], bytes]:
    """What a reader of the whole chain finds, and the head."""
    broken: list[Broken] = []
    reader = ChainReader(0, GENESIS, broken.append)
    reader.read_all(records)
    return broken, reader.head


CHAINS = st.lists(CONTENT, min_size=1, max_size=6).map(chain)


def test_golden_bytes_of_a_record() -> None:
    """The encoding is an interface: others verify exports with it, and it never changes under an old chain."""
    pieces = (
        "0000000000000102",  # seq
        "00064752550bf001",  # at
        "01",  # it has a call
        "0000000000000007",  # call_id
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",  # previous_hash
        "726573756c7400",  # kind
        "726573756c743a3700",  # key
        "7b226f7574636f6d65223a226e6f6f70227d",  # body
    )  # fmt: skip
    assert encode_record(GOLDEN).hex() == "".join(pieces)
    without_call = encode_record(replace(GOLDEN, call_id=None))
    assert without_call[16:25] == bytes(9)
    assert compute_hash(GOLDEN) == sha256(encode_record(GOLDEN)).digest()


def test_golden_bytes_of_the_beginning() -> None:
    """A chain begins with its ledger."""
    expected = sha256(b"runnerd audit 1" + bytes.fromhex("00112233445566778899aabbccddeeff")).digest()
    assert expected == GENESIS
    assert compute_genesis(UUID(int=0)) != GENESIS


@given(CONTENT, CONTENT)
def test_different_records_have_different_bytes(one: Any, other: Any) -> None:
    """No text can be moved from one field into its neighbour."""
    assume(one != other)
    (first,), (second,) = chain([one]), chain([other])
    assert encode_record(first) != encode_record(second)


@given(CHAINS)
def test_an_untouched_chain_is_whole(records: list[ChainedRecord]) -> None:
    """The positive control of all that follows."""
    broken, head = read(records)
    assert broken == []
    assert head == records[-1].hash


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "seq": INT64,
    "at_us": INT64,
    "kind": TEXT,
    "key": TEXT,
    "call_id": CALL,
    "body": TEXT,
    "previous_hash": st.binary(min_size=0, max_size=33),
    "hash": st.binary(min_size=0, max_size=33),
}


@given(CHAINS, st.data())
def test_any_single_field_that_was_changed_is_found_at_its_record(records: list[ChainedRecord], data: Any) -> None:
    """Whichever field of whichever record, whatever it was changed to."""
    place = data.draw(st.integers(0, len(records) - 1), "record")
    field = data.draw(st.sampled_from(sorted(FIELDS)), "field")
    value = data.draw(FIELDS[field], "value")
    assume(getattr(records[place], field) != value)
    changed = replace(records[place], **{field: value})
    broken, _ = read([*records[:place], changed, *records[place + 1 :]])
    assert changed.seq in {found.seq for found in broken}


@given(CHAINS, st.data())
def test_a_record_that_was_removed_is_found(records: list[ChainedRecord], data: Any) -> None:
    """By the gap; at the end there is none, and the head that was written down says so."""
    place = data.draw(st.integers(0, len(records) - 1), "record")
    broken, head = read([*records[:place], *records[place + 1 :]])
    if place < len(records) - 1:
        assert Broken(place + 1, f"record {place + 1} is missing") in broken
    else:
        assert head != records[-1].hash


@pytest.mark.parametrize("renumber", [False, True])
@given(records=st.lists(CONTENT, min_size=2, max_size=6).map(chain), data=st.data())
def test_records_that_changed_places_are_found(renumber: bool, records: list[ChainedRecord], data: Any) -> None:
    """Also when they take each other's numbers."""
    one = data.draw(st.integers(0, len(records) - 2), "one")
    other = data.draw(st.integers(one + 1, len(records) - 1), "other")
    swapped = list(records)
    swapped[one], swapped[other] = records[other], records[one]
    if renumber:
        swapped[one] = replace(swapped[one], seq=one + 1)
        swapped[other] = replace(swapped[other], seq=other + 1)
    assert read(swapped)[0] != []


@given(CHAINS, st.data())
def test_who_computes_the_whole_chain_anew_is_found_by_a_head(records: list[ChainedRecord], data: Any) -> None:
    """The owner of the database can do that. Then no record has the hash that was written down."""
    place = data.draw(st.integers(0, len(records) - 1), "record")
    body = data.draw(TEXT, "body")
    assume(body != records[place].body)
    contents = [(r.at_us, r.kind, r.key, r.call_id, body if r is records[place] else r.body) for r in records]
    rewritten = chain(contents)
    assert read(rewritten)[0] == []
    assert records[-1].hash not in {record.hash for record in rewritten}


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda r: [r[0], replace(r[1], body="{}"), *r[2:]], ["record 2 (k:2) was changed"]),
        (lambda r: [r[0], *r[3:]], ["records 2 to 3 are missing", "record 4 (k:4) does not follow record 1"]),
        (lambda r: r[1:], ["record 1 is missing", "record 2 (k:2) does not follow the beginning of this ledger"]),
        (
            lambda r: [r[0], r[2], r[1], r[3]],
            [
                "record 2 is missing", "record 3 (k:3) does not follow record 1",
                "record 2 (k:2) stands after record 3", "record 2 (k:2) does not follow record 3",
                "record 3 is missing", "record 4 (k:4) does not follow record 2",
            ],
        ),
    ],
    ids=["changed", "removed", "first", "reordered"],
)  # fmt: skip
def test_what_is_broken_is_named_once_and_at_its_place(
    change: Callable[[list[ChainedRecord]], list[ChainedRecord]], expected: list[str]
) -> None:
    """An operator looks at the record that is named, not at all that follow."""
    records = chain([(n, "k", f"k:{n}", n, f'{{"n":{n}}}') for n in range(1, 5)])
    broken, _ = read(change(records))
    assert len(broken) == len(expected), broken
    for found, words in zip(broken, expected, strict=True):
        assert found.what.startswith(words), found


def test_a_time_that_no_datetime_can_hold_is_shown_all_the_same() -> None:
    """Only a changed row has one."""
    assert GOLDEN.at == "2026-01-01T12:00:00.000001Z"
    assert replace(GOLDEN, at_us=-(2**63)).at == "-9223372036854775808 µs"

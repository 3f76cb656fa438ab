"""The audit trail on a real ledger: chained whatever is committed together, again or in vain; and it only grows."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from runnerd.chain.fees import Fees
from runnerd.cli.audit.verify import Verdict, verify_ledger
from runnerd.executor.observation import Mined
from runnerd.executor.wanted import Attempt, Intent, IntentState
from runnerd.store import audit, calls, decisions, foreign, intents
from runnerd.store.audit import Record
from runnerd.store.audit_chain import ChainedRecord
from runnerd.store.audit_reader import read_records
from runnerd.store.calls import JobOutcome
from runnerd.store.decisions import DecisionRecord
from runnerd.store.errors import CommitRefused
from runnerd.store.foreign import Filler
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from tests.support.aio import run_async
from tests.support.calls import job_call
from tests.support.pg_proxy import pg_proxy
from tests.support.until import until

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
DO_UPDATE = " on conflict (key) do update set body = ''"
KILL = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid()"
)
WALLET = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
TX, OTHER_TX = "0x" + "ab" * 32, "0x" + "cd" * 32
SEEN = Mined(
    hash=TX, block=7, block_hash="0x" + "0b" * 32, is_success=True, head=9, gas_used=21_000,
    effective_gas_price_wei=10**9, is_agreed=True,
)  # fmt: skip
FEES = Fees(max_fee_per_gas_wei=10**10, max_priority_fee_per_gas_wei=10**9)
ATTEMPT = Attempt(hash=TX, raw=b"\x02raw", fees=FEES, gas_limit=100_000, signed_block=5)
FILLER = Filler(hash=OTHER_TX, nonce=4, raw=b"\x02noop", fees=FEES, signed_block=5)


def note(name: object, body: str = "{}", call_id: int | None = None) -> Record:
    """A record that is easy to look up."""
    return Record(AT, "note", f"note:{name}", call_id, body)


def bad() -> Statement:
    """A write that PostgreSQL refuses."""
    return Statement("insert into plugin_state (plugin) values ('alpha')")


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Store]:
    store = Store(dsn)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def execute(dsn: str, *statements: str) -> list[dict[str, Any]]:
    """As the owner of the database, in one session; the rows of the last one."""
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        *first, last = statements
        for statement in first:
            connection.execute(statement.encode())
        cursor = connection.execute(last.encode())
        return cursor.fetchall() if cursor.description else []


def tamper(dsn: str, *statements: str) -> None:
    """Change the trail itself, as only who owns the table can."""
    execute(dsn, "alter table audit_records disable trigger all", *statements)
    for trigger in ("audit_chain", "audit_append_only"):
        execute(dsn, f"alter table audit_records enable always trigger {trigger}")


def records_of(dsn: str) -> list[ChainedRecord]:
    with psycopg.connect(dsn) as connection:
        return list(read_records(connection, 1))


def verify(dsn: str, from_seq: int = 1, known_head: str | None = None) -> Verdict:
    with psycopg.connect(dsn) as connection:
        return verify_ledger(connection, from_seq, known_head)


def keys(dsn: str) -> list[str]:
    """After the first one, which the migration wrote."""
    first, *others = records_of(dsn)
    assert first.key == "opened"
    return [record.key for record in others]


def assert_whole(dsn: str) -> None:
    """The chain and the tables, with no exception: a record of what has a row stands here beside its row."""
    assert verify(dsn).findings == []
    assert [record.seq for record in records_of(dsn)] == list(range(1, len(records_of(dsn)) + 1))


# --- the chain that the database makes -------------------------------------------------------------------------------


def test_the_database_computes_the_hash_that_python_does(ledger_dsn: str) -> None:
    """For every kind of value: no call, call 0, negative, text beyond ASCII, times before 1970 and far away."""
    odd = [
        Record(AT, "kind", "a", None, "{}"),
        Record(AT, "kind", "b", 0, ""),
        Record(AT, "kind", "c", -1, '{"reason":"naïve ⏎ 💸"}'),
        Record(AT, "", "d", 2**63 - 1, "{}"),
        Record(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "ü", "é", 1, "{}"),
        Record(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "kind", "", 1, "x" * 70_000),
        Record(AT + timedelta(microseconds=1), "kind", "f", 1, "{}"),
    ]

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await store.commit(audit.append(*odd))

    run_async(scenario())
    assert_whole(ledger_dsn)
    found = records_of(ledger_dsn)[1:]
    assert [(r.kind, r.key, r.call_id, r.body) for r in found] == [(r.kind, r.key, r.call_id, r.body) for r in odd]
    assert found[-1].at == "2026-01-01T12:00:00.000001Z"


def test_records_of_commits_at_once_are_chained_in_their_order(ledger_dsn: str) -> None:
    """Hundreds in one transaction, several a commit, beside other statements, and with refused commits among them."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            commits = []
            for n in range(300):
                before, after = (
                    replace(decisions.put_state("alpha", f"{n}{key}", "1"), is_independent=True) for key in "ab"
                )
                commits.append(store.commit(before, audit.append(note(f"{n}.0"), note(f"{n}.1")), after))
                if n % 100 == 50:
                    commits.append(store.commit(audit.append(note(f"refused {n}")), bad()))
            outcomes = await asyncio.gather(*commits, return_exceptions=True)
            assert sum(isinstance(outcome, CommitRefused) for outcome in outcomes) == 3

    run_async(scenario())
    assert keys(ledger_dsn) == [f"note:{n}.{part}" for n in range(300) for part in range(2)]
    assert_whole(ledger_dsn)


def test_canonical_json_is_that_of_the_json_module() -> None:
    """Whichever encoder wrote it: escapes, characters beyond ASCII, integers of any size, the order of keys."""
    chance = random.Random(17)
    letters = [
        "a",
        "Z",
        '"',
        "\\",
        "\n",
        "\x7f",
        "\0",
        "é",
        "€",
        "𝄞",
        "/",
        "<",
        "\u2028",
        " ",
        "{",
        "\x1f",
        "~",
        "\ud800",
    ]
    values = (None, True, False, 0, -1, 1 << 64, 1 << 255, -(1 << 255), 7.5)
    for _ in range(2_000):
        texts = ["".join(chance.choices(letters, k=chance.randrange(5))) for _ in range(6)]
        body = {texts[0]: texts[1], texts[2]: texts[3], "b": chance.choice(values), "a": chance.choice(values)}
        expected = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert audit.canonical(body) == expected


def test_of_many_appends_at_once_the_first_of_a_key_stands(ledger_dsn: str) -> None:
    """One statement for all of them: what stands already, and what comes twice, leaves no gap and changes no order."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await store.commit(audit.append(note("7", "old")))
            appends = [audit.append(note(str(n % 40), f"{n}"), note(f"{n % 30}'", f"{n}")) for n in range(90)]
            assert await asyncio.gather(*(store.commit(append) for append in appends)) == [[[]]] * 90

    run_async(scenario())
    new = [name for n in range(40) for name in ([str(n)] if n != 7 else []) + ([f"{n}'"] if n < 30 else [])]
    assert keys(ledger_dsn) == [f"note:{name}" for name in ["7", *new]]
    assert {record.key: record.body for record in records_of(ledger_dsn)}["note:7"] == "old"
    assert_whole(ledger_dsn)


def test_several_appends_in_one_commit_keep_their_order(ledger_dsn: str) -> None:
    """Whoever adds to a commit may not know of the others; parts of one statement would run in no defined order."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            appends = [audit.append(note(f"{n}.0"), note(f"{n}.1")) for n in range(5)]
            between = replace(decisions.put_state("alpha", "k", "1"), is_independent=True)
            rows = await store.commit(*appends[:3], between, *appends[3:])
            assert rows == [[]] * 6

    run_async(scenario())
    assert keys(ledger_dsn) == [f"note:{n}.{part}" for n in range(5) for part in range(2)]
    assert_whole(ledger_dsn)


def test_a_second_record_of_the_same_key_is_dropped_and_leaves_no_gap(ledger_dsn: str) -> None:
    """Whatever it says: the first one stands. Between others of one append as well."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await store.commit(audit.append(note("a", '{"n":1}')))
            await store.commit(audit.append(note("a", '{"n":2}')))
            await store.commit(audit.append(note("b"), note("a", '{"n":3}'), note("b"), note("c")))

    run_async(scenario())
    assert keys(ledger_dsn) == ["note:a", "note:b", "note:c"]
    assert records_of(ledger_dsn)[1].body == '{"n":1}'
    assert_whole(ledger_dsn)


def test_a_commit_that_was_made_but_not_confirmed_is_recorded_once(ledger_dsn: str, short_dir: Path) -> None:
    """The worst moment: the server has committed, we do not know, and the same commit is run again."""

    async def scenario() -> None:
        async with pg_proxy(ledger_dsn, short_dir) as proxy, opened(proxy.dsn) as store:
            # Two at once, as below: that prepares the statement of several.
            await asyncio.gather(*(store.commit(audit.append(note(name))) for name in ("first", "second")))
            proxy.keep_answers()
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(store.commit(audit.append(note(f"{n}.0"), note(f"{n}.1")))) for n in range(3)]
            await until(lambda: "note:0.1" in keys(ledger_dsn))
            assert not tasks[0].done()
            proxy.hang_up()
            proxy.speak_again()
            await asyncio.gather(*tasks)
            await store.commit(audit.append(note("last")))

    run_async(scenario())
    expected = ["first", "second", *(f"{n}.{part}" for n in range(3) for part in range(2)), "last"]
    assert keys(ledger_dsn) == [f"note:{name}" for name in expected]
    assert_whole(ledger_dsn)


def test_a_storm_of_lost_connections_leaves_a_whole_chain(ledger_dsn: str) -> None:
    """Killed again and again under load: each record once, no gap, in order."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            is_over = False

            async def killer() -> None:
                async with await psycopg.AsyncConnection.connect(ledger_dsn, autocommit=True) as connection:
                    while not is_over:
                        await connection.execute(KILL)
                        await asyncio.sleep(0.02)

            killing = asyncio.get_running_loop().create_task(killer())
            for number in range(30):
                await asyncio.gather(*(store.commit(audit.append(note(f"{number}.{part}"))) for part in range(5)))
            is_over = True
            await killing

    run_async(scenario())
    assert keys(ledger_dsn) == [f"note:{number}.{part}" for number in range(30) for part in range(5)]
    assert_whole(ledger_dsn)


def test_a_second_writer_cannot_fork_the_chain(ledger_dsn: str) -> None:
    """It waits for the first one, and is refused: both would follow the same record."""
    insert = "insert into audit_records (at, kind, key, body) values (now(), 'note', %s, '{}')"
    with psycopg.connect(ledger_dsn) as one, psycopg.connect(ledger_dsn) as other:
        one.execute(insert, ("one",))
        other.execute("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(insert, ("other",))
        one.commit()
        other.rollback()
        other.execute(insert, ("other",))
    assert keys(ledger_dsn) == ["one", "other"]
    assert_whole(ledger_dsn)


def test_numbers_and_hashes_that_a_writer_brings_along_are_not_taken(ledger_dsn: str) -> None:
    """The database makes the chain, for a restored dump as well."""
    execute(
        ledger_dsn,
        "insert into audit_records values (99, now(), 'note', 'note:a', null, '{}', '\\x00', '\\x00')",
    )
    assert [record.seq for record in records_of(ledger_dsn)] == [1, 2]
    assert_whole(ledger_dsn)


# --- it only grows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "update audit_records set body = '{}' where seq = 1",
        "update audit_records set body = '{}' where seq = -1",
        "delete from audit_records",
        "truncate audit_records",
        "truncate audit_records, plugin_state cascade",
        ("insert into audit_records values (9, now(), '', 'opened', 0, '', '', '')" + DO_UPDATE),
        "merge into audit_records r using (select 1) on r.seq = 1 when matched then delete",
    ],
)
@pytest.mark.parametrize("role", ["origin", "replica"])
def test_changes_are_refused_and_named(ledger_dsn: str, change: str, role: str) -> None:
    """For the owner of the table too, and where ordinary triggers do not fire. Without the trigger it works."""
    before = records_of(ledger_dsn)
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match=r"audit_records is append-only: [A-Z]+ is"):
        execute(ledger_dsn, f"set session_replication_role = {role}", change)
    assert records_of(ledger_dsn) == before

    tamper(ledger_dsn, change)
    assert (records_of(ledger_dsn) != before) or "-1" in change


# --- the first record ------------------------------------------------------------------------------------------------


def test_calls_that_are_older_than_the_trail_need_no_record(ledger_dsn: str) -> None:
    """A ledger of the first release is taken as it is, and everything later must have its record."""
    execute(ledger_dsn, "drop table audit_records", "drop function audit_chain, audit_refuse")
    run_async(lives(ledger_dsn, is_recorded=False))
    migration = (resources.files("runnerd.store") / "migrations" / "0004_audit.sql").read_text("utf-8")
    execute(ledger_dsn, migration)
    (first,) = records_of(ledger_dsn)
    ledger_id = execute(ledger_dsn, "select id from ledger")[0]["id"]
    assert json.loads(first.body) == {"last_call": 2, "ledger": str(ledger_id)}
    assert first.body == audit.canonical(json.loads(first.body))
    assert verify(ledger_dsn).findings == []

    run_async(lives(ledger_dsn, is_recorded=False))
    missing = [found.what for found in verify(ledger_dsn).findings]
    assert sorted(missing) == [
        f"the attempt {OTHER_TX} has no record",
        "the decision of call 3 has no record", "the decision of call 4 has no record",
        "the intent of call 3 has no record",
        "the result of call 3 has no record", "the result of call 4 has no record",
        f"the settled attempt {OTHER_TX} has no record",
    ]  # fmt: skip


# --- the trail and the tables ----------------------------------------------------------------------------------------


async def lives(dsn: str, *, is_recorded: bool = True) -> None:
    """Two calls from their beginning to their end: one acts, one is denied; with the statements that runnerd uses."""

    def trail(*records: Record) -> list[Statement]:
        return [audit.append(*records)] if is_recorded else []

    async with opened(dsn) as store:
        for outcome in (JobOutcome.ACTED, JobOutcome.DENIED):
            new = calls.NewCall(
                plugin="alpha", trigger=job_call(1).trigger, identity=f"{outcome} {await _count(store)}",
                principal="uid:1000", due_at=AT, fired_at=AT, deadline_at=AT,
            )  # fmt: skip
            ((row,),) = await store.commit(calls.insert(new))
            call = calls.inserted(new, row)
            decided = DecisionRecord(
                call_id=call.id, plugin="alpha", generation=3, digest="sha256:1", attempt=1, context='{"c":"é"}',
                outcome='{"kind":"act"}', decided_at=AT, decide_ms=1.5,
            )  # fmt: skip
            await store.commit(decisions.insert(decided), *trail(audit.decision(decided, 2)))
            tx = None
            if outcome is JobOutcome.ACTED:
                tx = TX if call.id == 1 else OTHER_TX
                await _transaction(store, call.id, tx, trail)
            reason = "done \0 as said"
            records = [audit.denial(call, reason, AT)] if outcome is JobOutcome.DENIED else []
            records.append(audit.result(call, outcome, reason, tx, AT))
            await store.commit(calls.finish(call.id, outcome, reason, AT), *trail(*records))


async def _count(store: Store) -> int:
    rows = await store.fetch(Statement("select count(*) as n from job_calls"))
    return int(rows[0]["n"])


async def _transaction(store: Store, call_id: int, tx: str, trail: Callable[..., list[Statement]]) -> None:
    intent = Intent(
        call_id=call_id, plugin="alpha", vault="main", chain_id=31337, wallet=WALLET, target=WALLET, calldata=b"data",
        value_wei=2**200, deadline_at=AT,
    )  # fmt: skip
    signed, seen = replace(ATTEMPT, hash=tx), replace(SEEN, hash=tx)
    nonce = call_id - 1
    await store.commit(intents.set_wallet(31337, WALLET, nonce))
    await store.commit(intents.plan(intent, AT), *trail(audit.planned(intent, AT)))
    await store.commit(
        intents.allot_nonces([intent], nonce, [signed], AT), *trail(audit.attempt(intent, nonce, signed, AT))
    )
    await store.commit(
        intents.mined(seen), intents.set_state(call_id, IntentState.FINAL, AT),
        *trail(audit.included(intent, seen, AT), audit.settled(intent, seen, AT)),
    )  # fmt: skip


def test_every_kind_of_record_says_what_was_done(ledger_dsn: str) -> None:
    """Keys, calls and bodies; verified, and counted by table."""
    run_async(lives(ledger_dsn))
    found = {record.key: (record.call_id, json.loads(record.body)) for record in records_of(ledger_dsn)[1:]}
    decision = {
        "plugin": "alpha", "generation": 3, "digest": "sha256:1", "attempt": 1, "state_writes": 2,
        "context_sha256": audit.digest('{"c":"é"}'), "outcome_sha256": audit.digest('{"kind":"act"}'),
    }  # fmt: skip
    place = {
        "hash": TX, "block": 7, "block_hash": SEEN.block_hash, "is_success": True, "gas_used": 21_000,
        "effective_gas_price_wei": 10**9,
    }  # fmt: skip
    assert found == {
        "decision:1": (1, decision),
        "planned:1": (
            1,
            {
                "plugin": "alpha", "vault": "main", "chain_id": 31337, "wallet": WALLET, "target": WALLET,
                "calldata_sha256": audit.digest(b"data"), "value_wei": 2**200,
            },
        ),
        f"attempt:{TX}": (
            1,
            {
                "hash": TX, "purpose": "effect", "chain_id": 31337, "wallet": WALLET, "nonce": 0,
                "raw_sha256": audit.digest(b"\x02raw"), "gas_limit": 100_000, "signed_block": 5,
                "max_fee_per_gas_wei": 10**10, "max_priority_fee_wei": 10**9,
            },
        ),
        f"included:{TX}:{SEEN.block_hash}": (1, place),
        f"final:{TX}": (1, place),
        "result:1": (1, {"plugin": "alpha", "outcome": "acted", "reason": "done · as said", "transaction": TX}),
        "decision:2": (2, decision),
        "denial:2": (2, {"plugin": "alpha", "rule": "done · as said"}),
        "result:2": (2, {"plugin": "alpha", "outcome": "denied", "reason": "done · as said", "transaction": None}),
    }  # fmt: skip
    verdict = verify(ledger_dsn)
    assert verdict.findings == []
    assert verdict.compared == {
        "decisions": 2, "intents": 1, "signatures": 0, "attempts": 1, "fillers": 0, "settled transactions": 1,
        "results": 2,
    }  # fmt: skip


def test_records_of_operators_and_of_the_chain_can_be_appended(ledger_dsn: str) -> None:
    """Commands each time anew; a foreign transaction and the no-op that fills its gap once."""
    intent = Intent(
        call_id=1, plugin="a", vault="v", chain_id=1, wallet=WALLET, target=WALLET, calldata=b"", value_wei=0, nonce=4,
        deadline_at=AT,
    )  # fmt: skip

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            for _ in range(2):
                await store.commit(
                    foreign.add_filler(1, WALLET, FILLER, AT),
                    audit.append(
                        audit.command("pause", "uid:1000", AT, scope="vault", name="main\0"),
                        audit.foreign(1, WALLET, 4, TX, AT, selector="0x12345678"),
                        audit.adopted(1, TX, "uid:0", AT),
                        audit.fell_out(intent, AT),
                        audit.daemon("started", "1.0", "ab" * 32, AT),
                        audit.filler(1, WALLET, FILLER, AT),
                    ),
                )

    run_async(scenario())
    assert_whole(ledger_dsn)
    kinds = [record.kind for record in records_of(ledger_dsn)[1:]]
    first = ["command", "foreign", "adopted", "fell_out", "started", "attempt"]
    assert kinds == [*first, "command", "fell_out", "started"]
    bodies = [json.loads(record.body) for record in records_of(ledger_dsn)[1:7]]
    assert bodies == [
        {"command": "pause", "principal": "uid:1000", "scope": "vault", "name": "main·"},
        {"chain_id": 1, "wallet": WALLET, "nonce": 4, "hash": TX, "selector": "0x12345678"},
        {"chain_id": 1, "hash": TX, "principal": "uid:0"},
        {"nonce": 4},
        {"version": "1.0", "configuration_sha256": "ab" * 32},
        {
            "hash": OTHER_TX, "purpose": "filler", "chain_id": 1, "wallet": WALLET, "nonce": 4, "signed_block": 5,
            "raw_sha256": audit.digest(b"\x02noop"), "max_fee_per_gas_wei": 10**10, "max_priority_fee_wei": 10**9,
        },
    ]  # fmt: skip


DECISION, RESULT = "the decision of call 1 is not as in record 2", "the result of call 2 is not as in record 10"
SIGNED, SETTLED = f"the attempt {TX} is not as in record 4", f"the settled attempt {TX} is not as in record 6"
CHANGES = {
    "update decisions set context = '{}' where call_id = 1": (DECISION, "context_sha256"),
    "update decisions set outcome = '{}' where call_id = 1": (DECISION, "outcome_sha256"),
    "update decisions set digest = 'x', generation = 4 where call_id = 1": (DECISION, "generation, digest"),
    "update intents set value_wei = 1, calldata = 'x'": ("the intent of call 1 is not", "value_wei, calldata_sha256"),
    "update attempts set raw = '\\x00'": (SIGNED, "raw_sha256"),
    "update attempts set nonce = 5, gas_limit = 1": (SIGNED, "nonce, gas_limit"),
    "update attempts set gas_used = 1": (SETTLED, "gas_used"),
    "update job_calls set reason = 'another' where id = 2": (RESULT, "reason"),
    "update job_calls set outcome = 'acted' where id = 2": (RESULT, "outcome"),
    "update job_calls set plugin = 'beta' where id = 2": (RESULT, "plugin"),
    "delete from decisions where call_id = 2": ("record 8 (decision:2) has no row in its table", ""),
    "update attempts set included_block = null": (f"record 6 (final:{TX}) has no row in its table", ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_row_of_the_ledger_that_was_changed_is_named(ledger_dsn: str, change: str) -> None:
    """The chain is whole then, so only the comparison can tell. Exactly one finding each."""
    run_async(lives(ledger_dsn))
    execute(ledger_dsn, change)
    (found,) = verify(ledger_dsn).findings
    for words in CHANGES[change]:
        assert words in found.what


CHANGE = "update audit_records set "
SWAP = (
    f"{CHANGE} seq = case seq when 3 then -4 when 4 then -3 end where seq in (3, 4); {CHANGE} seq = -seq where seq < 0"
)
TAMPERING = {
    "body": (f"{CHANGE} body = replace(body, 'alpha', 'beta') where seq = 2", ("record 2 (decision:1) was changed",)),
    "no JSON": (f"{CHANGE} body = '[[[' where seq = 2", ("record 2 (decision:1) was changed",)),
    "time": (f"{CHANGE} at = at + interval '1 us' where seq = 5", ("record 5 (included:",)),
    "infinite time": (f"{CHANGE} at = 'infinity' where seq = 5", ("record 5 (included:",)),
    "call": (f"{CHANGE} call_id = 2 where seq = 5", ("record 5 (included:",)),
    "key": (f"{CHANGE} key = 'x' where seq = 5", ("record 5 (x) was changed",)),
    "hash": (f"{CHANGE} hash = '' where seq = 5", ("record 5 (included:", "record 6 (final:")),
    "removed": ("delete from audit_records where seq = 5", ("record 5 is missing", "record 6 (final:")),
    "last removed": ("delete from audit_records where seq = 10", ("the result of call 2 has no record",)),
    "swapped": (SWAP, ("record 3 (attempt:", "record 4 (planned:1) does not follow")),
    "all removed": ("delete from audit_records", ("there is no record at all", "the decision of call 1 has no record")),
    "another ledger": (
        "update ledger set id = gen_random_uuid()",
        ("record 1 (opened) does not follow",),
    ),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_a_record_that_was_changed_removed_or_moved_is_named(ledger_dsn: str, name: str) -> None:
    """Whatever was done to the trail itself, by who can."""
    change, expected = TAMPERING[name]
    run_async(lives(ledger_dsn))
    tamper(ledger_dsn, change)
    found = [finding.what for finding in verify(ledger_dsn).findings]
    for words in expected:
        assert any(what.startswith(words) for what in found), found


def test_a_head_that_was_written_down_is_proven_or_missed(ledger_dsn: str) -> None:
    """While the chain grows it stays; when all of it is computed anew it is gone."""
    run_async(lives(ledger_dsn))
    head = verify(ledger_dsn).head

    async def grow() -> None:
        async with opened(ledger_dsn) as store:
            await store.commit(audit.append(audit.command("fire", "uid:1", AT)))

    run_async(grow())
    verdict = verify(ledger_dsn, 1, head)
    assert (verdict.findings, verdict.known_head_at, verdict.last) == ([], 10, 11)
    (missed,) = verify(ledger_dsn, 11, head).findings
    assert missed.what.startswith(f"no record from record 11 on has the hash {head}")

    # The owner of the database writes a chain of his own: another reason for call 1, here and there.
    execute(ledger_dsn, "update job_calls set reason = 'as I like it' where id = 1")
    tamper(
        ledger_dsn,
        "create table copy as select * from audit_records order by seq",
        "update copy set body = replace(body, 'done · as said', 'as I like it') where key = 'result:1'",
        r"update copy set body = replace(body, 'done \u00b7 as said', 'as I like it') where key = 'result:1'",
        "truncate audit_records",
    )
    execute(
        ledger_dsn,
        "insert into audit_records select * from copy order by seq",
    )
    assert verify(ledger_dsn).findings == []
    (missed,) = verify(ledger_dsn, 1, head).findings
    assert missed.what.startswith(f"no record has the hash {head}")


def test_verifying_from_a_record_on_takes_the_one_before_as_it_is(ledger_dsn: str) -> None:
    """Quick on a large ledger; what stands before is not judged, and the verdict says so."""
    run_async(lives(ledger_dsn))
    tamper(ledger_dsn, "update audit_records set body = '{}' where seq = 2")
    verdict = verify(ledger_dsn, 7)
    assert (verdict.findings, verdict.anchor, verdict.first, verdict.last) == ([], 6, 7, 10)
    assert verdict.compared["results"] == 2
    assert verdict.compared["decisions"] == 1
    assert verify(ledger_dsn).findings != []
    (nothing,) = verify(ledger_dsn, 12).findings
    assert nothing.what == "there is no record from 12 on"


def test_findings_are_counted_beyond_those_that_are_kept(ledger_dsn: str) -> None:
    """Who rewrote a whole table costs no memory."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await asyncio.gather(*(store.commit(audit.append(note(n))) for n in range(500)))

    run_async(scenario())
    tamper(ledger_dsn, "update audit_records set body = '' where seq > 1")
    verdict = verify(ledger_dsn)
    assert verdict.broken == 500
    assert len(verdict.findings) == 200

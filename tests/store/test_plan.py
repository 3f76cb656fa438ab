"""Many commits go as few statements, and nothing but their number can tell: order, rows, refusals and texts stay."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from protocol.messages import TriggerKind
from runnerd.store import audit, calls, cursors, decisions, positions
from runnerd.store.calls import JobOutcome, NewCall
from runnerd.store.decisions import DecisionRecord, StateLimits
from runnerd.store.errors import CommitRefused, StateOverLimit
from runnerd.store.plan import MAX_WEIGHT, array_of, plan
from runnerd.store.statement import Bulk, Form, Statement
from runnerd.store.store import Store
from tests.support.aio import run_async

AT = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
ONE = Form("one %(x)s", ("x",))
OTHER = Form("other %(x)s", ("x",))
NASTY = ("", " ", '"', "\\", '\\"', "NULL", "null", "{}", ",", "a\nb\t\r", "\x1f", "é€𝄞", "'", "%s", "x" * 5_000)


def bulk(form: Form, value: int, key: object = None, weight: int = 0) -> Statement:
    """A statement of a form, with one row."""
    return Statement(f"single {value}", bulk=Bulk(form, ((value,),), key, weight))


def sent(*commits: Sequence[Statement]) -> list[tuple[str, object]]:
    """What would be sent: text and array."""
    return [(step.sql, step.parameters.get("x")) for step in plan(commits)]


# --- the plan --------------------------------------------------------------------------------------------------------


def test_commits_alike_are_one_statement_for_each_kind() -> None:
    """In the order of the commits."""
    assert sent(*([bulk(ONE, n, n), bulk(OTHER, n + 10, n)] for n in range(3))) == [
        (ONE.sql, "{0,1,2}"), (OTHER.sql, "{10,11,12}"),
    ]  # fmt: skip
    assert sent([bulk(ONE, 1, 1), bulk(ONE, 2, 2)]) == [(ONE.sql, "{1,2}")]


def test_a_single_commit_goes_as_it_always_did() -> None:
    """With parts of a WITH where they are independent: one message."""
    assert sent([bulk(ONE, 1, 1), bulk(OTHER, 2, 1)]) == [("single 1", None), ("single 2", None)]
    assert plan([]) == []


def test_what_touches_the_same_is_never_done_together() -> None:
    """The later commit must find what the earlier one left."""
    assert sent([bulk(ONE, 1, "a")], [bulk(OTHER, 2, "a")], [bulk(OTHER, 3, "b")]) == [
        ("single 1", None), (OTHER.sql, "{2,3}"),
    ]  # fmt: skip
    assert sent([bulk(ONE, 1, "a"), bulk(ONE, 2, "a")]) == [("single 1", None), ("single 2", None)]


def test_another_order_of_kinds_begins_a_new_set() -> None:
    """Within a commit the order of statements is kept, whatever they are."""
    first, turned = [bulk(ONE, 1, 1), bulk(OTHER, 2, 1)], [bulk(OTHER, 3, 3), bulk(ONE, 4, 4)]
    assert sent(first, turned) == [
        ("single 1", None), ("single 2", None), ("single 3", None), ("single 4", None),
    ]  # fmt: skip


def test_commits_of_other_statements_stand_between() -> None:
    """They are done in their turn, each by itself."""
    plain = [Statement("plain"), bulk(ONE, 9, 9)]
    assert sent([bulk(ONE, 1, 1)], [bulk(ONE, 2, 2)], plain, [bulk(ONE, 3, 3)]) == [
        (ONE.sql, "{1,2}"), ("plain", None), ("single 9", None), ("single 3", None),
    ]  # fmt: skip


def test_long_texts_bound_a_set() -> None:
    """Contexts of a megabyte are not held three times by the hundred."""
    heavy = [[bulk(ONE, n, n, MAX_WEIGHT // 2)] for n in range(5)]
    assert sent(*heavy) == [(ONE.sql, "{0,1}"), (ONE.sql, "{2,3}"), ("single 4", None)]


# --- on a real server ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Store]:
    """A store for the length of the block."""
    store = Store(dsn)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def new_call(identity: str, payload: str = "") -> NewCall:
    """As a producer asks for it."""
    return NewCall(
        plugin="alpha", trigger=TriggerKind.MANUAL, identity=identity, principal="test", due_at=AT, fired_at=AT,
        deadline_at=AT + timedelta(seconds=60), payload=payload,
    )  # fmt: skip


def record(call_id: int, text: str = "{}") -> DecisionRecord:
    """A Decision with `text` in every column that takes one."""
    return DecisionRecord(
        call_id=call_id, plugin="alpha", generation=1, digest=text, attempt=1, context=text, outcome=text,
        decided_at=AT, decide_ms=0.1 + 0.2,
    )  # fmt: skip


def test_every_text_number_and_time_arrives_as_it_was(ledger_dsn: str) -> None:
    """Arrays are written by us: quotes, backslashes, NULL and our own mark are texts like any other."""
    with psycopg.connect(ledger_dsn) as connection:
        for values in (NASTY, *((text, "b") for text in NASTY), (None, "a"), ("a", None, '"')):
            row = connection.execute("select %s::text[]", (array_of(values),)).fetchone()
            assert row == (list(values),)
        numbers = (0, -1, (1 << 63) - 1, None)
        assert connection.execute("select %s::bigint[]", (array_of(numbers),)).fetchone() == (list(numbers),)
        floats = (0.1 + 0.2, 1e-300, 1e22, 5.0)
        assert connection.execute("select %s::float8[]", (array_of(floats),)).fetchone() == (list(floats),)
        times = (AT, AT.replace(microsecond=0), AT.replace(year=1969))
        assert connection.execute("select %s::timestamptz[]", (array_of(times),)).fetchone() == (list(times),)


def test_each_call_of_a_group_gets_its_own_row(ledger_dsn: str) -> None:
    """And a duplicate gets none: its identity is another commit's, of this group or of an earlier one."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            await store.commit(calls.insert(new_call("old")), is_idempotent=True)
            await store.commit(Statement("update job_calls set state = 'decided'"))
            names = ["b", "old", "a", "c"]
            submitted = await asyncio.gather(
                *(store.commit(calls.insert(new_call(name)), cursors.move("alpha", name, AT)) for name in names),
                store.commit(calls.insert(new_call("d")), calls.insert(new_call("e"))),
            )
            found = {row["identity"]: row["id"] for row in await store.fetch(Statement("select * from job_calls"))}
            assert [[row["id"] for row in rows] for rows, _ in submitted[:4]] == [
                [found["b"]], [], [found["a"]], [found["c"]],
            ]  # fmt: skip
            assert [[row["id"] for row in rows] for rows in submitted[4]] == [[found["d"]], [found["e"]]]
            (stored,) = await store.fetch(Statement("select count(*) from trigger_cursors"))
            assert stored["count"] == 4

    run_async(scenario())


def test_a_call_with_its_position_is_one_statement_and_many_are_two(ledger_dsn: str) -> None:
    """Alone they are parts of a WITH, and the call's row is the call's; in a group one statement for each kind."""
    commits = [(calls.insert(new_call(name)), positions.move("block", name, "{}", AT)) for name in "abc"]
    (alone,) = plan(commits[:1])
    assert alone.place == (0, 0)
    assert len(plan(commits)) == 2

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            rows, nothing = await store.commit(*commits[0])
            assert ([row["attempts"] for row in rows], nothing) == ([0], [])
            await asyncio.gather(*(store.commit(*commit) for commit in commits[1:]))
            moved = await store.fetch(positions.positions("block"))
            assert [row["key"] for row in moved] == ["a", "b", "c"]
            bad = calls.insert(new_call("d\0"))
            with pytest.raises(CommitRefused):
                await store.commit(bad, positions.move("block", "d", "{}", AT))
            assert len(await store.fetch(positions.positions("block"))) == 3

    run_async(scenario())


@pytest.mark.parametrize("bad", ["no such call", "a\0b", "\ud800"], ids=["constraint", "NUL", "surrogate"])
def test_a_refused_decision_fails_alone_in_its_group(ledger_dsn: str, bad: str) -> None:
    """Its 99 neighbours are recorded once each, with one trail in their order."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            rows = await store.commit(*(calls.insert(new_call(str(n))) for n in range(100)))
            ids = [found[0]["id"] for found in rows]
            work = []
            for n, call_id in enumerate(ids):
                is_bad = n == 37
                made = record(-1 if is_bad and bad == "no such call" else call_id, bad if is_bad else "{}")
                trail = audit.append(audit.Record(AT, "note", f"note:{n}", call_id, "{}"))
                finish = calls.finish(call_id, JobOutcome.NOOP, "quiet", AT)
                work.append(store.commit(decisions.insert(made), trail, finish))
            outcomes = await asyncio.gather(*work, return_exceptions=True)
            assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, CommitRefused)] == [37]
            assert [outcome for n, outcome in enumerate(outcomes) if n != 37] == [[[], [], []]] * 99
            done = await store.fetch(Statement("select id from job_calls where state = 'done' order by id"))
            assert [row["id"] for row in done] == [call_id for n, call_id in enumerate(ids) if n != 37]
            kept = await store.fetch(Statement("select call_id, decide_ms from decisions order by call_id"))
            assert [(row["call_id"], row["decide_ms"]) for row in kept] == [(row["id"], 0.1 + 0.2) for row in done]
            trail_of = await store.fetch(Statement("select key from audit_records where kind = 'note' order by seq"))
            assert [row["key"] for row in trail_of] == [f"note:{n}" for n in range(100) if n != 37]

    run_async(scenario())


def test_an_outcome_that_stands_is_kept_also_in_a_group(ledger_dsn: str) -> None:
    """The first one of a call counts, in this group or before it."""

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            rows = await store.commit(*(calls.insert(new_call(str(n))) for n in range(3)))
            one, two, three = (found[0]["id"] for found in rows)
            await store.commit(calls.finish(one, JobOutcome.NOOP, "first", AT))
            again = ((one, "later"), (two, "first"), (three, "first"), (two, "later"))
            await asyncio.gather(*(store.commit(calls.finish(i, JobOutcome.FAILED, text, AT)) for i, text in again))
            found = await store.fetch(Statement("select reason from job_calls order by id"))
            assert [row["reason"] for row in found] == ["first"] * 3

    run_async(scenario())


# --- how much state a plugin keeps -----------------------------------------------------------------------------------


def test_sizes_of_state_follow_every_write(ledger_dsn: str) -> None:
    """Whoever writes, in whichever way: they are what the state is."""
    chance = random.Random(7)
    keys = ["a", "é", "long" * 20]

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            for n in range(60):
                plugin, key = chance.choice(["alpha", "beta"]), chance.choice(keys)
                value = "€" * chance.randrange(5)
                await store.commit(
                    chance.choice(
                        [
                            decisions.put_state(plugin, key, value),
                            decisions.delete_state(plugin, key),
                            decisions.compare_and_set_state(plugin, key, None, value),
                            Statement(
                                "update plugin_state set key = %(key)s where key = 'a' and plugin = 'beta'",
                                {"key": f"a{n}"},
                            ),
                        ]
                    )
                )
                sizes = await store.fetch(
                    Statement("select plugin, bytes, keys from plugin_state_sizes where keys > 0 order by 1")
                )
                true = "select plugin, sum(octet_length(key || value))::bigint as bytes, count(*) as keys"
                assert sizes == await store.fetch(Statement(true + " from plugin_state group by 1 order by 1")), n
            await store.commit(Statement("truncate plugin_state"))
            assert await store.fetch(Statement("select * from plugin_state_sizes")) == []

    run_async(scenario())


@pytest.mark.parametrize(
    "limits, what",
    [(StateLimits(max_bytes=9), "10 of 9 bytes"), (StateLimits(max_keys=1), "2 of 1 keys")],
    ids=["bytes", "keys"],
)
def test_a_write_beyond_the_limit_is_refused_with_all_of_its_commit(
    ledger_dsn: str, limits: StateLimits, what: str
) -> None:
    """What fits exactly is kept: `é` takes two bytes. Of two at once that fit alone, the second is refused."""
    exact = StateLimits(max_bytes=10, max_keys=2)

    async def write(store: Store, plugin: str, limit: StateLimits) -> list[object]:
        puts = [decisions.put_state(plugin, key, "éé") for key in ("a", "b")]
        within = decisions.keep_state_within(plugin, limit)
        return await asyncio.gather(*(store.commit(put, within) for put in puts), return_exceptions=True)

    async def scenario() -> None:
        async with opened(ledger_dsn) as store:
            assert [type(outcome) for outcome in await write(store, "control", exact)] == [list, list]
            done, refused = await write(store, "alpha", limits)
            assert isinstance(done, list)
            assert isinstance(refused, StateOverLimit)
            assert str(refused) == f"over its state limit: {what}"
            rows = await store.fetch(Statement("select key from plugin_state where plugin = 'alpha'"))
            assert rows == [{"key": "a"}]

    run_async(scenario())

"""What each statement does to the ledger, on a real one: exactly what its docstring says, and once."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from protocol.messages import StateDelete, StatePut, TriggerKind
from runnerd.chain.fees import Fees
from runnerd.chain.search import FoundTransaction
from runnerd.executor.observation import Mined
from runnerd.executor.wanted import Attempt, AttemptKind, Cancellation, Intent, IntentState, Route
from runnerd.store import calls, cursors, decisions, foreign, intents, knobs, workers
from runnerd.store.calls import JobCall, JobOutcome, NewCall
from runnerd.store.decisions import DecisionRecord
from runnerd.store.errors import CommitRefused
from runnerd.store.foreign import Filler
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from tests.support.aio import run_async

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = AT + timedelta(seconds=5)
WALLET = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
UINT256_MAX = (1 << 256) - 1
STRANGER = "0x" + "5e" * 32
ASKED = Cancellation(IntentState.CANCELLED, "uid:1 asked for it")

Scenario = Callable[["Ledger"], Coroutine[Any, Any, None]]


class Ledger:
    """A store, with a word for what tests do often."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._number = 0

    async def run(self, *statements: Statement) -> list[list[dict[str, Any]]]:
        return await self.store.commit(*statements)

    async def rows(self, sql: LiteralString) -> list[dict[str, Any]]:
        return await self.store.fetch(Statement(sql))

    async def call(self, plugin: str = "alpha", identity: str | None = None) -> JobCall:
        """A call that stands in the ledger."""
        self._number += 1
        asked = new_call(plugin, identity or f"call {self._number}")
        ((row,),) = await self.run(calls.insert(asked))
        return calls.inserted(asked, row)

    async def intent(self, call: JobCall, **changes: Any) -> Intent:
        """A planned intent of that call."""
        intent = replace(an_intent(call.id), **changes)
        await self.run(intents.plan(intent, AT))
        return intent

    async def signed(self, call: JobCall, *numbers: int, nonce: int = 5) -> Intent:
        """An intent of that call, signed at `nonce`: the first attempt, and its replacements."""
        intent = await self.intent(call)
        await self.run(intents.set_wallet(31337, WALLET, nonce))
        for number in numbers:
            at, attempt = AT + timedelta(seconds=number), an_attempt(number)
            if intent.nonce is None:
                await self.run(intents.allot_nonces([intent], nonce, [attempt], at))
                intent = replace(intent, nonce=nonce)
            else:
                await self.run(intents.add_attempt(intent, attempt, at))
        return intent

    async def open_intent(self, call: JobCall) -> Intent:
        """As a restart finds it."""
        rows = [row for row in await self.store.fetch(intents.open_intents()) if row["call_id"] == call.id]
        (found,) = intents.from_rows(rows, await self.store.fetch(intents.attempts_of([call.id])))
        return found


@asynccontextmanager
async def ledger_on(dsn: str) -> AsyncIterator[Ledger]:
    store = Store(dsn)
    await store.open()
    try:
        yield Ledger(store)
    finally:
        await store.close()


@pytest.fixture
def run(ledger_dsn: str) -> Callable[[Scenario], None]:
    """Runs a scenario on a fresh ledger."""

    def runner(scenario: Scenario) -> None:
        async def whole() -> None:
            async with ledger_on(ledger_dsn) as ledger:
                await scenario(ledger)

        run_async(whole())

    return runner


def new_call(plugin: str, identity: str, fired_at: datetime = AT) -> NewCall:
    """As a producer asks."""
    return NewCall(
        plugin=plugin, trigger=TriggerKind.EVENT, identity=identity, principal="pg:flow", due_at=fired_at,
        fired_at=fired_at, deadline_at=fired_at + timedelta(seconds=60), topic="flow", payload='{"x":1}',
    )  # fmt: skip


def an_intent(call_id: int) -> Intent:
    """With the largest numbers there are."""
    return Intent(
        call_id=call_id, plugin="alpha", vault="main", chain_id=31337, wallet=WALLET, target=WALLET,
        calldata=bytes(range(256)), value_wei=UINT256_MAX, deadline_at=LATER,
    )  # fmt: skip


def an_attempt(number: int = 1) -> Attempt:
    """With fees among the largest there are; those of a higher number are higher."""
    fees = Fees(max_fee_per_gas_wei=UINT256_MAX - 100 + number, max_priority_fee_per_gas_wei=number)
    return Attempt(hash=f"0x{number:064x}", raw=b"\2\0\xff", fees=fees, gas_limit=30_000_000, signed_block=7)


def a_noop(number: int) -> Attempt:
    """The same as a no-op."""
    return replace(an_attempt(number), kind=AttemptKind.NOOP)


# --- calls -----------------------------------------------------------------------------------------------------------


def test_call_comes_back_as_it_was_asked_for(run: Callable[[Scenario], None]) -> None:
    """Times in UTC to the microsecond, texts to the letter."""

    async def scenario(ledger: Ledger) -> None:
        asked = new_call("alpha", 'é"\n', AT + timedelta(microseconds=1))
        ((inserted,),) = await ledger.run(calls.insert(asked))
        (row,) = await ledger.store.fetch(calls.queued())
        call = calls.from_row(row)
        assert call == calls.inserted(asked, inserted)
        for name in ("plugin", "trigger", "identity", "principal", "topic", "payload", "due_at", "fired_at"):
            assert getattr(call, name) == getattr(asked, name)
        assert call.attempts == 0
        assert call.fired_at.utcoffset() == timedelta(0)

    run(scenario)


def test_identity_is_unique_for_its_plugin_only(run: Callable[[Scenario], None]) -> None:
    """A second fire is no second call, whoever asks and whatever became of the first; another plugin's is its own."""

    async def scenario(ledger: Ledger) -> None:
        first = await ledger.call(identity="slot 1")
        assert await ledger.run(calls.insert(new_call("alpha", "slot 1", LATER))) == [[]]
        assert (await ledger.call("beta", "slot 1")).id != first.id
        await ledger.run(calls.finish(first.id, JobOutcome.NOOP, "quiet", LATER))
        assert await ledger.run(calls.insert(new_call("alpha", "slot 1"))) == [[]]
        assert len(await ledger.rows("select id from job_calls")) == 2

    run(scenario)


def test_call_keeps_the_one_outcome_it_got(run: Callable[[Scenario], None]) -> None:
    """A second one changes nothing, not even the time."""

    async def scenario(ledger: Ledger) -> None:
        call = await ledger.call()
        await ledger.run(calls.finish(call.id, JobOutcome.DEAD, "first", AT))
        await ledger.run(calls.finish(call.id, JobOutcome.ACTED, "second", LATER), calls.decided(call.id))
        (row,) = await ledger.rows("select state, outcome, reason, finished_at from job_calls")
        assert row == {"state": "done", "outcome": "dead", "reason": "first", "finished_at": AT}

    run(scenario)


def test_queued_are_those_that_nobody_decided_oldest_first(run: Callable[[Scenario], None]) -> None:
    """Decided and finished ones are not decided again."""

    async def scenario(ledger: Ledger) -> None:
        made = [await ledger.call() for _ in range(4)]
        await ledger.run(calls.decided(made[1].id), calls.finish(made[2].id, JobOutcome.NOOP, "", AT))
        await ledger.run(calls.count_attempt(made[3].id, 2))
        rows = await ledger.store.fetch(calls.queued())
        assert [(row["id"], row["attempts"]) for row in rows] == [(made[0].id, 0), (made[3].id, 2)]

    run(scenario)


def test_cursor_never_goes_back(run: Callable[[Scenario], None]) -> None:
    """Whatever order commits are run again in."""

    async def scenario(ledger: Ledger) -> None:
        for due_at in (AT, LATER, AT):
            await ledger.run(cursors.move("alpha", "every 1 s", due_at))
        await ledger.run(cursors.move("beta", "x", AT))
        assert await stored_cursors(ledger) == {("alpha", "every 1 s"): LATER, ("beta", "x"): AT}

    run(scenario)


async def stored_cursors(ledger: Ledger) -> dict[tuple[str, str], datetime]:
    rows = await ledger.store.fetch(cursors.of_plugins(["alpha", "beta", "gamma"]))
    return {(row["plugin"], row["trigger_key"]): row["due_at"] for row in rows}


def test_cursors_of_what_nobody_wants_are_dropped_and_no_others(run: Callable[[Scenario], None]) -> None:
    """Of one plugin's triggers, of all of them, and of plugins that are not there."""

    async def scenario(ledger: Ledger) -> None:
        for plugin in ("alpha", "beta", "gamma"):
            await ledger.run(cursors.move(plugin, "x", AT), cursors.move(plugin, "y", AT))
        await ledger.run(cursors.drop("alpha", ["x", "z"]))
        assert {key for plugin, key in await stored_cursors(ledger) if plugin == "alpha"} == {"x"}
        await ledger.run(cursors.drop("beta"))
        assert {plugin for plugin, _ in await stored_cursors(ledger)} == {"alpha", "gamma"}
        await ledger.run(cursors.drop_of_others(["alpha", "beta"]))
        assert await stored_cursors(ledger) == {("alpha", "x"): AT}
        await ledger.run(cursors.drop_of_others([]))
        assert await stored_cursors(ledger) == {}

    run(scenario)


def test_call_and_cursor_stand_together_or_not_at_all(run: Callable[[Scenario], None]) -> None:
    """One transaction: a JobCall whose cursor did not move would be made again."""

    async def scenario(ledger: Ledger) -> None:
        broken = Statement("insert into trigger_cursors (plugin) values ('alpha')")
        with pytest.raises(CommitRefused):
            await ledger.run(calls.insert(new_call("alpha", "a")), broken)
        assert await ledger.rows("select id from job_calls") == []

    run(scenario)


def test_recent_shows_calls_with_decision_and_the_transaction_that_counts(run: Callable[[Scenario], None]) -> None:
    """Newest first; of several attempts the one that succeeded, else the last."""

    async def scenario(ledger: Ledger) -> None:
        old, new = await ledger.call(), await ledger.call("beta")
        await ledger.run(decisions.insert(record(old.id)))
        await ledger.signed(old, 1, 2)
        rows = await ledger.store.fetch(calls.recent(None, 10))
        assert [(row["id"], row["transaction"], row["decision"]) for row in rows] == [
            (new.id, None, None), (old.id, an_attempt(2).hash, '{"kind":"noop"}'),
        ]  # fmt: skip
        await ledger.run(intents.mined(mined(1)))
        assert (await ledger.store.fetch(calls.recent("alpha", 10)))[0]["transaction"] == an_attempt(1).hash
        assert [row["id"] for row in await ledger.store.fetch(calls.recent(None, 1))] == [new.id]
        decided = await ledger.store.fetch(calls.recent(None, 10, only_decided=True))
        assert [row["id"] for row in decided] == [old.id]
        found = await ledger.store.fetch(calls.find("alpha", old.identity))
        assert (found[0]["id"], found[0]["transaction"]) == (old.id, an_attempt(1).hash)

    run(scenario)


def test_last_results_are_one_for_each_plugin_that_has_one(run: Callable[[Scenario], None]) -> None:
    """The newest that is finished."""

    async def scenario(ledger: Ledger) -> None:
        for reason in ("old", "new"):
            call = await ledger.call()
            await ledger.run(calls.finish(call.id, JobOutcome.NOOP, reason, AT))
        await ledger.call()
        await ledger.call("beta")
        rows = await ledger.store.fetch(calls.last_results(["alpha", "beta", "gamma"]))
        assert [(row["plugin"], row["reason"]) for row in rows] == [("alpha", "new")]

    run(scenario)


# --- decisions and state ---------------------------------------------------------------------------------------------


def record(call_id: int, outcome: str = '{"kind":"noop"}') -> DecisionRecord:
    """A Decision as it is kept."""
    return DecisionRecord(
        call_id=call_id, plugin="alpha", generation=3, digest="sha256:0", attempt=1, context='{"a":1}',
        outcome=outcome, decided_at=AT, decide_ms=1.5,
    )  # fmt: skip


def test_call_has_one_decision(run: Callable[[Scenario], None]) -> None:
    """The same may come again, after an answer that was lost; another is refused, with what is committed beside it."""

    async def scenario(ledger: Ledger) -> None:
        call = await ledger.call()
        for _ in range(2):
            await ledger.run(decisions.insert(record(call.id)))
        for changes in ({"decided_at": LATER}, {"generation": 4}, {"attempt": 2}):
            other = replace(record(call.id, "other"), **changes)
            for also in ([], [decisions.put_state("alpha", "a", "1")]):  # alone, it may go in a statement with others
                with pytest.raises(CommitRefused, match="the call was decided before"):
                    await ledger.run(decisions.insert(other), *also)
        assert await ledger.rows("select * from plugin_state") == []
        (row,) = await ledger.rows("select * from decisions")
        assert (row["outcome"], row["context"], row["decide_ms"]) == ('{"kind":"noop"}', '{"a":1}', 1.5)

    run(scenario)


def test_state_writes_are_made_in_order_and_per_plugin(run: Callable[[Scenario], None]) -> None:
    """The last write of a key counts; a plugin sees its own keys only."""

    async def scenario(ledger: Ledger) -> None:
        writes = (
            StatePut(key="a", value="1"), StateDelete(key="a"), StatePut(key="a", value="2"),
            StatePut(key="b", value="3"), StateDelete(key="b"), StateDelete(key="never"),
        )  # fmt: skip
        await ledger.run(*decisions.write_state("alpha", writes, decisions.StateLimits()))
        await ledger.run(decisions.put_state("beta", "a", "other"))
        assert await ledger.store.fetch(decisions.get_state("alpha", "a")) == [{"value": "2"}]
        assert await ledger.store.fetch(decisions.get_state("alpha", "b")) == []

    run(scenario)


@pytest.mark.parametrize(
    "before, expected, value, is_swapped, after",
    [
        (None, None, "1", True, "1"),
        ("0", None, "1", False, "0"),
        ("0", "0", "1", True, "1"),
        ("0", "9", "1", False, "0"),
        (None, "0", "1", False, None),
        ("0", "0", None, True, None),
        ("0", "9", None, False, "0"),
        (None, "0", None, False, None),
        (None, None, None, True, None),
        ("0", None, None, False, "0"),
        ("0", "0", "0", True, "0"),
    ],
)
def test_compare_and_set(
    run: Callable[[Scenario], None],
    before: str | None,
    expected: str | None,
    value: str | None,
    is_swapped: bool,
    after: str | None,
) -> None:
    """One row if it was done; absent is a value like any other, on both sides."""

    async def scenario(ledger: Ledger) -> None:
        if before is not None:
            await ledger.run(decisions.put_state("alpha", "key", before))
        await ledger.run(decisions.put_state("beta", "key", "0"))
        (rows,) = await ledger.run(decisions.compare_and_set_state("alpha", "key", expected, value))
        assert bool(rows) is is_swapped
        found = await ledger.store.fetch(decisions.get_state("alpha", "key"))
        assert [row["value"] for row in found] == ([] if after is None else [after])

    run(scenario)


# --- intents and attempts --------------------------------------------------------------------------------------------


def mined(number: int, *, is_success: bool = True) -> Mined:
    """Attempt `number` is in a block."""
    return Mined(
        hash=an_attempt(number).hash, block=8, block_hash="0xb8", is_success=is_success, head=9, gas_used=21_000,
        effective_gas_price_wei=UINT256_MAX, is_agreed=True,
    )  # fmt: skip


def test_intent_and_attempts_come_back_as_they_were(run: Callable[[Scenario], None]) -> None:
    """Amounts, bytes, route, caps and the order of attempts, though the clock was set back.

    Not which attempts a node has: it may have forgotten them since.
    """

    async def scenario(ledger: Ledger) -> None:
        call = await ledger.call()
        intent = await ledger.intent(call, route=Route.PRIVATE_FIRST, max_fee_per_gas_wei=UINT256_MAX)
        assert await ledger.open_intent(call) == intent
        await ledger.run(intents.set_wallet(31337, WALLET, 5))
        await ledger.run(intents.allot_nonces([intent], 5, [an_attempt(1)], AT))
        signed = replace(intent, nonce=5)
        earlier = AT - timedelta(seconds=9)
        await ledger.run(intents.add_attempt(signed, an_attempt(2), earlier))
        await ledger.run(intents.add_attempt(signed, a_noop(3), earlier - timedelta(seconds=9), ASKED))
        await ledger.run(intents.accepted([an_attempt(1).hash], AT))
        assert await ledger.open_intent(call) == replace(
            signed,
            state=IntentState.SENT,
            attempts=(an_attempt(1), an_attempt(2), a_noop(3)),
            cancellation=ASKED,
        )
        assert [calls.from_row(row) for row in await ledger.store.fetch(intents.calls_of([call.id]))] == [call]

    run(scenario)


def test_nonces_are_allotted_once_and_move_the_wallet_on(run: Callable[[Scenario], None]) -> None:
    """Several in one commit; the same commit run again changes nothing."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.run(intents.set_wallet(31337, WALLET, 5))
        wanted = [await ledger.intent(await ledger.call()) for _ in range(3)]
        attempts = [an_attempt(number) for number in (1, 2, 3)]
        for _ in range(2):
            await ledger.run(intents.allot_nonces(wanted, 5, attempts, AT))
            rows = await ledger.rows("select nonce, state from intents order by call_id")
            assert [(row["nonce"], row["state"]) for row in rows] == [(5, "signed"), (6, "signed"), (7, "signed")]
            stored = await ledger.rows("select a.hash, a.nonce from attempts a join intents i using (call_id, nonce)")
            assert {(row["hash"], row["nonce"]) for row in stored} == {
                (attempt.hash, nonce) for nonce, attempt in enumerate(attempts, 5)
            }
            assert await ledger.store.fetch(intents.wallet(31337, WALLET)) == [{"next_nonce": 8}]

    run(scenario)


@pytest.mark.parametrize("first, count", [(3, 1), (6, 1), (9, 1), (4, 2)])
def test_nonces_of_a_wallet_that_is_elsewhere_are_refused(
    run: Callable[[Scenario], None], first: int, count: int
) -> None:
    """All of the commit: nothing is signed, nothing stored."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.run(intents.set_wallet(31337, WALLET, 5))
        wanted = [await ledger.intent(await ledger.call()) for _ in range(count)]
        attempts = [an_attempt(number) for number in range(count)]
        with pytest.raises(CommitRefused, match="not what this process thinks"):
            await ledger.run(intents.allot_nonces(wanted, first, attempts, AT))
        assert await ledger.rows("select hash from attempts") == []
        assert await ledger.rows("select distinct state, nonce from intents") == [{"state": "planned", "nonce": None}]
        assert await ledger.store.fetch(intents.wallet(31337, WALLET)) == [{"next_nonce": 5}]

    run(scenario)


def test_intent_that_is_not_as_thought_gets_no_nonce(run: Callable[[Scenario], None]) -> None:
    """It has another nonce, has ended or is cancelled: those beside it get none either."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.run(intents.set_wallet(31337, WALLET, 5))
        signed, ended, cancelled, good = [await ledger.intent(await ledger.call()) for _ in range(4)]
        await ledger.run(intents.allot_nonces([signed, cancelled], 5, [an_attempt(1), an_attempt(2)], AT))
        await ledger.run(intents.add_attempt(replace(cancelled, nonce=6), a_noop(3), AT, ASKED))
        await ledger.run(intents.died(cancelled.call_id, STRANGER, AT))
        await ledger.run(intents.set_state(cancelled.call_id, IntentState.PLANNED, AT))
        await ledger.run(intents.set_state(ended.call_id, IntentState.DENIED, AT, "no"))
        for bad in (signed, ended, cancelled):
            with pytest.raises(CommitRefused, match="an intent has another nonce, or has ended"):
                await ledger.run(intents.allot_nonces([good, bad], 7, [an_attempt(8), an_attempt(9)], AT))
        assert (await ledger.open_intent(await call_of(ledger, good))).state is IntentState.PLANNED
        assert await ledger.store.fetch(intents.wallet(31337, WALLET)) == [{"next_nonce": 7}]

    run(scenario)


async def call_of(ledger: Ledger, intent: Intent) -> JobCall:
    (row,) = await ledger.store.fetch(intents.calls_of([intent.call_id]))
    return calls.from_row(row)


def test_two_intents_cannot_have_one_nonce(run: Callable[[Scenario], None]) -> None:
    """The table itself forbids it."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.signed(await ledger.call(), 1)
        second = await ledger.intent(await ledger.call())
        with pytest.raises(CommitRefused, match="the wallet's next nonce is not what this process thinks"):
            await ledger.run(intents.allot_nonces([second], 5, [an_attempt(2)], AT))
        with pytest.raises(CommitRefused, match="duplicate key"):
            await ledger.run(Statement("update intents set nonce = 5 where nonce is null"))

    run(scenario)


def test_bytes_under_a_hash_never_change(run: Callable[[Scenario], None]) -> None:
    """A second attempt of the same hash is not stored over the first."""

    async def scenario(ledger: Ledger) -> None:
        intent = await ledger.signed(await ledger.call(), 1)
        for _ in range(2):
            await ledger.run(intents.add_attempt(intent, replace(an_attempt(), raw=b"other"), AT))
        (row,) = await ledger.rows("select raw from attempts")
        assert bytes(row["raw"]) == an_attempt().raw

    run(scenario)


def test_replacement_is_stored_of_an_open_intent_with_this_nonce_only(run: Callable[[Scenario], None]) -> None:
    """Else the commit is refused, and nothing goes out."""

    async def scenario(ledger: Ledger) -> None:
        intent = await ledger.signed(await ledger.call(), 1)
        planned = await ledger.intent(await ledger.call())
        ended = await ledger.signed(await ledger.call(), 2, nonce=6)
        await ledger.run(intents.set_state(ended.call_id, IntentState.FINAL, AT))
        for wrong in (replace(intent, nonce=6), replace(planned, nonce=5), ended, replace(intent, call_id=10**6)):
            for made, why in ((an_attempt(9), None), (a_noop(9), ASKED)):
                with pytest.raises(CommitRefused, match="another nonce, is cancelled or has ended"):
                    await ledger.run(intents.add_attempt(wrong, made, AT, why))
        assert len(await ledger.rows("select hash from attempts")) == 2
        assert await ledger.rows("select call_id from intents where cancel_as is not null") == []

    run(scenario)


def test_only_no_ops_follow_a_cancellation_and_the_first_stands(run: Callable[[Scenario], None]) -> None:
    """A batch that were signed after it could take effect although somebody was told that it will not."""

    async def scenario(ledger: Ledger) -> None:
        call = await ledger.call()
        intent = await ledger.signed(call, 1)
        for _ in range(2):
            await ledger.run(intents.add_attempt(intent, a_noop(2), AT, ASKED))
        await ledger.run(intents.add_attempt(intent, a_noop(3), AT))
        await ledger.run(intents.add_attempt(intent, a_noop(4), AT, Cancellation(IntentState.EXPIRED, "later")))
        with pytest.raises(CommitRefused, match="is cancelled"):
            await ledger.run(intents.add_attempt(intent, an_attempt(5), AT))
        found = await ledger.open_intent(call)
        assert found.cancellation == ASKED
        assert found.attempts == (an_attempt(1), a_noop(2), a_noop(3), a_noop(4))

    run(scenario)


def test_death_frees_the_intent_and_keeps_what_was_signed(run: Callable[[Scenario], None]) -> None:
    """Its attempts are no attempts of it any more; the first killer stands; another intent is not touched."""

    async def scenario(ledger: Ledger) -> None:
        call, other = await ledger.call(), await ledger.call()
        await ledger.signed(call, 1, 2)
        beside = await ledger.signed(other, 3, nonce=6)
        for killer in (STRANGER, "0xlater"):
            await ledger.run(
                intents.died(call.id, killer, AT), intents.set_state(call.id, IntentState.PLANNED, AT)
            )  # fmt: skip
        freed = await ledger.open_intent(call)
        assert freed == an_intent(call.id)
        assert (await ledger.open_intent(other)).nonce == beside.nonce
        rows = await ledger.rows("select dead_by from attempts order by hash")
        assert [row["dead_by"] for row in rows] == [STRANGER, STRANGER, None]
        await ledger.run(intents.allot_nonces([freed], 7, [an_attempt(4)], AT))
        again = await ledger.open_intent(call)
        assert (again.nonce, again.attempts) == (7, (an_attempt(4),))
        assert [row["hash"] for row in await ledger.store.fetch(foreign.attempts_at(31337, WALLET, 5))] == []

    run(scenario)


def test_intent_that_has_a_nonce_is_not_given_up(run: Callable[[Scenario], None]) -> None:
    """What is signed may take effect. Without a nonce, or when nothing with it can be mined any more, it ends."""

    async def scenario(ledger: Ledger) -> None:
        intent = await ledger.intent(await ledger.call())
        await ledger.run(intents.set_wallet(31337, WALLET, 5))
        await ledger.run(intents.allot_nonces([intent], 5, [an_attempt()], AT))
        with pytest.raises(CommitRefused, match="the intent was signed"):
            await ledger.run(intents.give_up(intent.call_id, IntentState.DENIED, LATER, "no"))
        await ledger.run(intents.died(intent.call_id, STRANGER, AT))
        for _ in range(2):
            await ledger.run(intents.give_up(intent.call_id, IntentState.DENIED, LATER, "no"))
        (row,) = await ledger.rows("select state, reason from intents")
        assert row == {"state": "denied", "reason": "no"}

    run(scenario)


def test_ended_intent_stays_as_it_is(run: Callable[[Scenario], None]) -> None:
    """And is open no more."""

    async def scenario(ledger: Ledger) -> None:
        call = await ledger.call()
        await ledger.intent(call)
        await ledger.run(intents.set_state(call.id, IntentState.DENIED, AT, "why"))
        await ledger.run(intents.set_state(call.id, IntentState.FINAL, LATER))
        assert await ledger.rows("select state, reason from intents") == [{"state": "denied", "reason": "why"}]
        assert await ledger.store.fetch(intents.open_intents()) == []

    run(scenario)


def test_acceptance_keeps_the_first_time_and_takes_the_error_back(run: Callable[[Scenario], None]) -> None:
    """And moves no intent on that has gone further: a late answer must not bring an included one back."""

    async def scenario(ledger: Ledger) -> None:
        call = await ledger.call()
        await ledger.signed(call, 1)
        await ledger.run(
            intents.send_error(an_attempt().hash, "no\0"), intents.set_state(call.id, IntentState.INCLUDED, AT)
        )
        assert [row["error"] for row in await ledger.rows("select error from attempts")] == ["no·"]
        for at in (AT, LATER):
            await ledger.run(intents.accepted([an_attempt().hash], at))
        (row,) = await ledger.rows("select accepted_at, error, state from attempts join intents using (call_id)")
        assert row == {"accepted_at": AT, "error": None, "state": "included"}

    run(scenario)


def test_accepted_ones_are_sent_and_no_others(run: Callable[[Scenario], None]) -> None:
    """Several in one statement; what is not ours is no error."""

    async def scenario(ledger: Ledger) -> None:
        for number in (1, 2, 3):
            await ledger.signed(await ledger.call(), number, nonce=4 + number)
        for _ in range(2):
            await ledger.run(intents.accepted([an_attempt(1).hash, an_attempt(3).hash, "0xother"], LATER))
        rows = await ledger.rows(
            "select state, accepted_at from intents join attempts using (call_id) order by call_id"
        )
        assert [(row["state"], row["accepted_at"]) for row in rows] == [
            ("sent", LATER), ("signed", None), ("sent", LATER),
        ]  # fmt: skip

    run(scenario)


def test_inclusion_is_recorded_and_taken_back_by_a_reorg(run: Callable[[Scenario], None]) -> None:
    """Of all attempts of that intent, and of no other."""

    async def scenario(ledger: Ledger) -> None:
        made = [await ledger.call() for _ in range(2)]
        for number, call in enumerate(made, 1):
            await ledger.signed(call, number, nonce=4 + number)
            await ledger.run(intents.mined(mined(number)))
        await ledger.run(intents.fell_out(made[0].id))
        rows = await ledger.rows(
            "select included_block, is_success, effective_gas_price_wei from attempts order by hash"
        )
        assert [(row["included_block"], row["is_success"]) for row in rows] == [(None, None), (8, True)]
        assert int(rows[1]["effective_gas_price_wei"]) == UINT256_MAX

    run(scenario)


def test_wallet_moves_forward_only(run: Callable[[Scenario], None]) -> None:
    """A node that lags must not take a nonce back."""

    async def scenario(ledger: Ledger) -> None:
        for next_nonce in (5, 9, 7):
            await ledger.run(intents.set_wallet(1, WALLET, next_nonce))
        assert await ledger.store.fetch(intents.wallet(1, WALLET)) == [{"next_nonce": 9}]
        assert await ledger.store.fetch(intents.wallet(2, WALLET)) == []

    run(scenario)


def test_recent_transactions_are_newest_first(run: Callable[[Scenario], None]) -> None:
    """With what their intents say."""

    async def scenario(ledger: Ledger) -> None:
        call = await ledger.call()
        await ledger.signed(call, 1, 2, 3)
        rows = await ledger.store.fetch(intents.recent_transactions(2))
        assert [row["hash"] for row in rows] == [an_attempt(3).hash, an_attempt(2).hash]
        assert rows[0]["vault"] == "main"

    run(scenario)


# --- strangers and fillers -------------------------------------------------------------------------------------------


def found(number: int, nonce: int = 5) -> FoundTransaction:
    """A stranger's transaction."""
    return FoundTransaction(
        hash=f"0x{number:064x}", sender=WALLET, nonce=nonce,
        block=8, block_hash="0xb8", target=WALLET, selector="0xaabbccdd",
        value_wei=UINT256_MAX,
    )  # fmt: skip


def test_stranger_is_known_by_its_nonce_and_named_later(run: Callable[[Scenario], None]) -> None:
    """Once, whoever sees it again; a look that finds nothing takes no name back."""

    async def scenario(ledger: Ledger) -> None:
        for what, at in ((None, AT), (None, LATER)):
            await ledger.run(foreign.seen(31337, WALLET, 5, what, at))
        (row,) = await ledger.store.fetch(foreign.of_chain(31337))
        assert (row["hash"], row["adopted_by"], row["seen_at"]) == (None, None, AT)
        for what in (found(1), found(1), None):
            await ledger.run(foreign.seen(31337, WALLET, 5, what, LATER))
        (row,) = await ledger.store.fetch(foreign.of_chain(31337))
        assert (row["hash"], row["block"], row["target"], row["selector"], int(row["value_wei"]), row["seen_at"]) == (
            found(1).hash, 8, WALLET, "0xaabbccdd", UINT256_MAX, AT,
        )  # fmt: skip
        assert await ledger.store.fetch(foreign.of_chain(1)) == []

    run(scenario)


def test_adoption_is_by_hash_and_the_first_one_stands(run: Callable[[Scenario], None]) -> None:
    """An unknown hash adopts nothing; seeing it again takes nothing back."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.run(foreign.seen(31337, WALLET, 5, found(1), AT), foreign.seen(31337, WALLET, 6, found(2, 6), AT))
        assert await ledger.run(foreign.adopt(31337, "0xother", "uid:1", AT)) == [[]]
        for by, at in (("uid:1", AT), ("uid:2", LATER)):
            ((row,),) = await ledger.run(foreign.adopt(31337, found(1).hash, by, at))
            assert (row["nonce"], row["adopted_by"], row["adopted_at"]) == (5, "uid:1", AT)
        for what in (found(1), None):
            await ledger.run(foreign.seen(31337, WALLET, 5, what, LATER))
        rows = await ledger.store.fetch(foreign.of_chain(31337))
        assert [(row["nonce"], row["adopted_by"]) for row in rows] == [(5, "uid:1"), (6, None)]

    run(scenario)


def test_another_stranger_in_the_place_of_an_adopted_one_is_not_adopted(run: Callable[[Scenario], None]) -> None:
    """After a reorg: somebody vouched for that transaction, not for whatever uses its nonce."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.run(foreign.seen(31337, WALLET, 5, found(1), AT), foreign.adopt(31337, found(1).hash, "uid:1", AT))
        await ledger.run(foreign.seen(31337, WALLET, 5, found(2), LATER))
        (row,) = await ledger.store.fetch(foreign.of_chain(31337))
        assert (row["hash"], row["adopted_by"], row["adopted_at"]) == (found(2).hash, None, None)

    run(scenario)


def test_fillers_come_back_as_they_were_the_dearest_first(run: Callable[[Scenario], None]) -> None:
    """Of that nonce of that wallet on that chain; the bytes under a hash never change."""

    async def scenario(ledger: Ledger) -> None:
        fillers = [
            Filler(hash=f"0x{n}", nonce=5, raw=bytes([n]), signed_block=n,
                   fees=Fees(max_fee_per_gas_wei=UINT256_MAX - n, max_priority_fee_per_gas_wei=n))
            for n in (3, 1, 2)
        ]  # fmt: skip
        for filler in (*fillers, replace(fillers[0], raw=b"other")):
            await ledger.run(foreign.add_filler(31337, WALLET, filler, AT))
        await ledger.run(foreign.add_filler(31337, WALLET, replace(fillers[0], hash="0x9", nonce=6), AT))
        rows = await ledger.store.fetch(foreign.fillers_at(31337, WALLET, 5))
        assert [foreign.filler_from_row(row) for row in rows] == sorted(fillers, key=lambda each: each.signed_block)
        assert await ledger.store.fetch(foreign.fillers_at(1, WALLET, 5)) == []
        assert await ledger.store.fetch(foreign.fillers_at(31337, "0x", 5)) == []

    run(scenario)


def test_what_was_at_a_nonce_is_named_the_included_one_first(run: Callable[[Scenario], None]) -> None:
    """Then the dearest: that is what a pool may still hold."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.signed(await ledger.call(), 1, 2, 3)
        await ledger.signed(await ledger.call(), 4, nonce=6)

        async def hashes() -> list[str]:
            return [row["hash"] for row in await ledger.store.fetch(foreign.attempts_at(31337, WALLET, 5))]

        assert await hashes() == [an_attempt(number).hash for number in (3, 2, 1)]
        await ledger.run(intents.mined(mined(1)))
        assert await hashes() == [an_attempt(number).hash for number in (1, 3, 2)]

    run(scenario)


# --- workers and pauses ----------------------------------------------------------------------------------------------


def test_history_is_newest_first_and_names_the_last_generation(run: Callable[[Scenario], None]) -> None:
    """A restart of runnerd goes on counting."""

    async def scenario(ledger: Ledger) -> None:
        for generation, kind in ((1, "ready"), (1, "exited"), (2, "ready")):
            await ledger.run(workers.event("alpha", generation, kind, "…", AT))
        await ledger.run(workers.event("beta", 7, "ready", "…", AT))
        rows = await ledger.store.fetch(workers.events("alpha", 2))
        assert [(row["generation"], row["kind"]) for row in rows] == [(2, "ready"), (1, "exited")]
        last = await ledger.store.fetch(workers.last_generations())
        assert {row["plugin"]: row["generation"] for row in last} == {"alpha": 2, "beta": 7}

    run(scenario)


def test_pause_stays_with_who_made_it_until_it_is_taken_back(run: Callable[[Scenario], None]) -> None:
    """A second pause of the same scope is the first one's."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.run(workers.pause("vault", "main", "uid:1", AT), workers.pause("vault", "main", "uid:2", LATER))
        await ledger.run(workers.pause("all", "*", "uid:3", AT))
        rows = await ledger.store.fetch(workers.pauses())
        assert {(row["scope"], row["paused_by"]) for row in rows} == {("vault", "uid:1"), ("all", "uid:3")}
        assert {row["mode"] for row in rows} == {"paused"}
        await ledger.run(workers.pause("vault", "main", "uid:4", LATER, "reducing"))
        await ledger.run(workers.pause("plugin", "alpha", "uid:5", AT, "reducing"))
        await ledger.run(workers.pause("plugin", "alpha", "uid:6", LATER))
        rows = await ledger.store.fetch(workers.pauses())
        assert {(row["scope"], row["paused_by"], row["mode"]) for row in rows} == {
            ("vault", "uid:1", "paused"), ("all", "uid:3", "paused"), ("plugin", "uid:6", "paused")
        }  # fmt: skip
        await ledger.run(workers.resume("plugin", "alpha"))
        await ledger.run(workers.resume("vault", "main"), workers.resume("plugin", "nobody"))
        assert [row["scope"] for row in await ledger.store.fetch(workers.pauses())] == ["all"]

    run(scenario)


def test_knob_stands_as_it_was_turned_last_until_all_of_its_chain_are_reset(
    run: Callable[[Scenario], None],
) -> None:
    """With who turned it; the same name on another chain is another knob."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.run(knobs.turn("one", "cap", 7, "uid:1", AT), knobs.turn("two", "cap", 8, "uid:1", AT))
        await ledger.run(
            knobs.turn("one", "cap", UINT256_MAX, "uid:2", LATER), knobs.turn("one", "tip", 0, "uid:2", AT)
        )
        cap, tip = await ledger.store.fetch(knobs.of_chain("one"))
        assert cap == {"chain": "one", "name": "cap", "value": UINT256_MAX, "set_by": "uid:2", "set_at": LATER}
        assert (tip["name"], int(tip["value"])) == ("tip", 0)
        await ledger.run(knobs.reset("one"))
        assert await ledger.store.fetch(knobs.of_chain("one")) == []
        assert [row["value"] for row in await ledger.store.fetch(knobs.of_chain("two"))] == [8]

    run(scenario)


def test_fate_of_a_call_is_where_it_stands_or_its_end(run: Callable[[Scenario], None]) -> None:
    """An operator who wants to cancel it is told why that is too late, or too early."""

    async def scenario(ledger: Ledger) -> None:
        call = await ledger.call()
        assert await ledger.store.fetch(calls.fate(call.id)) == [
            {"plugin": "alpha", "state": "queued", "outcome": None, "reason": None}
        ]
        await ledger.run(calls.finish(call.id, JobOutcome.NOOP, "quiet", AT))
        assert await ledger.store.fetch(calls.fate(call.id)) == [
            {"plugin": "alpha", "state": "done", "outcome": "noop", "reason": "quiet"}
        ]
        assert await ledger.store.fetch(calls.fate(call.id + 1)) == []

    run(scenario)


@pytest.mark.parametrize(
    "sql",
    [
        "update job_calls set state = 'done'",
        "update job_calls set outcome = 'acted'",
        "update job_calls set state = 'done', outcome = 'maybe', finished_at = now()",
        "update intents set state = 'perhaps'",
        "insert into pauses values ('worker', 'x', 'y', now())",
        "insert into pauses values ('vault', 'x', 'y', now(), 'half')",
        "insert into pauses values ('action', 'x', 'y', now(), 'reducing')",
        "insert into usage values (1, 'luck', '', '', 1, now())",
        "insert into usage values (404, 'gas', '', '', 1, now())",
        "update intents set route = 'carrier pigeon'",
        "update intents set deadline_at = null",
        "update intents set cancel_as = 'final', cancel_reason = 'x'",
        "update intents set cancel_as = 'expired'",
        "insert into foreign_transactions values (1, 'x', 1, null, null, null, null, null, now(), 'y', null)",
        "insert into knobs values ('x', 'y', null, 'z', now())",
        "insert into ledger default values",
    ],
)
def test_tables_refuse_what_would_be_nonsense(run: Callable[[Scenario], None], ledger_dsn: str, sql: str) -> None:
    """The last line of defence: constraints, whoever writes."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.intent(await ledger.call())
        with psycopg.connect(ledger_dsn, autocommit=True) as connection, pytest.raises(psycopg.IntegrityError):
            connection.execute(sql.encode())

    run(scenario)

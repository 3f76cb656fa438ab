"""What was used of rolling limits, on a real ledger: it survives restarts and jumping clocks, nothing counts twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import count
from typing import Any

import psycopg
import pytest

from protocol.messages import TriggerKind
from runnerd.config.grants import ActionGrant, ArgumentLimit
from runnerd.config.model import VaultConfig
from runnerd.config.plugins import BudgetConfig
from runnerd.executor.usage import Usage
from runnerd.executor.wanted import Attempt, Intent, IntentState
from runnerd.executor.windows import DAY_S, HOUR_S, Measure, Meter, Use
from runnerd.store import calls, intents
from runnerd.store.calls import NewCall
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.vaults.catalogue import build_catalogue
from tests.store.test_statements import an_attempt
from tests.support.aio import run_async

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WALLET, MARKET = "0x" + "33" * 20, "0x" + "11" * 20
STRIKE = Meter(Measure.ARGUMENT, ("argument", "main", "mint", "strike"), DAY_S)
VALUE = Meter(Measure.VALUE, ("vault", "main"), DAY_S)
COUNT = Meter(Measure.TRANSACTIONS, ("plugin", "alpha"), HOUR_S)
GAS = Meter(Measure.GAS, ("wallet", "1", WALLET), DAY_S)
VALUE_7 = Use(measure=Measure.VALUE, amount=7)
ONE = Use(measure=Measure.TRANSACTIONS, amount=1)
STRIKE_5 = Use(measure=Measure.ARGUMENT, amount=5, action="mint", argument="strike")


class SetClock:
    """A wall clock that can be set, beside a monotonic one that only goes on."""

    def __init__(self, wall: datetime = NOON) -> None:
        self.wall = wall
        self.seconds = 100.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def go_on(self, seconds: float) -> None:
        """Both."""
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds


class Ledger:
    """A database with calls and intents in it; each `usage` is one process on it."""

    _numbers = count()

    def __init__(self, store: Store) -> None:
        self.store = store

    async def usage(self, clock: SetClock, **changes: Any) -> Usage:
        """A process that has just started."""
        limits = {"strike": ArgumentLimit(max_per_day=100)}
        grant = ActionGrant(contract=MARKET, function="mint(uint256 strike)", limits=limits)
        vault = VaultConfig(chain="local", address=MARKET, wallet="hot", max_value_wei_per_day=100,
                            actions={"mint": grant})  # fmt: skip
        budget = BudgetConfig(max_transactions_per_hour=10, **changes)
        usage = Usage(self.store, clock, {"main": build_catalogue("main", vault)}, lambda _: budget, {WALLET: 10**6})
        await usage.load()
        return usage

    async def intent(self) -> Intent:
        """Of a call that stands in the ledger; not stored yet."""
        new = NewCall(plugin="alpha", trigger=TriggerKind.MANUAL, identity=f"usage {next(self._numbers)}",
                      principal="test", due_at=NOON, fired_at=NOON, deadline_at=NOON)  # fmt: skip
        ((row,),) = await self.store.commit(calls.insert(new))
        return Intent(call_id=row["id"], plugin="alpha", vault="main", chain_id=1, wallet=WALLET, target=MARKET,
                      calldata=b"", value_wei=7, actions=("mint",), deadline_at=NOON)  # fmt: skip

    async def take(self, usage: Usage, *uses: Use) -> Intent:
        """An approved Decision, committed."""
        intent = await self.intent()
        await self.store.commit(intents.plan(intent, NOON), *usage.take(intent, uses))
        return intent

    async def end(self, intent: Intent, state: IntentState, nonce: int | None = None) -> None:
        """As the ledger has it."""
        await self.store.commit(
            intents.set_state(intent.call_id, state, NOON),
            Statement("update intents set nonce = %(n)s where call_id = %(c)s", {"n": nonce, "c": intent.call_id}),
        )


@asynccontextmanager
async def ledger(dsn: str) -> AsyncIterator[Ledger]:
    """On this database."""
    store = Store(dsn)
    await store.open()
    try:
        yield Ledger(store)
    finally:
        await store.close()


def shown(usage: Usage, meters: Sequence[Meter] = (STRIKE, VALUE, COUNT)) -> list[int]:
    """What the meters show."""
    used = usage.beside(-1)
    return [used(meter) for meter in meters]


def test_what_was_taken_counts_at_once_and_after_a_restart(ledger_dsn: str) -> None:
    """Before its commit, so that two at once cannot both fit; and by the moment it was taken, not that of the start."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            clock = SetClock()
            usage = await there.usage(clock)
            intent = await there.intent()
            statements = usage.take(intent, [STRIKE_5, VALUE_7, ONE])
            assert shown(usage) == [5, 7, 1]
            await there.store.commit(intents.plan(intent, NOON), *statements)
            await there.store.commit(*statements)  # run again after a lost connection: nothing more
            clock.go_on(HOUR_S - 1)
            assert shown(await there.usage(clock)) == [5, 7, 1]
            clock.go_on(1)
            assert shown(usage) == [5, 7, 0]
            assert shown(await there.usage(clock)) == [5, 7, 0]
            clock.go_on(DAY_S - HOUR_S)
            assert shown(usage) == [0, 0, 0]
            assert shown(await there.usage(clock)) == [0, 0, 0]

    run_async(scenario())


def test_a_call_is_not_counted_against_itself(ledger_dsn: str) -> None:
    """A planned intent is judged again after a restart, beside what the others have."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            usage = await there.usage(SetClock())
            first, _ = await there.take(usage, VALUE_7), await there.take(usage, replace_amount(VALUE_7, 30))
            again = await there.usage(SetClock())
            assert again.beside(first.call_id)(VALUE) == 30
            assert again.spent_wei("main") == 37
            assert again.on_the_way("main")[first.call_id] == 7

    run_async(scenario())


@pytest.mark.parametrize(
    "state, nonce, left",
    [
        (IntentState.FINAL, 4, [5, 7, 1]),
        (IntentState.UNRESOLVED, 4, [5, 7, 1]),
        (IntentState.DENIED, None, [0, 0, 0]),
        (IntentState.REVERTED, 4, [0, 0, 1]),
    ],
)
def test_what_ended_without_effect_is_given_back(
    ledger_dsn: str, state: IntentState, nonce: int | None, left: list[int]
) -> None:
    """By its state alone, in memory as in the ledger. A transaction that reverted was one all the same."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            usage = await there.usage(SetClock())
            intent = await there.take(usage, STRIKE_5, VALUE_7, ONE)
            await there.end(intent, state, nonce)
            assert shown(await there.usage(SetClock())) == left
            attempts: tuple[Attempt, ...] = (an_attempt(1),) if nonce is not None else ()
            if state is not IntentState.UNRESOLVED:
                usage.ended(replace(intent, state=state, attempts=attempts), is_success=state is IntentState.FINAL)
                assert usage.on_the_way("main") == {}
            assert shown(usage) == left

    run_async(scenario())


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_wall_clock_that_is_set_back_or_forward_frees_nothing_while_we_run(ledger_dsn: str) -> None:
    """Only time that has really passed does."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            clock = SetClock()
            usage = await there.usage(clock)
            await there.take(usage, ONE)
            for jump in (timedelta(days=-400), timedelta(days=800)):
                clock.wall += jump
                await there.take(usage, ONE)
            assert shown(usage, [COUNT]) == [3]
            clock.seconds += HOUR_S
            assert shown(usage, [COUNT]) == [0]

    run_async(scenario())


@pytest.mark.parametrize("jump", [timedelta(hours=-2), timedelta(days=-400)])
def test_wall_clock_that_is_set_back_over_a_restart_frees_nothing(ledger_dsn: str, jump: timedelta) -> None:
    """The newest moment in the ledger is now, and time goes on from there."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            usage = await there.usage(SetClock())
            await there.take(usage, VALUE_7, ONE)
            clock = SetClock(NOON + jump)
            again = await there.usage(clock)
            assert shown(again, [VALUE, COUNT]) == [7, 1]
            clock.go_on(HOUR_S)
            assert shown(again, [VALUE, COUNT]) == [7, 0]
            clock.go_on(DAY_S)
            assert shown(again, [VALUE, COUNT]) == [0, 0]

    run_async(scenario())


def test_clock_that_was_far_ahead_does_not_hold_budgets_for_longer_than_a_window(ledger_dsn: str) -> None:
    """Rows of the year 2030 must not keep the vault from acting until then."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            await there.take(await there.usage(SetClock(NOON + timedelta(days=1_500))), VALUE_7)
            clock = SetClock()
            again = await there.usage(clock)
            assert shown(again, [VALUE]) == [7]
            await there.take(again, VALUE_7)
            clock.go_on(DAY_S)
            assert shown(again, [VALUE]) == [0]

    run_async(scenario())


def test_rows_that_can_never_count_again_are_pruned(ledger_dsn: str) -> None:
    """At the start, and once a day while it runs; twice the longest window is kept."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            clock = SetClock()
            usage = await there.usage(clock)
            kept = []
            for _ in range(4):
                kept.append((await there.take(usage, VALUE_7)).call_id)
                clock.go_on(DAY_S + 1)
            rows = await there.store.fetch(Statement("select call_id from usage order by call_id"))
            assert [row["call_id"] for row in rows] == kept[2:]
            await there.usage(clock)
            rows = await there.store.fetch(Statement("select call_id from usage order by call_id"))
            assert [row["call_id"] for row in rows] == kept[3:]

    run_async(scenario())


# --- gas -------------------------------------------------------------------------------------------------------------


def test_gas_is_reserved_at_the_highest_price_and_corrected_to_what_was_paid(ledger_dsn: str) -> None:
    """One of an intent's transactions is paid, so its dearest is reserved, once."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            usage = await there.usage(SetClock())
            gas, intent, other = usage.gas, await there.take(usage, ONE), await there.take(usage, ONE)
            assert gas.check(intent, 10**6) is None
            assert str(gas.check(intent, 10**6 + 1)).startswith("1000001 wei for gas on top of 0 in the last 24 hours")
            await there.store.commit(gas.reserve(intent, 600_000))
            assert gas.check(intent, 10**6) is None, "its own reservation is replaced, not added to"
            assert gas.check(other, 400_000) is None
            assert str(gas.check(other, 400_001)).endswith(f"max_gas_wei_per_day = 1000000 of wallet {WALLET}")
            await there.store.commit(gas.reserve(intent, 50_000))  # a cheaper no-op: the dearer one may still be paid
            assert shown(usage, [GAS]) == [600_000]
            assert shown(await there.usage(SetClock()), [GAS]) == [600_000]
            await there.store.commit(gas.settle(intent.call_id, 70_000))
            await there.end(intent, IntentState.REVERTED, 4)
            usage.ended(replace(intent, state=IntentState.REVERTED, attempts=(an_attempt(1),)), is_success=False)
            assert shown(usage, [GAS]) == [70_000], "a reverted transaction has paid its gas"
            assert shown(await there.usage(SetClock()), [GAS]) == [70_000]
            await there.store.commit(gas.reserve(other, 930_000), gas.release(other.call_id))
            assert shown(usage, [GAS]) == [70_000]
            assert shown(await there.usage(SetClock()), [GAS]) == [70_000]

    run_async(scenario())


def test_gas_of_a_plugin_is_limited_by_its_own_budget(ledger_dsn: str) -> None:
    """Beside the wallet's."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            usage = await there.usage(SetClock(), max_gas_wei_per_day=100)
            intent, other = await there.take(usage, ONE), await there.take(usage, ONE)
            await there.store.commit(usage.gas.reserve(intent, 60))
            assert usage.gas.check(other, 40) is None
            assert str(usage.gas.check(other, 41)).endswith("max_gas_wei_per_day = 100 of plugin alpha")

    run_async(scenario())


# --- the migration ---------------------------------------------------------------------------------------------------


def test_upgrade_does_not_make_a_budget_whole_again(ledger_dsn: str) -> None:
    """Intents from before the migration count as they were planned."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            intent = await there.intent()
            now = datetime.now(UTC)
            await there.store.commit(intents.plan(intent, now))
            migrated = Statement(
                "insert into usage (call_id, measure, amount, at) select call_id, 'value', value_wei, created_at "
                "from intents where value_wei > 0 and created_at > now() - interval '2 days'"
            )
            text = (await asyncio.to_thread(migration)).replace("\n    ", " ")
            assert migrated.sql in text, "the very statement of the migration"
            await there.store.commit(migrated)
            assert (await there.usage(SetClock(now))).spent_wei("main") == 7

    run_async(scenario())


def test_uint256_is_counted_exactly(ledger_dsn: str) -> None:
    """As everywhere else."""

    async def scenario() -> None:
        async with ledger(ledger_dsn) as there:
            usage = await there.usage(SetClock())
            await there.take(usage, replace_amount(STRIKE_5, (1 << 256) - 1))
            assert shown(await there.usage(SetClock()), [STRIKE]) == [(1 << 256) - 1]
            with psycopg.connect(ledger_dsn) as connection:
                assert connection.execute("select count(*) from usage").fetchone() == (1,)

    run_async(scenario())


def migration() -> str:
    """Its text."""
    return (resources.files("runnerd.store") / "migrations/0003_policy.sql").read_text("utf-8")


def replace_amount(use: Use, amount: int) -> Use:
    """The same of another size."""
    return replace(use, amount=amount)

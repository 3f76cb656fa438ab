"""The executor's door, on a real ledger, chain and wallet: a Decision is stored whole with what follows from it."""

import asyncio
from datetime import UTC, datetime

import pytest

from protocol.actions import Act, Action, Noop
from protocol.messages import StatePut
from runnerd.pauses import Pause, Scope
from runnerd.store.calls import JobOutcome
from runnerd.store.errors import CommitRefused
from tests.support.aio import run_async
from tests.support.executor_bench import ETHER, Ground, mint, running


def test_two_actions_become_one_transaction_and_one_result(ground: Ground) -> None:
    """Atomic, with two calls in it, its hash in the result, and final at the configured depth only."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act(mint(7), mint(8))
            await process.until_state(call, "sent")
            ground.mine()
            await process.until_state(call, "included")
            assert process.results_of == {}
            ground.mine()
            await process.until_ended(call)
            result = process.results_of[call.id]
            assert process.outcome(call).startswith("acted: included in block ")
            assert process.outcome(call).endswith(", 2 confirmations")
        (effect,) = ground.effects()
        assert (effect["hash"], effect["calls"], effect["value"]) == (result.transaction, 2, 15)
        assert ground.rows("select state, outcome from job_calls") == [{"state": "done", "outcome": "acted"}]
        (attempt,) = ground.rows(
            "select is_success, included_block, gas_used, accepted_at is not null as ok from attempts"
        )
        assert attempt["is_success"]
        assert attempt["ok"]
        assert attempt["gas_used"] > 21_000

    run_async(scenario())


def test_noop_is_stored_with_its_reason_and_state_writes(ground: Ground) -> None:
    """And nothing is planned."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.rest()
            assert process.outcome(call) == "noop: quiet"
            other = await process.call()
            await process.accept(other, Noop("seen"), StatePut(key="last", value="7"))
        assert ground.rows("select key, value from plugin_state") == [{"key": "last", "value": "7"}]
        assert ground.rows("select call_id from intents") == []
        assert len(ground.rows("select call_id from decisions")) == 2

    run_async(scenario())


def test_denied_decision_is_stored_and_plans_nothing(ground: Ground) -> None:
    """The answer of the plugin stands in the ledger beside the reason."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act(Action("steal"))
            assert process.outcome(call).startswith("denied: action 1 (steal) is not in the catalogue")
        (row,) = ground.rows("select outcome from decisions")
        assert '"steal"' in row["outcome"]
        assert ground.rows("select call_id from intents") == []

    run_async(scenario())


def test_pause_denies_a_decision_that_comes_after_it(ground: Ground) -> None:
    """The call was given to the worker before the pause: its Decision is stored, not carried out."""

    async def scenario() -> None:
        async with running(ground) as process:
            process.pauses.add(Pause(Scope.ALL, "*", "uid:0", datetime(2026, 1, 1, tzinfo=UTC)))
            call = await process.act(mint())
            assert process.outcome(call) == "denied: everything is paused by uid:0 since 2026-01-01 00:00:00 UTC"
        assert ground.sent() == []

    run_async(scenario())


def test_refused_commit_gives_the_budget_back_and_stores_nothing(ground: Ground) -> None:
    """PostgreSQL takes no NUL: the caller hears of it, and no half of the Decision stands."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.call()
            with pytest.raises(CommitRefused):
                await process.accept(call, Act(actions=(mint(ETHER),)), StatePut(key="a\0b", value="1"))
            assert process.vaults["main"].spent_today(process.clock.now()) == 0
        assert ground.rows("select call_id from decisions") == []
        assert ground.rows("select state from job_calls") == [{"state": "queued"}]

    run_async(scenario())


def test_two_decisions_at_once_cannot_both_take_the_rest_of_the_day(ground: Ground) -> None:
    """The budget is counted when it is judged, not when it is committed or mined."""
    ground.grant["max_value_wei_per_day"] = ETHER

    async def scenario() -> None:
        async with running(ground) as process:
            calls = [await process.call() for _ in range(2)]
            await asyncio.gather(*(process.accept(call, Act(actions=(mint(6 * ETHER // 10),))) for call in calls))
            denied = [call for call in calls if call.id in process.results_of]
            assert len(denied) == 1
            assert "is above max_value_wei_per_day" in process.outcome(denied[0])
            assert process.vaults["main"].spent_today(process.clock.now()) == 6 * ETHER // 10

    run_async(scenario())


def test_budget_comes_back_when_nothing_was_spent(ground: Ground) -> None:
    """A simulation that reverts, a deadline that passes: each gives back exactly its own."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:

            def spent() -> int:
                return process.vaults["main"].spent_today(process.clock.now())

            kept = await process.act(mint(5))
            await process.until_state(kept, "sent")
            reverted = await process.act(mint(ETHER), mint(ETHER // 2))  # above the vault's own cap per transaction
            await process.until_ended(reverted)
            assert spent() == 5
            ground.proxy.hang_up("eth_getBlockByNumber", is_forwarded=False)
            ground.proxy.hang_up("eth_call", is_forwarded=False)
            expired = await process.act(mint(7), deadline_s=0.3)
            assert spent() == 12
            await process.until_ended(expired)
            assert process.outcome(expired) == "expired: its deadline passed before it could be signed"
            assert spent() == 5

    run_async(scenario())


def test_spending_of_the_day_survives_a_restart(ground: Ground) -> None:
    """What is planned or sent counts, what was denied does not, and each intent is given back at most once."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            planned = await process.act(mint(40))
            await process.act(mint(2))
        async with running(ground, lane=False, follower=False) as process:
            desk = process.vaults["main"]
            assert desk.spent_today(process.clock.now()) == 42
            await process.book.give_up(process.book.open[planned.id], JobOutcome.EXPIRED, "test")
            assert desk.spent_today(process.clock.now()) == 2

    run_async(scenario())


def test_budget_of_a_new_day_is_whole_whatever_ends_on_it(ground: Ground) -> None:
    """An intent of yesterday that is denied today must not leave room for more today."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            desk = process.vaults["main"]
            yesterday, today = datetime(2026, 1, 1, 23, tzinfo=UTC), datetime(2026, 1, 2, 1, tzinfo=UTC)
            desk.spend(1, 100, yesterday)
            assert desk.spent_today(yesterday) == 100
            desk.spend(2, 30, today)
            assert desk.spent_today(today) == 30
            desk.give_back(1)
            assert desk.spent_today(today) == 30

    run_async(scenario())


def test_intent_id_is_the_ledgers_own_and_used_once_on_chain(ground: Ground) -> None:
    """Two calls of one ledger never share one: the vault would refuse the second."""

    async def scenario() -> None:
        async with running(ground) as process:
            calls = [await process.act(), await process.act()]
            await process.mine_until_ended(*calls)
        ids = [effect["intentId"] for effect in ground.effects()]
        assert len(set(ids)) == 2
        assert bytes(32) not in ids

    run_async(scenario())

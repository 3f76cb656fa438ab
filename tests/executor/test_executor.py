"""The executor's door, on a real ledger, chain and wallet: a Decision is stored whole with what follows from it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
import pytest
from coincurve import PrivateKey

from protocol.actions import Act, Action, Noop
from protocol.messages import StatePut
from runnerd.config.grants import ArgumentLimit
from runnerd.executor.tracked import AlreadySigned
from runnerd.pauses import Pause, Scope
from runnerd.store.calls import JobCall, JobOutcome
from runnerd.store.errors import CommitRefused
from tests.support.aio import run_async
from tests.support.executor_bench import ETHER, SPOT, Ground, Process, mint, running
from tests.support.until import until


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
            assert process.usage.spent_wei("main") == 0
        assert ground.rows("select call_id from decisions") == []
        assert ground.rows("select state from job_calls") == [{"state": "queued"}]

    run_async(scenario())


def test_a_second_decision_of_a_call_counts_for_nothing(ground: Ground) -> None:
    """Whoever brings it, while the first is stored, signed or mined: one effect, and the wallet goes on."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.call()
            await asyncio.gather(*(process.accept(call, Act(actions=(mint(value),))) for value in (3, 4)))
            await process.accept(call, Act(actions=(mint(5),)))
            await process.until_state(call, "sent")
            await process.accept(call, Act(actions=(mint(6),)))
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
            with pytest.raises(CommitRefused, match="the call was decided before"):
                await process.accept(call, Act(actions=(mint(7),)))
            later = await process.act(mint(8))
            await process.mine_until_ended(later)
        assert [effect["value"] for effect in ground.effects()] == [3, 8]
        assert ground.rows("select outcome from job_calls") == [{"outcome": "acted"}] * 2

    run_async(scenario())


def test_decision_whose_caller_is_gone_is_carried_out(ground: Ground) -> None:
    """A plugin is reloaded while its Decision is being committed: the commit takes effect, and so does the Decision."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.call()
            with locked(ground):
                await cancelled_in_commit(process, call, Act(actions=(mint(3),)))
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert [effect["value"] for effect in ground.effects()] == [3]

    run_async(scenario())


def test_decision_that_is_refused_when_its_caller_is_gone_ends_its_call(ground: Ground) -> None:
    """Nobody else would: the host that asked has ended."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.call()
            with locked(ground):
                await cancelled_in_commit(process, call, Act(actions=(mint(),)), StatePut(key="a\0b", value="1"))
            await process.until_ended(call)
            assert process.outcome(call).startswith("failed: the Decision cannot be stored: CommitRefused: ")
            assert process.usage.spent_wei("main") == 0

    run_async(scenario())


@contextmanager
def locked(ground: Ground) -> Iterator[None]:
    """No Decision can be stored for the length of the block."""
    with psycopg.connect(ground.dsn) as connection:
        connection.execute("lock table decisions")
        yield


async def cancelled_in_commit(process: Process, call: JobCall, outcome: Act, *writes: StatePut) -> None:
    """Ask, and be gone while the ledger has not answered."""
    asking = asyncio.get_running_loop().create_task(process.accept(call, outcome, *writes))
    waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    await until(lambda: bool(process.ground.rows(waiting)) or asking.done())
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


def test_defect_in_the_rehearsal_does_not_keep_the_decision(ground: Ground) -> None:
    """It runs beside the commit, which must be followed by the lane whatever it finds."""
    ground.chain["gas_limit_factor"] = None

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            call = await process.act()
            assert process.lane.waiting == 1
            assert process.state(call) == "planned"

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
            assert process.usage.spent_wei("main") == 6 * ETHER // 10

    run_async(scenario())


def test_two_decisions_at_once_cannot_both_fit_a_rolling_sum(ground: Ground) -> None:
    """Nor when the second comes after a restart; what was denied took nothing."""
    ground.action["limits"] = {"strike": ArgumentLimit(max_per_day=10)}

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            calls = [await process.call() for _ in range(2)]
            both = (process.accept(call, Act(actions=(mint(strike=6),))) for call in calls)
            await asyncio.gather(*both)
            (denied,) = [call for call in calls if call.id in process.results_of]
            assert process.outcome(denied) == (
                "denied: action 1 (mint): strike: 6 on top of 6 in the last 24 hours is above max_per_day = 10"
            )
        async with running(ground, lane=False, follower=False) as process:
            assert "5 on top of 6 in the last" in process.outcome(await process.act(mint(strike=5)))
            assert process.state(await process.act(mint(strike=4))) == "planned"

    run_async(scenario())


def test_planned_intents_that_use_a_limit_up_are_not_counted_twice_by_the_next_process(ground: Ground) -> None:
    """Each is judged again beside the others, not beside itself."""
    ground.action["limits"] = {"strike": ArgumentLimit(max_per_hour=3 * SPOT)}
    ground.grant["max_value_wei_per_day"] = 30
    ground.budget.update(max_transactions_per_hour=3, max_value_wei_per_day=30)

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            calls = [await process.act(mint(10)) for _ in range(3)]
        async with running(ground) as process:
            await process.mine_until_ended(*calls)
            assert all(process.outcome(call).startswith("acted") for call in calls)
            assert "max_per_hour" in process.outcome(await process.act(mint(1)))

    run_async(scenario())


def test_budget_comes_back_when_nothing_was_spent(ground: Ground) -> None:
    """A simulation that reverts, a deadline that passes: each gives back exactly its own."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:

            def spent() -> int:
                return process.usage.spent_wei("main")

            kept = await process.act(mint(5))
            await process.until_state(kept, "sent")
            reverted = await process.act(mint(ETHER), mint(ETHER // 2))  # above the vault's own cap per transaction
            await process.until_ended(reverted)
            assert spent() == 5
            ground.proxy.hang_up("eth_getBlockByNumber", is_forwarded=False)
            ground.proxy.hang_up("eth_estimateGas", is_forwarded=False)
            expired = await process.act(mint(7), intent_deadline_s=0.3)
            assert spent() == 12
            await process.until_ended(expired)
            assert process.outcome(expired).startswith("expired: its deadline passed before it could be signed: ")
            assert spent() == 5

    run_async(scenario())


def test_spending_of_the_day_survives_a_restart(ground: Ground) -> None:
    """What is planned or sent counts, what was denied does not, and each intent is given back at most once."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            planned = await process.act(mint(40))
            await process.act(mint(2))
        async with running(ground, lane=False, follower=False) as process:
            assert process.usage.spent_wei("main") == 42
            await process.book.give_up(process.book.open[planned.id], JobOutcome.EXPIRED, "test")
            assert process.usage.spent_wei("main") == 2

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


# --- vaults that are not served --------------------------------------------------------------------------------------


def test_planned_intents_of_a_vault_that_is_not_served_end_as_failed(ground: Ground) -> None:
    """Refused, or gone from the configuration: whoever asked is told so, and nothing is ever signed."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            call = await process.act()
        async with running(ground, lane=False, follower=False) as process:
            process.vaults.clear()
            assert await process.executor.give_up_vault("other", "refused") == 0
            await process.executor.give_up_unconfigured(frozenset({"main"}))
            assert ground.rows("select state from intents") == [{"state": "planned"}]
            await process.executor.give_up_unconfigured(frozenset({"other"}))
            assert process.outcome(call) == "failed: not signed: vault main is not configured any more"
        assert ground.rows("select state from intents") == [{"state": "denied"}]
        assert ground.rows("select state, outcome from job_calls") == [{"state": "done", "outcome": "failed"}]

    run_async(scenario())


def test_signed_intent_is_not_given_up_with_its_vault(ground: Ground) -> None:
    """Its transaction may take effect: only the follower says how it ended. Giving it up is a defect."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            process.vaults.clear()
            assert await process.executor.give_up_vault("main", "refused") == 0
            with pytest.raises(AlreadySigned):
                await process.book.give_up(process.book.open[call.id], JobOutcome.FAILED, "test")
            assert process.results_of == {}
            assert process.state(call) == "sent"

    run_async(scenario())


# --- what a former process planned -----------------------------------------------------------------------------------


def test_planned_intent_that_is_granted_no_more_is_denied_by_the_next_process(ground: Ground) -> None:
    """The owner took the grant back while runnerd was down: nothing is signed, and the budget is whole."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            dear, cheap = await process.act(mint(400)), await process.act(mint(30))
        ground.grant["max_value_wei_per_day"] = 100
        async with running(ground) as process:
            assert process.outcome(dear).startswith(
                "denied: not granted any more: 400 wei on top of 30 in the last 24 hours"
            )
            assert process.usage.spent_wei("main") == 30
            await process.mine_until_ended(cheap)
            assert process.outcome(cheap).startswith("acted")
        assert [effect["value"] for effect in ground.effects()] == [30]

    run_async(scenario())


def test_planned_intent_of_another_wallet_is_not_signed_with_this_one(ground: Ground) -> None:
    """The new key would sign under the old one's row of the ledger."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            call = await process.act()
            former = process.lane.signer.address
        ground.key = PrivateKey()
        async with running(ground) as process:
            assert process.outcome(call) == (
                f"denied: not granted any more: its wallet was {former}, it is {process.lane.signer.address} now"
            )
        assert ground.sent() == []

    run_async(scenario())

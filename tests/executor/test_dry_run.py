"""A dry run on a real ledger, chain and wallet: it comes to what a real call would, and counts for nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from protocol.actions import Act, Action
from runnerd.store import numbers
from runnerd.store.calls import JobOutcome, JobResult
from tests.support.aio import run_async
from tests.support.calls import job_call
from tests.support.executor_bench import ETHER, Ground, Process, mint, running


async def dry_run(process: Process, *actions: Action, **plugin: Any) -> JobResult:
    """What would come of these actions; `plugin` are keys of its configuration."""
    ((row,),) = await process.store.commit(numbers.next_call_id())
    call = replace(job_call(row["id"]), is_dry_run=True)
    with process.results.expecting(call.id) as told:
        await process.accept(call, Act(actions=actions or (mint(),)), **plugin)
        return told.result()


def test_what_would_keep_a_transaction_waiting_or_from_being_signed_is_told(ground: Ground) -> None:
    """Price, gas budget, balance, a node that is away, a lane that has stopped, owners who must sign first."""

    async def scenario() -> None:
        async with running(ground) as process:
            lane, desk = process.lane, process.vaults["main"]

            async def told(outcome: JobOutcome, words: str, **plugin: Any) -> JobResult:
                result = await dry_run(process, **plugin)
                assert result.outcome is outcome, result
                assert words in result.reason
                return result

            good = await told(JobOutcome.ACTED, "simulation at block ")
            assert good.rehearsed is not None
            gas_wei = (good.rehearsed.gas_limit or 0) * (good.rehearsed.max_fee_per_gas_wei or 0)
            assert gas_wei > 21_000

            priced = await told(JobOutcome.FAILED, "it would wait: fees are above 1 wei", max_fee_per_gas_wei=1)
            assert priced.rehearsed is not None
            assert (priced.rehearsed.gas_limit, priced.rehearsed.max_fee_per_gas_wei) == (
                good.rehearsed.gas_limit, None,
            )  # fmt: skip

            ground.budget["max_gas_wei_per_day"] = 1
            refused = await told(JobOutcome.DENIED, "not signed: ")
            assert refused.rehearsed is not None
            (gas,) = [one for one in refused.rehearsed.standings if one.key == "max_gas_wei_per_day"]
            assert (gas.asked > 1, gas.used, gas.limit, gas.of) == (True, 0, 1, "plugin alpha")
            del ground.budget["max_gas_wei_per_day"]

            # On chain as well: the lane looks again whenever it likes.
            ground.node.rpc("anvil_setBalance", ground.signer.address, hex(1))
            lane.purse.see(1)
            await told(JobOutcome.FAILED, "wei too little")
            assert lane.purse.shortage is None
            ground.node.rpc("anvil_setBalance", ground.signer.address, hex(100 * ETHER))
            lane.purse.see(100 * ETHER)

            ground.proxy.hang_up("eth_estimateGas", is_forwarded=False)
            await told(JobOutcome.FAILED, "it cannot be simulated now, and would wait: ")
            ground.proxy.open()

            lane.problem = "the ledger refused"
            await told(JobOutcome.FAILED, "not signed: the ledger refused")
            lane.problem = None

            desk.proposals = cast("Any", object())
            await told(JobOutcome.ACTED, "it would wait for signatures of the Safe's owners")

    run_async(scenario())


def test_however_often_it_is_tried_nothing_is_counted(ground: Ground) -> None:
    """A real call has the whole budget; and once that is used up a dry run says so."""
    ground.budget = {"max_transactions_per_hour": 1, "max_value_wei_per_day": 1_500}

    async def scenario() -> None:
        async with running(ground) as process:
            tables: Callable[[], list[dict[str, Any]]] = lambda: ground.rows(  # noqa: E731  # asked three times
                "select (select count(*) from job_calls) as calls, (select count(*) from usage) as uses,"
                " (select count(*) from intents) as intents, (select next_nonce from wallets) as nonce"
            )
            before = tables()
            for _ in range(3):
                result = await dry_run(process)
                assert result.outcome is JobOutcome.ACTED
                assert result.rehearsed is not None
                assert [(one.key, one.asked, one.used, one.limit) for one in result.rehearsed.standings][:2] == [
                    ("max_value_wei_per_day", 1_000, 0, 1_500), ("max_value_wei_per_day", 1_000, 0, 10 * ETHER),
                ]  # fmt: skip
            assert (tables(), ground.sent()) == (before, [])
            call = await process.act()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
            denied = await dry_run(process)
            assert denied.outcome is JobOutcome.DENIED
            assert "is above max_value_wei_per_day = 1500 of plugin alpha" in denied.reason
            assert set(process.results_of) == {call.id}

    run_async(scenario())

"""Expectations on real parts: what would break one is not signed, and what broke one all the same pauses the vault."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from protocol.actions import Act
from protocol.expectations import BalanceChange, Expectation, MinimumOut, SharePrice
from runnerd.executor.attempt import Ready
from runnerd.executor.observation import SimulationReverted
from runnerd.pauses import Pause, Scope
from runnerd.store.calls import JobCall
from tests.support.aio import run_async
from tests.support.anvil import Anvil
from tests.support.executor_bench import Process, running
from tests.support.rpc_proxy import STATE_OVERRIDE, rpc_proxy
from tests.support.swap import SwapGround, make_swap_ground, swap
from tests.support.until import until

WAYS = ["eth_simulateV1", STATE_OVERRIDE]


@pytest.fixture
def ground(node: Anvil, ledger_dsn: str) -> Iterator[SwapGround]:
    """A vault that swaps at a venue; the venue pays 1,000 coins."""
    node.rpc("anvil_dropAllTransactions")
    with rpc_proxy(node.url) as proxy:
        yield make_swap_ground(node, proxy, ledger_dsn)


async def expecting(process: Process, *expect: Expectation, value_wei: int = 7) -> JobCall:
    """A call that was decided with a swap, and these expectations."""
    call = await process.call()
    await process.accept(call, Act([swap(value_wei)], expect=expect))
    return call


# --- before it is signed ---------------------------------------------------------------------------------------------


def test_a_decision_whose_expectations_hold_is_carried_out(ground: SwapGround) -> None:
    """Of all kinds at once; the record says that they were met, and the metric counts it."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await expecting(
                process,
                MinimumOut(1_000, token=ground.coin.address),
                BalanceChange(min=-7, max=-7),
                SharePrice("price", 0),
                SharePrice("converted", 0, {"shares": 10**6}),
                SharePrice("change", 10),
            )
            await process.mine_until_ended(call)
            assert process.outcome(call).endswith("confirmations; expectations met")
            assert b'runnerd_expectations_total{plugin="alpha",result="met"} 1.0' in process.metrics.render()
            assert process.pauses.active == {}
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_both_ways_deny_with_the_same_words(ground: SwapGround) -> None:
    """Each kind, seen by eth_simulateV1 and by the probe: nothing is signed, the reason names value and bound."""
    coin = ground.coin.address
    cases: list[tuple[Expectation, str]] = [
        (MinimumOut(1_001, token=coin), f"balance of token {coin} changes by 1000, below min = 1001"),
        (BalanceChange(token=coin, max=999), f"balance of token {coin} changes by 1000, above max = 999"),
        (BalanceChange(min=-6), "native balance changes by -7, below min = -6"),
        (BalanceChange(max=-8), "native balance changes by -7, above max = -8"),
        (SharePrice("price", 49), "read price moves from 1000000 to 1005000, by 50 bps, above max_change_bps = 49"),
        (SharePrice("change", 49), "read change moves from -1000000 to -995000, by 50 bps, above max_change_bps = 49"),
    ]
    ground.set_terms(1_000, shift=5_000)

    async def scenario() -> None:
        for refused in (None, "eth_simulateV1"):
            if refused:
                ground.proxy.lack(refused)
            async with running(ground) as process:
                for expectation, broken in cases:
                    call = await expecting(process, BalanceChange(max=0), expectation)
                    await process.until_ended(call)
                    outcome = process.outcome(call)
                    assert outcome.startswith("denied: simulation at block ")
                    assert outcome.endswith(f": expectation 2: {broken}")
                    assert process.state(call) == "denied"
                assert process.usage.spent_wei("main") == 0
                counted = f'runnerd_expectations_total{{plugin="alpha",result="denied"}} {len(cases)}.0'
                assert counted.encode() in process.metrics.render()
        assert ground.sent() == []

    run_async(scenario())


def test_what_a_node_offers_is_found_out_once(ground: SwapGround) -> None:
    """First it is asked in both ways, afterwards in the one that it answered; when that fails, in both again."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:

            async def ways() -> list[str]:
                before = len(ground.proxy.calls)
                call = await expecting(process, BalanceChange(min=-7))
                await process.until_state(call, "sent")
                return [
                    WAYS[0] if asked["method"] == WAYS[0] else WAYS[1]
                    for asked in ground.proxy.calls[before:]
                    if asked["method"] == WAYS[0] or (asked["method"] == "eth_call" and len(asked["params"]) > 2)
                ]

            assert await ways() == WAYS
            assert await ways() == WAYS[:1]
            ground.proxy.lack("eth_simulateV1")
            assert await ways() == [WAYS[0], *WAYS]
            assert await ways() == WAYS[1:]

    run_async(scenario())


def test_a_node_that_has_neither_way_denies_with_what_it_lacks(ground: SwapGround) -> None:
    """Fail closed; a Decision without expectations goes its way."""

    async def scenario() -> None:
        async with running(ground) as process:
            ground.proxy.lack(*WAYS)
            call = await expecting(process, BalanceChange(min=-7))
            await process.until_ended(call)
            assert process.outcome(call).startswith("denied: simulation at block ")
            assert process.outcome(call).endswith(
                ": expectations cannot be checked: the node cannot show what a transaction changes (eth_simulateV1: "
                "node error -32601: eth_simulateV1 is not available; eth_call with a state override: "
                "node error -32601: eth_call is not available)"
            )
            plain = await expecting(process)
            await process.until_state(plain, "sent")

    run_async(scenario())


def test_what_the_owner_did_not_grant_is_not_measured(ground: SwapGround) -> None:
    """A token beyond `expect_tokens` and a read beyond the catalogue: denied before anything is planned."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await expecting(process, MinimumOut(1, token="0x" + "11" * 20))
            assert "is not in expect_tokens of vault main; granted: 0x" in process.outcome(call)
            call = await expecting(process, SharePrice("nav", 5))
            assert process.outcome(call).startswith(
                "denied: expectation 1: read 'nav' is not in the catalogue of vault main; granted: price, "
            )
        assert ground.rows("select call_id from intents") == []

    run_async(scenario())


def test_intents_of_one_batch_are_all_asked_again_when_a_node_forgets_its_way(ground: SwapGround) -> None:
    """That it lacks the way it was known for is no word about any of them."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            await expecting(process, BalanceChange(min=-7))  # rehearsed: so the way is known
            await expecting(process, BalanceChange(min=-7))
            await expecting(process, BalanceChange(min=-6))
            wanted = [tracked.intent for tracked in process.book.planned()]
            ground.proxy.lack("eth_simulateV1")
            good, same, bad = await process.lane.prepare(wanted)
            assert isinstance(good, Ready)
            assert isinstance(same, Ready)
            assert isinstance(bad, SimulationReverted)
            assert bad.is_breach

    run_async(scenario())


def test_a_decision_without_expectations_adds_no_request(ground: SwapGround) -> None:
    """The round trip of its simulation is what it was."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            await expecting(process)
            intent = next(tracked.intent for tracked in process.book.planned())
            before = len(ground.proxy.calls)
            await process.lane.prepare([intent])
            methods = {call["method"] for call in ground.proxy.calls[before:]}
            assert methods <= {"eth_feeHistory", "eth_estimateGas", "eth_getBlockByNumber"}

    run_async(scenario())


def test_a_signed_transaction_that_would_break_an_expectation_now_is_cancelled(ground: SwapGround) -> None:
    """It waits while the terms change: a no-op takes its nonce, and of that nothing is expected."""
    ground.chain["replace_after_blocks"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            call = await expecting(process, MinimumOut(1_000, token=ground.coin.address))
            await process.until_state(call, "sent")
            ground.node.rpc("anvil_dropTransaction", ground.rows("select hash from attempts")[0]["hash"])
            ground.set_terms(999)
            await process.mine_until_ended(call)
            outcome = process.outcome(call)
            assert outcome.startswith("expired: it would break an expectation at block ")
            assert (
                f": expectation 1: balance of token {ground.coin.address} changes by 999, below min = 1000; "
                "a no-op took its nonce 0 in block "
            ) in outcome
            assert "expectations met" not in outcome
            assert process.state(call) == "expired"
            assert process.pauses.active == {}
            assert process.usage.spent_wei("main") == 0
        assert ground.effects() == []

    run_async(scenario())


# --- after the fact --------------------------------------------------------------------------------------------------


def paused_for(process: Process) -> str:
    """Why the vault is paused, in memory and in the ledger."""
    (pause,) = process.pauses.active.values()
    assert (pause.scope, pause.name) == (Scope.VAULT, "main")
    (row,) = process.ground.rows("select scope, name, paused_by from pauses")
    assert (row["scope"], row["name"], row["paused_by"]) == ("vault", "main", pause.paused_by)
    return pause.paused_by


async def cheated(process: Process, *expect: Expectation) -> JobCall:
    """A call that was simulated under the old terms; new ones come into the block before it."""
    call = await expecting(process, *expect)
    await process.until_state(call, "sent")
    return call


def test_a_venue_that_pays_less_than_in_the_simulation_pauses_the_vault(ground: SwapGround) -> None:
    """The terms change between simulation and block: what happened happened, but nothing more will."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await cheated(process, MinimumOut(1_000, token=ground.coin.address))
            ground.set_terms(1, is_mined=False)
            ground.mine()
            await process.until_state(call, "included")
            assert process.results_of == {}
            paused_for(process)
            await process.mine_until_ended(call)
            broken = f"expectation 1 is broken: balance of token {ground.coin.address} changes by 1, below min = 1000"
            assert process.outcome(call).startswith("acted: included in block ")
            assert process.outcome(call).endswith(f"; {broken}: vault main was paused")
            assert paused_for(process) == f"runnerd: call {call.id} of alpha did not do what it expected: {broken}"
            assert b'runnerd_expectations_total{plugin="alpha",result="breached"} 1.0' in process.metrics.render()
            later = await expecting(process)
            assert process.outcome(later).startswith("denied: vault main is paused by runnerd: call ")
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_a_vault_that_was_resumed_before_the_end_is_not_paused_again(ground: SwapGround) -> None:
    """The operator has looked at it; the record says what it was all the same."""
    ground.chain["confirmations"] = 4

    async def scenario() -> None:
        async with running(ground) as process:
            call = await cheated(process, MinimumOut(1_000, token=ground.coin.address))
            ground.set_terms(1, is_mined=False)
            ground.mine()
            await until(lambda: bool(ground.rows("select 1 from pauses")))
            process.pauses.remove(Scope.VAULT, "main")
            await process.mine_until_ended(call)
            assert "is broken" in process.outcome(call)
            assert process.pauses.active == {}

    run_async(scenario())


def test_a_breach_that_falls_out_of_the_chain_is_judged_by_the_block_it_comes_back_in(ground: SwapGround) -> None:
    """The vault stays paused, which was right when it was done; the record is that of the block that counts."""
    ground.chain["confirmations"] = 4

    async def scenario() -> None:
        async with running(ground) as process:
            call = await cheated(process, MinimumOut(1_000, token=ground.coin.address))
            fork = ground.node.rpc("evm_snapshot")
            ground.set_terms(1, is_mined=False)
            ground.mine()
            await process.until_state(call, "included")
            # Sent again at once, it would be in one of the two blocks before anybody has looked.
            ground.proxy.hang_up("eth_sendRawTransaction", is_forwarded=False)
            ground.node.rpc("evm_revert", fork)
            ground.node.rpc("anvil_dropAllTransactions")
            ground.mine(2)
            await process.until_state(call, "sent")
            ground.proxy.open()
            await process.mine_until_ended(call)
            assert process.outcome(call).endswith("; expectations met")
            assert "is broken" in paused_for(process)

    run_async(scenario())


def test_a_pause_that_cannot_be_stored_is_tried_again(ground: SwapGround) -> None:
    """It holds in memory at once; the block's observation and the pause are one commit."""
    ground.chain["confirmations"] = 100

    async def scenario() -> None:
        async with running(ground) as process:
            call = await cheated(process, MinimumOut(1_000, token=ground.coin.address))
            ground.execute(
                "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'"
                " using errcode = '22003'; end $$;"
                " create trigger refuse before insert on pauses for each row execute function refuse()"
            )
            ground.set_terms(1, is_mined=False)
            ground.mine()
            await until(lambda: bool(process.pauses.active))
            looks = len(ground.proxy.sent("eth_getTransactionReceipt"))
            await until(lambda: len(ground.proxy.sent("eth_getTransactionReceipt")) > looks)
            ground.execute("drop trigger refuse on pauses")
            ground.mine()
            await process.until_state(call, "included")
            assert "is broken" in paused_for(process)

    run_async(scenario())


def test_the_receipt_that_a_quorum_agrees_on_is_what_counts(ground: SwapGround) -> None:
    """The node that is read from hides logs: what is concluded from its word is concluded anew from theirs."""
    token = ground.coin.address
    with rpc_proxy(ground.node.url) as second, rpc_proxy(ground.node.url) as third:
        ground.chain |= {"rpc": (ground.proxy.url, second.url, third.url), "quorum": 2, "confirmations": 3}

        async def scenario() -> None:
            async with running(ground) as process:
                for proxy in (ground.proxy, second, third):
                    proxy.lack("debug_traceTransaction")
                call = await expecting(process, MinimumOut(1_000, token=token))
                await process.until_state(call, "sent")
                for proxy in (ground.proxy, second, third):
                    proxy.alter("eth_getTransactionReceipt", lambda receipt: receipt and {**receipt, "logs": []})
                ground.mine()
                await process.until_state(call, "included")
                second.open()
                third.open()
                await process.mine_until_ended(call)
                assert process.outcome(call).endswith("; expectations met")

        run_async(scenario())


@pytest.mark.parametrize("has_trace", [True, False], ids=["trace", "no trace"])
def test_native_value_and_price_are_looked_at_after_the_fact(ground: SwapGround, has_trace: bool) -> None:
    """A refund that does not come, a price that moves: by a trace where the node has one, else by the block."""
    ground.set_terms(0, refund=5)
    if not has_trace:
        ground.proxy.lack("debug_traceTransaction")

    async def scenario() -> None:
        async with running(ground) as process:
            call = await cheated(process, BalanceChange(min=-2), SharePrice("price", 10))
            ground.set_terms(0, refund=4, shift=2_000, is_mined=False)
            await process.mine_until_ended(call)
            assert paused_for(process).endswith(
                "expectation 1 is broken: native balance changes by -3, below min = -2; expectation 2 is broken: "
                "read price moves from 1000000 to 1002000, by 20 bps, above max_change_bps = 10"
            )

    run_async(scenario())


def test_without_a_trace_a_block_with_other_transactions_of_the_vault_accuses_nobody(ground: SwapGround) -> None:
    """Two of ours in one block: the balance over the block is not the work of one. With a trace both are met."""

    async def scenario(ending: str) -> None:
        async with running(ground) as process:
            calls = [await cheated(process, BalanceChange(min=-7)) for _ in range(2)]
            await process.mine_until_ended(*calls)
            for call in calls:
                assert process.outcome(call).endswith(ending)
            assert process.pauses.active == {}

    run_async(scenario("; expectations met"))
    ground.proxy.lack("debug_traceTransaction")
    run_async(
        scenario(
            "; expectation 1 is not proven: native balance changes by -14, below min = -7 over the whole "
            "block, with 1 other transactions of operator or vault"
        )
    )


def test_a_token_that_moves_without_a_log_accuses_nobody(ground: SwapGround) -> None:
    """As WETH's deposit: the balances say that it is met, the logs say nothing."""
    ground.set_terms(1_000, is_silent=True)

    async def scenario() -> None:
        async with running(ground) as process:
            call = await expecting(process, MinimumOut(1_000, token=ground.coin.address))
            await process.mine_until_ended(call)
            assert process.outcome(call).endswith("by the token's logs, but is met by its balances")
            assert b'result="unproven"} 1.0' in process.metrics.render()
            assert process.pauses.active == {}

    run_async(scenario())


def test_expectations_outlive_the_process(ground: SwapGround) -> None:
    """Signed by one process, cheated while it is down, found out by the next one; a person's pause stays his."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:
            call = await cheated(process, MinimumOut(1_000, token=ground.coin.address))
        ground.set_terms(1)
        async with running(ground) as process:
            mine = Pause(Scope.VAULT, "main", "uid:0", datetime(2026, 1, 1, tzinfo=UTC))
            process.pauses.add(mine)
            await process.mine_until_ended(call)
            assert "is broken" in process.outcome(call)
            assert list(process.pauses.active.values()) == [mine]

    run_async(scenario())


def test_a_planned_decision_is_judged_anew_by_the_next_process(ground: SwapGround) -> None:
    """The owner took the token back while runnerd was down."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            call = await expecting(process, MinimumOut(1_000, token=ground.coin.address))
        ground.grant["expect_tokens"] = ()
        async with running(ground) as process:
            await process.until_ended(call)
            assert process.outcome(call).startswith("denied: not granted any more: expectation 1: token 0x")

    run_async(scenario())


def test_a_node_that_has_lost_the_state_is_asked_for_some_blocks_and_then_believed(ground: SwapGround) -> None:
    """What cannot be read is not proven: the call ends all the same, and says so."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await cheated(process, SharePrice("price", 10))
            ground.proxy.lack("eth_getBlockByHash")
            ground.mine(2)
            await until(lambda: bool(ground.proxy.sent("eth_getBlockByHash")))
            assert process.results_of == {}
            await process.mine_until_ended(call)
            assert process.outcome(call).endswith("is not proven: read price cannot be read before the transaction")

    run_async(scenario())

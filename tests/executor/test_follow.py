"""The follower, block by block on a real node: only what is proven ends an intent, and nothing stops it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runnerd.executor.follow import Follower, _batches
from tests.support.aio import run_async
from tests.support.executor_bench import Ground, mint, running
from tests.support.rpc_proxy import Exchange
from tests.support.until import until

GWEI = 10**9


def attempt_rows(ground: Ground) -> list[dict[str, Any]]:
    """Where the attempts are included, in order."""
    return ground.rows("select hash, included_block, is_success from attempts order by call_id, signed_at")


def test_depth_decides_and_not_the_first_receipt(ground: Ground) -> None:
    """Included for as long as the configured number of blocks is not on top of it."""
    ground.chain["confirmations"] = 4

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            for _ in range(3):
                ground.mine()
                await process.until_state(call, "included")
            assert process.results_of == {}
            ground.mine()
            await process.until_ended(call)
            assert process.outcome(call).endswith(", 4 confirmations")

    run_async(scenario())


def test_transaction_that_reverts_on_chain_fails_its_call(ground: Ground) -> None:
    """It passed the simulation, and the world changed before it was mined. Only at the depth, too."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act(mint(77))
            await process.until_state(call, "sent")
            pause = ground.vault.functions.setPaused(True)
            ground.send(pause, maxPriorityFeePerGas=100 * GWEI, maxFeePerGas=500 * GWEI)
            ground.mine()
            await process.until_state(call, "included")
            ground.mine()
            await process.until_ended(call)
            assert process.outcome(call).startswith("failed: reverted on chain in block ")
            assert process.results_of[call.id].transaction == attempt_rows(ground)[0]["hash"]
            assert process.state(call) == "reverted"
            assert process.usage.spent_wei("main") == 0
        assert ground.effects() == []

    run_async(scenario())


def test_reorged_transaction_is_sent_again_and_ends_where_it_is_included_then(ground: Ground) -> None:
    """The record of the first block is taken back; the same bytes land in another one; one effect."""
    ground.chain["confirmations"] = 3

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            ground.mine()
            await process.until_state(call, "included")
            old_block = attempt_rows(ground)[0]["included_block"]
            ground.proxy.refuse("eth_sendRawTransaction", -32000, "not now")
            ground.node.rpc("anvil_reorg", 1, [])
            ground.mine()
            await process.until_state(call, "sent")
            assert attempt_rows(ground)[0]["included_block"] is None
            ground.proxy.open()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert attempt_rows(ground)[0]["included_block"] > old_block
        assert len(set(ground.sent())) == 1
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_node_that_errs_about_receipts_ends_nothing(ground: Ground) -> None:
    """An error is not an absence: nothing is replaced, nothing is given up, and it goes on when the node answers."""
    ground.chain["replace_after_blocks"] = 1

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            trap = ground.proxy.refuse("eth_getTransactionReceipt", -32000, "indexing is in progress")
            ground.mine(5)
            await until(lambda: len(trap.calls) > 4)
            assert process.state(call) == "sent"
            assert len(attempt_rows(ground)) == 1
            ground.proxy.open()
            await process.until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())


def test_one_receipt_that_cannot_be_had_does_not_keep_the_others(ground: Ground) -> None:
    """Each intent by itself, though they are asked for in one batch."""
    spoilt: list[str] = []

    async def spoil(exchange: Exchange) -> bytes:
        answers = json.loads(await exchange.forward())
        ids = {call["id"] for call in exchange.calls if call["params"][0] in spoilt}
        for answer in answers:
            if answer["id"] in ids:
                answer.pop("result", None)
                answer["error"] = {"code": -32000, "message": "header not found"}
        return json.dumps(answers).encode()

    async def scenario() -> None:
        async with running(ground) as process:
            bad, good = await process.act(), await process.act()
            await process.until_state(good, "sent")
            spoilt.append(attempt_rows(ground)[0]["hash"])
            ground.proxy.set_rule("eth_getTransactionReceipt", spoil)
            await process.mine_until_ended(good)
            assert bad.id not in process.results_of
            ground.proxy.open()
            await process.mine_until_ended(bad)

    run_async(scenario())


def test_answer_that_the_ledger_cannot_hold_ends_nothing_and_blinds_nobody(ground: Ground) -> None:
    """A block number beyond all bounds in one receipt: the other intent ends, and this one when the node is sane."""

    def inflate(receipt: Any) -> Any:
        is_spoilt = receipt is not None and receipt["transactionHash"] in spoilt
        return {**receipt, "blockNumber": "0x" + "f" * 40} if is_spoilt else receipt

    spoilt: list[str] = []

    async def scenario() -> None:
        async with running(ground) as process:
            bad, good = await process.act(), await process.act()
            await process.until_state(good, "sent")
            spoilt.append(attempt_rows(ground)[0]["hash"])
            ground.proxy.alter("eth_getTransactionReceipt", inflate)
            await process.mine_until_ended(good)
            assert bad.id not in process.results_of
            ground.proxy.open()
            await process.mine_until_ended(bad)
            assert process.outcome(bad).startswith("acted")

    run_async(scenario())


@pytest.mark.parametrize("table", ["intents", "attempts"])
def test_commit_that_is_refused_is_tried_again_and_ends_nothing_before(ground: Ground, table: str) -> None:
    """What is not stored has not happened: the follower goes on, and sees it again when the ledger takes it."""

    async def scenario() -> None:
        async with running(ground) as process:
            bad, good = await process.act(), await process.act()
            await process.until_state(good, "sent")
            ground.execute(
                "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'"
                f" using errcode = '22003'; end $$; create trigger refuse before update on {table} for each row"
                f" when (old.call_id = {bad.id}) execute function refuse()"
            )
            await process.mine_until_ended(good)
            assert bad.id in process.book.open
            assert bad.id not in process.results_of
            ground.execute(f"drop trigger refuse on {table}")
            await process.mine_until_ended(bad)
            assert process.outcome(bad).startswith("acted")
            assert bad.id not in process.book.open

    run_async(scenario())


def test_head_that_was_named_too_high_once_does_not_blind_the_follower(ground: Ground) -> None:
    """The answer of another chain behind the load balancer: the next looks are at the heads that come after it."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            trap = ground.proxy.refuse("eth_getTransactionReceipt", -32000, "not now")
            ground.proxy.alter("eth_getBlockByNumber", lambda block: {**block, "number": hex(10**9)})
            head = process.network.head
            await until(lambda: head.latest is not None and head.latest.number == 10**9)
            looks = len(trap.calls)
            await until(lambda: len(trap.calls) > looks + 1)
            ground.proxy.open()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())


def test_receipt_of_another_transaction_is_not_believed(ground: Ground) -> None:
    """A node, or a cache before it, that mixes up its answers cannot end an intent."""

    async def scenario() -> None:
        def mix_up(receipt: Any) -> Any:
            return receipt and {**receipt, "transactionHash": "0x" + "ee" * 32}

        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            ground.proxy.alter("eth_getTransactionReceipt", mix_up)
            ground.mine(3)
            await asyncio.sleep(0.3)
            assert process.state(call) == "sent"
            ground.proxy.open()
            await process.mine_until_ended(call)

    run_async(scenario())


def test_node_that_is_away_for_a_while_delays_and_ends_nothing(ground: Ground) -> None:
    """Hung-up connections, for all methods."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            for method in ("eth_getBlockByNumber", "eth_getTransactionReceipt"):
                ground.proxy.hang_up(method, is_forwarded=False)
            ground.mine(3)
            await asyncio.sleep(0.2)
            assert process.results_of == {}
            ground.proxy.open()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())


def test_intent_of_a_wallet_that_is_configured_no_more_is_watched_to_its_end(ground: Ground) -> None:
    """And the intents of other wallets are followed as ever."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:
            call = await process.act()
            await process.until_state(call, "sent")
        async with running(ground, lane=False, follower=False) as process:
            process.follower = Follower(
                process.network, {}, process.book, process.auditor, process.aftermath, process.executor.replan
            )
            process.tasks.spawn(process.follower.run(), "follower")
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())


def test_included_intent_is_followed_on_by_the_next_process(ground: Ground) -> None:
    """With its first sight kept; nothing is sent that could have another effect."""
    ground.chain["confirmations"] = 3

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            ground.mine()
            await process.until_state(call, "included")
        async with running(ground) as process:
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert len(set(ground.sent())) == 1
        assert len(ground.effects()) == 1

    run_async(scenario())


@pytest.mark.parametrize(
    "attempts, groups",
    [([1] * 50, [50]), ([1] * 51, [50, 1]), ([98, 1, 1], [1, 2]), ([200, 3], [1, 1]), ([], [])],
    ids=["fits", "one too many", "by requests", "one alone is too large", "none"],
)
def test_no_round_trip_has_more_requests_than_providers_allow(attempts: list[int], groups: list[int]) -> None:
    """One for the nonce and one for each attempt; what belongs to one intent is asked together."""
    intents = [cast("Any", SimpleNamespace(intent=SimpleNamespace(attempts=range(many)))) for many in attempts]
    found = list(_batches(intents))
    assert [len(group) for group in found] == groups
    assert [each for group in found for each in group] == intents

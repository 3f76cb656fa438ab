"""The one writer of a wallet: stored before it is sent, gapless, fail closed, and replaced by valid rules only."""

import asyncio
import json
from typing import Any

import psycopg
import pytest
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from protocol.actions import Act
from runnerd.pauses import Mode, Pause, Scope
from runnerd.store.calls import JobCall
from tests.support.aio import run_async
from tests.support.executor_bench import ETHER, Ground, Process, mint, running
from tests.support.rpc_proxy import Exchange
from tests.support.until import until
from tests.support.virtual_time import EPOCH

GWEI = 10**9
MAX_IN_FLIGHT = 16


def raise_base_fee(ground: Ground, blocks: int, gwei: int) -> None:
    """Let blocks come that are too dear for what waits."""
    for _ in range(blocks):
        ground.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))
        ground.mine()


def attempts(ground: Ground) -> list[dict[str, Any]]:
    """All attempts, oldest first."""
    return ground.rows("select * from attempts order by call_id, signed_at")


# --- store, then send ------------------------------------------------------------------------------------------------


def test_bytes_stand_in_the_ledger_when_the_node_first_sees_them(ground: Ground) -> None:
    """Looked up by another connection at the very moment of the broadcast, with the nonce and the wallet moved on."""
    seen: list[tuple[str, dict[str, Any]]] = []

    async def look(exchange: Exchange) -> bytes:
        raw = exchange.calls[0]["params"][0]
        query = "select a.raw, i.state, i.nonce, w.next_nonce from attempts a join intents i using (call_id), wallets w"
        seen.append((raw, ground.rows(query)[0]))
        return await exchange.forward()

    async def scenario() -> None:
        ground.proxy.set_rule("eth_sendRawTransaction", look)
        async with running(ground, follower=False) as process:
            call = await process.act()
            await process.until_state(call, "sent")

    run_async(scenario())
    ((raw, row),) = seen
    assert "0x" + row["raw"].hex() == raw
    assert (row["state"], row["nonce"], row["next_nonce"]) == ("signed", 0, 1)


def test_nonces_have_no_gap_and_the_flight_is_bounded(ground: Ground) -> None:
    """More intents than may be in flight: the rest waits, and all of them land in order."""

    async def scenario() -> None:
        async with running(ground) as process:
            calls = [await process.act(mint(number + 1)) for number in range(MAX_IN_FLIGHT + 4)]
            await until(lambda: len(set(ground.sent())) >= MAX_IN_FLIGHT)
            assert process.lane.waiting == 4
            await process.mine_until_ended(*calls)
        assert [row["nonce"] for row in attempts(ground)] == list(range(MAX_IN_FLIGHT + 4))
        assert [effect["value"] for effect in ground.effects()] == list(range(1, MAX_IN_FLIGHT + 5))
        assert ground.rows("select next_nonce from wallets") == [{"next_nonce": MAX_IN_FLIGHT + 4}]

    run_async(scenario())


def test_intents_that_wait_behind_a_full_flight_expire_at_their_deadline(ground: Ground) -> None:
    """A chain that stands still must not keep a call without a result."""

    async def scenario() -> None:
        async with running(ground) as process:
            for _ in range(MAX_IN_FLIGHT):
                await process.act()
            late = await process.act(intent_deadline_s=1.0)
            await process.until_ended(late)
            assert process.outcome(late) == "expired: its deadline passed before it could be signed"
            assert process.state(late) == "expired"
        assert len(attempts(ground)) == MAX_IN_FLIGHT

    run_async(scenario())


def test_refused_broadcast_is_sent_again_with_identical_bytes(ground: Ground) -> None:
    """An error concludes nothing; it is on record, and the next block sends the same transaction again."""

    async def scenario() -> None:
        trap = ground.proxy.refuse("eth_sendRawTransaction", -32000, "internal error")
        async with running(ground) as process:
            call = await process.act()
            await until(lambda: len(trap.calls) == 1)
            await until(lambda: attempts(ground)[0]["error"] is not None)
            assert process.state(call) == "signed"
            assert attempts(ground)[0]["error"] == "eth_sendRawTransaction: node error -32000: internal error"
            ground.proxy.open()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert len(ground.sent()) >= 2
        assert len(set(ground.sent())) == 1
        assert len(ground.effects()) == 1
        assert attempts(ground)[0]["error"] is None

    run_async(scenario())


def test_answer_that_was_lost_does_not_make_a_second_effect(ground: Ground) -> None:
    """The node has it, we do not know: "already known" to the second broadcast is as good as an acceptance."""

    async def scenario() -> None:
        trap = ground.proxy.hang_up("eth_sendRawTransaction", is_forwarded=True)
        async with running(ground, follower=False) as process:
            call = await process.act()
            await until(lambda: bool(trap.calls))
            await until(lambda: attempts(ground)[0]["error"] is not None)
            ground.proxy.open()
            tracked = process.book.open[call.id]
            await process.lane.broadcaster.send((tracked, tracked.intent.latest))
            assert process.state(call) == "sent"
            assert attempts(ground)[0]["error"] is None
        assert len(set(ground.sent())) == 1

    run_async(scenario())


def test_node_that_answers_with_another_hash_is_not_believed(ground: Ground) -> None:
    """Whatever it took, it was not ours."""

    async def scenario() -> None:
        ground.proxy.alter("eth_sendRawTransaction", lambda _: "0x" + "ee" * 32)
        async with running(ground, follower=False) as process:
            call = await process.act()
            await until(lambda: len(ground.sent()) == 1)
            await until(lambda: process.lane.waiting == 0)
            assert process.state(call) == "signed"

    run_async(scenario())


# --- not signed ------------------------------------------------------------------------------------------------------


def test_revert_in_simulation_fails_the_call_and_uses_no_nonce(ground: Ground) -> None:
    """The reason is decoded into the record; nothing was signed."""

    async def scenario() -> None:
        async with running(ground) as process:
            bad = await process.act(mint(ETHER), mint(1))
            await process.until_ended(bad)
            assert process.outcome(bad).startswith("failed: simulation at block ")
            assert process.outcome(bad).endswith("reverted: vault: per-transaction cap")
            assert process.results_of[bad.id].transaction is None
            good = await process.act()
            await process.mine_until_ended(good)
        assert process.state(bad) == "denied"
        assert [row["nonce"] for row in attempts(ground)] == [0]
        assert len(ground.sent()) == 1

    run_async(scenario())


@pytest.mark.parametrize("is_rehearsed", [True, False], ids=["simulated at the Decision", "simulated by the lane"])
def test_intent_waits_while_the_node_is_away_and_expires(ground: Ground, is_rehearsed: bool) -> None:
    """Nothing is signed on a guess; when the node is back in time it goes on."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:
            if is_rehearsed:
                ground.proxy.hang_up("eth_getBlockByNumber", is_forwarded=False)
            ground.proxy.hang_up("eth_estimateGas", is_forwarded=False)
            lost = await process.act(intent_deadline_s=0.6)
            await process.until_ended(lost)
            assert process.outcome(lost).startswith("expired: its deadline passed before it could be signed: ")
            saved = await process.act()
            await until(lambda: process.lane.waiting == 1)
            ground.proxy.open()
            await process.until_state(saved, "sent")
        assert [row["nonce"] for row in attempts(ground)] == [0]

    run_async(scenario())


def test_pause_after_the_decision_keeps_it_from_being_signed(ground: Ground) -> None:
    """A kill switch holds for what waits, too."""

    async def scenario() -> None:
        async with running(ground, lane=False) as process:
            call = await process.act()
            process.pauses.add(Pause(Scope.VAULT, "main", "uid:0", EPOCH))
            process.run(follower=False)
            await process.until_ended(call)
            assert process.outcome(call) == (
                "denied: not signed: vault main is paused by uid:0 since 2026-01-01 12:00:00 UTC"
            )
        assert ground.sent() == []

    run_async(scenario())


@pytest.mark.parametrize(
    "switch, reason",
    [
        (Pause(Scope.ACTION, "main.mint", "uid:0", EPOCH), "action main.mint is paused by uid:0"),
        (
            Pause(Scope.VAULT, "main", "uid:0", EPOCH, Mode.REDUCING),
            "action mint is not reducing, and vault main is",
        ),
        (Pause(Scope.ACTION, "main.other", "uid:0", EPOCH), None),
    ],
    ids=["action", "reducing", "another action"],
)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_switch_of_actions_holds_for_what_waits_to_be_signed(
    ground: Ground, switch: Pause, reason: str | None, is_restarted: bool
) -> None:
    """Also after a restart: the ledger knows which actions an intent carries out."""

    async def sign(process: Process, call: JobCall) -> None:
        process.pauses.add(switch)
        process.run(follower=False)
        if reason is None:
            await process.until_state(call, "sent")
            return
        await process.until_ended(call)
        assert process.outcome(call).startswith(f"denied: not signed: {reason}")
        assert ground.sent() == []

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            call = await process.act()
            if not is_restarted:
                await sign(process, call)
                return
        again = Process(ground)
        await again.open()
        try:
            await sign(again, call)
        finally:
            await again.close()

    run_async(scenario())


@pytest.mark.parametrize("stop", ["pause", "deadline"])
def test_nothing_is_signed_after_a_stop_that_came_while_the_node_was_asked(ground: Ground, stop: str) -> None:
    """Simulating may take seconds: who was told "paused" meanwhile can rely on it, and a deadline holds as well."""
    pause = Pause(Scope.VAULT, "main", "uid:0", EPOCH)

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:

            async def stop_meanwhile(exchange: Exchange) -> bytes:
                answer = await exchange.forward()
                if stop == "pause":
                    process.pauses.add(pause)
                else:
                    await asyncio.sleep(
                        max(0.0, (process.book.open[call.id].intent.deadline_at - process.clock.now()).total_seconds())
                    )
                return answer

            call = await process.act(intent_deadline_s=60 if stop == "pause" else 0.5)
            process.book.open[call.id].rehearsal = None
            ground.proxy.set_rule("eth_estimateGas", stop_meanwhile)
            process.run(follower=False)
            await process.until_ended(call)
            assert process.outcome(call).startswith(
                "denied: not signed: vault main is paused" if stop == "pause" else "expired: its deadline passed"
            )
        assert attempts(ground) == []
        assert ground.sent() == []

    run_async(scenario())


def test_intent_that_cannot_be_judged_now_lets_those_behind_it_pass(ground: Ground) -> None:
    """One plugin's read of a strange contract must not hold up the wallet; it goes out itself when the node can say."""
    strange = 199_999

    async def refuse(exchange: Exchange) -> bytes:
        answers = {answer["id"]: answer for answer in json.loads(await exchange.forward())}
        for call in exchange.calls:
            if f"{strange:064x}" in json.dumps(call["params"]):
                error = {"code": -32000, "message": "header not found"}
                answers[call["id"]] = {"jsonrpc": "2.0", "id": call["id"], "error": error}
        return json.dumps(list(answers.values())).encode()

    async def scenario() -> None:
        ground.proxy.set_rule("eth_estimateGas", refuse)
        async with running(ground, follower=False) as process:
            stuck = await process.act(mint(strike=strange))
            others = [await process.act(mint(value)) for value in (5, 6)]
            for call in others:
                await process.until_state(call, "sent")
            assert process.state(stuck) == "planned"
            ground.proxy.open()
            await process.until_state(stuck, "sent")
        nonces = {row["call_id"]: row["nonce"] for row in attempts(ground)}
        assert nonces == {others[0].id: 0, others[1].id: 1, stuck.id: 2}

    run_async(scenario())


def test_base_fee_above_the_cap_is_waited_for(ground: Ground) -> None:
    """Nothing that cannot be included is signed."""
    ground.chain["max_fee_per_gas_wei"] = 5 * GWEI

    async def scenario() -> None:
        raise_base_fee(ground, 1, 40)
        async with running(ground, follower=False) as process:
            call = await process.act()
            await until(lambda: process.lane.waiting == 1)
            assert process.state(call) == "planned"
            raise_base_fee(ground, 1, 1)
            await process.until_state(call, "sent")

    run_async(scenario())


def test_ledger_that_is_not_ours_any_more_stops_the_wallet(ground: Ground) -> None:
    """Fail closed: nothing is signed with a nonce that somebody else gave; calls and status are told so."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:
            ground.execute("update wallets set next_nonce = 5")
            first, second = await process.act(), await process.act()
            await process.until_ended(first, second)
            for call in (first, second):
                assert "the wallet's next nonce is not what this process thinks" in process.outcome(call)
                assert process.outcome(call).startswith("failed: not signed: ")
            assert process.lane.problem is not None
        assert attempts(ground) == []
        assert ground.sent() == []

    run_async(scenario())


def test_intent_that_is_out_is_not_denied_when_its_wallet_stops(ground: Ground) -> None:
    """The ledger refuses the record of the broadcast: the transaction may take effect, and the next process sees it."""

    async def scenario() -> None:
        ground.execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'"
            " using errcode = '22003'; end $$; create trigger refuse before update on attempts for each row"
            " execute function refuse()"
        )
        async with running(ground, follower=False) as process:
            call, behind = await process.act(), await process.act()
            await process.until_ended(behind)
            assert process.lane.problem is not None
            assert process.outcome(behind).startswith("failed: not signed: the ledger refused")
            assert call.id not in process.results_of
            assert process.state(call) == "signed"
        ground.execute("drop trigger refuse on attempts")
        async with running(ground) as process:
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_gas_is_reserved_before_it_is_signed_and_settled_by_what_was_paid(ground: Ground) -> None:
    """What may be spent counts at once; what was not spent comes back with the receipt, over a restart as well."""
    ground.wallet_gas_wei = 10**15

    async def scenario() -> None:
        async with running(ground, follower=False) as process:
            first = await process.act()
            await process.until_state(first, "sent")
            (attempt,) = attempts(ground)
            reserved = int(attempt["gas_limit"] * attempt["max_fee_per_gas_wei"])
            ground.wallet_gas_wei = reserved + reserved // 2
        async with running(ground, follower=False) as process:
            denied = await process.act()
            await process.until_ended(denied)
            assert process.outcome(denied).startswith("denied: not signed: ")
            assert "max_gas_wei_per_day" in process.outcome(denied)
            process.run(lane=False)
            await process.mine_until_ended(first)
            good = await process.act()
            await process.until_state(good, "sent")
        assert [row["nonce"] for row in attempts(ground)] == [0, 1]

    run_async(scenario())


# --- replacement -----------------------------------------------------------------------------------------------------


def decoded(ground: Ground, raw: str) -> dict[str, Any]:
    """The fields of a signed transaction, by another implementation."""
    return dict(TypedTransaction.from_bytes(HexBytes(raw)).as_dict())


def test_stuck_transaction_is_replaced_at_its_nonce_by_the_fee_rules(ground: Ground) -> None:
    """After the configured blocks, both fees at least 12.5 % higher, everything else the same, and one effect."""
    ground.chain["replace_after_blocks"] = 3

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            raise_base_fee(ground, 2, 20)
            await asyncio.sleep(0.2)
            assert len(set(ground.sent())) == 1
            raise_base_fee(ground, 1, 20)
            await until(lambda: len(set(ground.sent())) == 2)
            ground.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
            result = process.results_of[call.id]
        old, new = attempts(ground)
        assert (old["nonce"], new["nonce"]) == (0, 0)
        assert new["max_fee_per_gas_wei"] * 8 >= old["max_fee_per_gas_wei"] * 9
        assert new["max_priority_fee_wei"] * 8 >= old["max_priority_fee_wei"] * 9
        first, second = (decoded(ground, "0x" + row["raw"].hex()) for row in (old, new))
        for name in ("nonce", "to", "value", "data", "chainId"):
            assert first[name] == second[name]
        assert result.transaction == new["hash"]
        assert (old["is_success"], new["is_success"]) == (None, True)
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_first_attempt_may_win_after_it_was_replaced(ground: Ground) -> None:
    """The replacement never reached the node: the result names the transaction that took effect."""
    ground.chain["replace_after_blocks"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            ground.proxy.refuse("eth_sendRawTransaction", -32000, "replacement transaction underpriced")
            raise_base_fee(ground, 2, 20)
            await until(lambda: len(attempts(ground)) == 2)
            # anvil drops what its block cannot pay; a real node would have kept the first.
            ground.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
            ground.mine()
            ground.node.rpc("eth_sendRawTransaction", "0x" + attempts(ground)[0]["raw"].hex())
            await process.mine_until_ended(call)
            assert process.results_of[call.id].transaction == attempts(ground)[0]["hash"]
        assert [row["is_success"] for row in attempts(ground)] == [True, None]
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_transaction_that_the_node_dropped_comes_back(ground: Ground) -> None:
    """An evicted one leaves no gap: same bytes first, then a replacement."""
    ground.chain["replace_after_blocks"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            ground.node.rpc("anvil_dropTransaction", attempts(ground)[0]["hash"])
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert len(ground.effects()) == 1
        assert {row["nonce"] for row in attempts(ground)} == {0}

    run_async(scenario())


def test_replacement_above_the_cap_is_not_made(ground: Ground) -> None:
    """It waits for the price to come down, and lands then."""
    ground.chain.update(replace_after_blocks=2, max_fee_per_gas_wei=3 * GWEI)

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            raise_base_fee(ground, 4, 20)
            await asyncio.sleep(0.2)
            assert len(attempts(ground)) == 1
            ground.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())


def test_nothing_is_replaced_after_a_pause_that_came_while_the_node_was_asked(ground: Ground) -> None:
    """What is out stays out; no new bytes are signed once the operator was told "paused"."""
    ground.chain["replace_after_blocks"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")

            async def pause_meanwhile(exchange: Exchange) -> bytes:
                answer = await exchange.forward()
                process.pauses.add(Pause(Scope.ALL, "*", "uid:0", EPOCH))
                return answer

            ground.proxy.set_rule("eth_estimateGas", pause_meanwhile)
            raise_base_fee(ground, 4, 20)
            await until(lambda: process.pauses.of("alpha", "main") is not None)
            await until(lambda: not process.book.open[call.id].is_busy)
            assert len(attempts(ground)) == 1

    run_async(scenario())


def test_intent_that_would_revert_now_is_cancelled_by_a_noop_at_its_nonce(ground: Ground) -> None:
    """A higher bid for a failure is never made; its old bytes may still be out, so its nonce is used up."""
    ground.chain["replace_after_blocks"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            ground.node.rpc("anvil_dropTransaction", attempts(ground)[0]["hash"])
            ground.send(
                ground.vault.functions.setPaused(True), maxPriorityFeePerGas=100 * GWEI, maxFeePerGas=500 * GWEI
            )
            raise_base_fee(ground, 3, 20)
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("expired: it would revert at block ")
            assert "vault: paused; a no-op took its nonce 0 in block " in process.outcome(call)
            assert process.state(call) == "expired"
        batch, *noops = attempts(ground)
        assert (batch["kind"], {row["kind"] for row in noops}) == ("batch", {"noop"})
        (final,) = [row for row in noops if row["is_success"]]
        fields = decoded(ground, "0x" + final["raw"].hex())
        assert (fields["to"], fields["value"], fields["data"]) == (
            bytes.fromhex(process.lane.signer.address[2:]),
            0,
            b"",
        )
        assert fields["nonce"] == 0
        assert ground.effects() == []
        assert process.usage.spent_wei("main") == 0

    run_async(scenario())


def test_intent_whose_deadline_passes_before_its_inclusion_is_cancelled(ground: Ground) -> None:
    """Signed and out, too cheap to be included: a no-op takes its nonce, and those behind it go on."""
    ground.chain["replace_after_blocks"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            late = await process.act(intent_deadline_s=0.5)
            await process.until_state(late, "sent")
            good = await process.act()
            await process.until_state(good, "sent")
            deadline = process.book.open[late.id].intent.deadline_at
            await until(lambda: process.clock.now() > deadline)
            raise_base_fee(ground, 1, 20)
            await until(lambda: any(row["kind"] == "noop" for row in attempts(ground)))
            await process.mine_until_ended(late, good)
            assert process.outcome(late).startswith("expired: its deadline passed before it was included; a no-op")
            assert process.outcome(good).startswith("acted")
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_a_plugins_low_fee_cap_does_not_keep_the_others_waiting(ground: Ground) -> None:
    """Its batch never becomes cheap enough again; the no-op in its place is priced as the wallet may."""
    ground.chain["replace_after_blocks"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            cheap = await process.act(intent_deadline_s=1.0, max_fee_per_gas_wei=3 * GWEI)
            await process.until_state(cheap, "sent")
            deadline = process.book.open[cheap.id].intent.deadline_at
            raise_base_fee(ground, 1, 20)
            good = await process.act()
            await until(lambda: process.clock.now() > deadline)

            def is_ended() -> bool:
                raise_base_fee(ground, 1, 20)  # and it stays there
                return {cheap.id, good.id} <= process.results_of.keys()

            await until(is_ended, every_s=0.05)
            assert process.outcome(cheap).startswith("expired")
            assert process.outcome(good).startswith("acted")
        dearest = max(
            row["max_fee_per_gas_wei"] for row in attempts(ground) if row["kind"] == "batch" and row["nonce"] == 0
        )
        assert dearest <= 3 * GWEI

    run_async(scenario())


def test_cancelled_intent_may_still_win_and_is_told_as_it_was(ground: Ground) -> None:
    """The batch was included before its no-op could be: the chain decides, and the ledger follows."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act(intent_deadline_s=0.5)
            await process.until_state(call, "sent")
            ground.proxy.hold("eth_sendRawTransaction")
            deadline = process.book.open[call.id].intent.deadline_at
            await until(lambda: process.clock.now() > deadline)
            raise_base_fee(ground, 1, 20)
            await until(lambda: any(row["kind"] == "noop" for row in attempts(ground)))
            ground.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
            ground.node.rpc("eth_sendRawTransaction", "0x" + attempts(ground)[0]["raw"].hex())
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert len(ground.effects()) == 1

    run_async(scenario())


# --- restart ---------------------------------------------------------------------------------------------------------


def test_planned_intent_is_signed_by_the_next_process(ground: Ground) -> None:
    """What was decided is not decided again, and takes effect once."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            call = await process.act()
            assert process.state(call) == "planned"
        async with running(ground) as process:
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert len(ground.effects()) == 1

    run_async(scenario())


@pytest.mark.parametrize("is_out", [False, True], ids=["never sent", "sent, answer lost"])
def test_signed_intent_is_sent_again_by_the_next_process(ground: Ground, is_out: bool) -> None:
    """Killed between storing and broadcasting, or after it: identical bytes, one effect."""

    async def scenario() -> None:
        trap = (ground.proxy.lose_answer if is_out else ground.proxy.hold)("eth_sendRawTransaction")
        async with running(ground) as process:
            call = await process.act()
            await until(lambda: bool(trap.calls))
            assert process.state(call) == "signed"
        ground.proxy.open()
        async with running(ground) as process:
            await process.until_state(call, "sent")
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert len(set(ground.sent())) == 1
        assert len(ground.sent()) >= 2
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_next_process_goes_on_with_the_next_nonce(ground: Ground) -> None:
    """From the ledger, not from the node, whose count lags behind what is in flight."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:
            first = await process.act()
            await process.until_state(first, "sent")
        async with running(ground) as process:
            second = await process.act()
            await process.mine_until_ended(first, second)
        assert [row["nonce"] for row in attempts(ground)] == [0, 1]
        assert len(ground.effects()) == 2

    run_async(scenario())


# --- any moment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", range(6))
def test_killed_at_any_moment_there_is_one_effect(ground: Ground, point: int) -> None:
    """The process ends after so many requests to the node; the next one finishes what stands in the ledger."""

    async def scenario() -> None:
        process = Process(ground)
        await process.open()
        process.run()
        call = await process.call()
        before = len(ground.proxy.calls)
        deciding = asyncio.get_running_loop().create_task(process.accept(call, one_mint()))
        await until(lambda: len(ground.proxy.calls) >= before + point or call.id in process.results_of)
        deciding.cancel()
        await asyncio.gather(deciding, return_exceptions=True)
        await process.close()
        async with running(ground) as second:
            if not ground.rows("select call_id from decisions"):
                await second.accept(call, one_mint())
            await second.mine_until_ended(call)
            assert second.outcome(call).startswith("acted")
        assert len(ground.effects()) == 1
        assert ground.rows("select next_nonce from wallets") == [{"next_nonce": 1}]

    run_async(scenario())


def one_mint() -> Any:
    """One action."""
    return Act(actions=(mint(),))


def test_database_that_restarts_in_between_changes_nothing(ground: Ground) -> None:
    """The writer's connection is cut again and again while intents are planned, signed and followed."""

    async def cut() -> None:
        with psycopg.connect(ground.dsn, autocommit=True) as connection:
            while True:
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
                await asyncio.sleep(0.03)

    async def scenario() -> None:
        async with running(ground) as process:
            cutting = asyncio.get_running_loop().create_task(cut())
            calls = []
            for _ in range(6):
                call = await process.call()
                await process.accept(call, one_mint())
                calls.append(call)
                ground.mine()
            await process.mine_until_ended(*calls)
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
        assert len(ground.effects()) == 6
        assert [row["nonce"] for row in attempts(ground)] == list(range(6))

    run_async(scenario())

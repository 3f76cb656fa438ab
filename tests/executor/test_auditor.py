"""One operator: strangers on our key are found, pause their vaults and prove what is dead; gaps are filled."""

import json
from dataclasses import replace
from typing import Any

import pytest

from runnerd.chain.search import read_transaction
from runnerd.pauses import Scope
from runnerd.store.calls import JobCall
from runnerd.store.statement import Statement
from tests.support.aio import run_async
from tests.support.executor_bench import ETHER, Ground, Process, mint, running
from tests.support.rpc_proxy import Exchange
from tests.support.until import until

GWEI = 10**9
NOTHING = "0x" + "00" * 20


def attempts(ground: Ground) -> list[dict[str, Any]]:
    """All attempts, oldest first."""
    return ground.rows("select * from attempts order by call_id, signed_at")


def strangers(ground: Ground) -> list[dict[str, Any]]:
    """What the ledger knows of foreign transactions."""
    return ground.rows("select * from foreign_transactions order by nonce")


def send_foreign(ground: Ground, process: Process, nonce: int, data: str = "0x") -> str:
    """A transaction with our key that did not come from us."""
    address = process.lane.signer.address
    ground.node.rpc("anvil_impersonateAccount", address)
    foreign = {"from": address, "to": NOTHING, "value": "0x1", "nonce": hex(nonce), "gas": hex(50_000), "data": data}
    foreign |= {"maxFeePerGas": hex(500 * GWEI), "maxPriorityFeePerGas": hex(10 * GWEI)}
    return str(ground.node.rpc("eth_sendTransaction", foreign))


async def until_paused(process: Process, text: str) -> None:
    """The vault is paused, and the reason holds this text."""

    def is_so() -> bool:
        pause = process.pauses.active.get((Scope.VAULT, "main"))
        return pause is not None and text in pause.paused_by

    await until(is_so)


async def overtaken(ground: Ground, process: Process) -> tuple[JobCall, str]:
    """A call of ours whose nonce a stranger's transaction has taken, and the hash of that."""
    call = await process.act()
    await process.until_state(call, "sent")
    ground.node.rpc("anvil_dropTransaction", attempts(ground)[-1]["hash"])
    stranger = send_foreign(ground, process, 0)
    ground.mine()
    await until_paused(process, stranger)
    return call, stranger


def test_stranger_beyond_our_nonces_pauses_the_vault_until_it_is_adopted(ground: Ground) -> None:
    """Alarm with hash, selector and counterparty; after `adopt` the nonces go on by themselves."""

    async def scenario() -> None:
        async with running(ground) as process:
            first = await process.act()
            await process.mine_until_ended(first)
            stranger = send_foreign(ground, process, 1, "0xdeadbeef00")
            ground.mine()
            await until_paused(process, stranger)
            reason = process.pauses.active[Scope.VAULT, "main"].paused_by
            assert f"{stranger} (nonce 1, block " in reason
            assert f"to {NOTHING}, selector 0xdeadbeef, 1 wei)" in reason
            denied = await process.act()
            assert process.outcome(denied).startswith("denied: vault main is paused by runnerd: transaction 0x")

            assert await process.auditor.adopt("0x" + "ee" * 32, "uid:0") is None
            told = await process.auditor.adopt(stranger, "uid:0")
            assert told == f"adopted {stranger}, nonce 1 of {process.lane.signer.address}; resumed: main"
            good = await process.act()
            await process.mine_until_ended(good)
            assert process.outcome(good).startswith("acted")
        assert [row["nonce"] for row in attempts(ground)] == [0, 2]
        (row,) = strangers(ground)
        assert (row["hash"], row["nonce"], row["selector"], row["adopted_by"]) == (stranger, 1, "0xdeadbeef", "uid:0")

    run_async(scenario())


def test_stranger_at_our_nonce_is_proof_of_death_only_when_it_is_final(ground: Ground) -> None:
    """Neither failed nor acted before: unresolved. Then, since the vault is paused for it, denied; no effect."""
    ground.chain["confirmations"] = 4

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            ground.node.rpc("anvil_dropTransaction", attempts(ground)[0]["hash"])
            stranger = send_foreign(ground, process, 0)
            ground.mine(2)
            await process.until_state(call, "unresolved")
            await until_paused(process, stranger)
            ground.mine()
            await until(lambda: process.network.head.latest is not None)
            assert process.results_of == {}
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("denied: not signed: vault main is paused by runnerd: transaction")
        assert ground.effects() == []
        assert attempts(ground)[0]["dead_by"] == stranger
        assert ground.rows("select next_nonce from wallets") == [{"next_nonce": 1}]

    run_async(scenario())


def test_dead_intent_is_signed_again_at_another_nonce_when_the_stranger_was_adopted(ground: Ground) -> None:
    """Its effect is still wanted and cannot have happened: one effect, at a new nonce, with new bytes."""
    ground.chain["confirmations"] = 3
    ground.budget["max_gas_wei_per_day"] = ETHER
    settled: list[int] = []

    async def scenario() -> None:
        async with running(ground) as process:
            call, stranger = await overtaken(ground, process)
            assert await process.auditor.adopt(stranger, "uid:0") is not None
            assert process.usage.gas_of(call.id) > 0
            death = process.book.pay_gas

            def pay(call_id: int, paid_wei: int) -> list[Statement]:
                settled.append(paid_wei)
                return death(call_id, paid_wei)

            process.book.pay_gas = pay  # type: ignore[method-assign]
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert settled[0] == 0  # nothing of the dead one is ever paid
        assert settled[1] > 0
        dead, live = attempts(ground)
        assert (dead["nonce"], dead["dead_by"], live["nonce"], live["dead_by"]) == (0, stranger, 1, None)
        assert len(ground.effects()) == 1

    run_async(scenario())


@pytest.mark.parametrize("change", ["revoked", "removed"])
def test_dead_intent_is_not_signed_again_when_it_is_not_granted_any_more(ground: Ground, change: str) -> None:
    """As after a restart: what the operator took out of the configuration meanwhile is not signed at a new nonce."""
    ground.chain["confirmations"] = 3

    async def scenario() -> None:
        async with running(ground) as process:
            call, stranger = await overtaken(ground, process)
            assert await process.auditor.adopt(stranger, "uid:0") is not None
            if change == "removed":
                del process.vaults["main"]
            else:
                process.vaults["main"].catalogue = replace(process.catalogue, actions={})
            await process.mine_until_ended(call)
            told = {
                "removed": "failed: not signed: vault main is not served",
                "revoked": "denied: not granted any more: ",
            }
            assert process.outcome(call).startswith(told[change])
        assert [row["nonce"] for row in attempts(ground)] == [0]

    run_async(scenario())


def test_one_that_cannot_be_looked_into_does_not_keep_the_others(ground: Ground) -> None:
    """Two died; about the second no node says anything. The first goes on all the same, to its effect."""
    ground.chain["confirmations"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            first, second = await process.act(), await process.act()
            await process.until_state(second, "sent")
            for row in attempts(ground):
                ground.node.rpc("anvil_dropTransaction", row["hash"])
            strangers = [send_foreign(ground, process, nonce) for nonce in (0, 1)]

            async def silent(exchange: Exchange) -> bytes:
                answers = json.loads(await exchange.forward())
                asked = {call["id"]: call["params"][0] for call in exchange.calls if call["params"]}
                for answer in answers if isinstance(answers, list) else [answers]:
                    if asked.get(answer["id"]) == strangers[1]:
                        answer.pop("result", None)
                        answer["error"] = {"code": -32000, "message": "header not found"}
                return json.dumps(answers).encode()

            ground.proxy.set_rule("eth_getTransactionReceipt", silent)
            ground.mine()
            await until_paused(process, strangers[1])
            for stranger in strangers:
                assert await process.auditor.adopt(stranger, "uid:0") is not None
            await process.mine_until_ended(first)
            assert process.outcome(first).startswith("acted")
            assert process.state(second) == "unresolved"
            ground.proxy.open()
            await process.mine_until_ended(second)
        assert len(ground.effects()) == 2

    run_async(scenario())


def test_a_final_transaction_of_somebody_else_proves_nothing(ground: Ground) -> None:
    """A node may name any as ours, at our nonce: who made it is asked as well, of as many as for any other proof."""

    async def scenario() -> None:
        async with running(ground) as process:
            wallet = process.lane.signer.address
            theirs = ground.send(ground.vault.functions.setPaused(False))
            ours = send_foreign(ground, process, 0)
            ground.mine(3)
            await until_paused(process, ours)
            head, rpc = await process.network.head.fetch(), process.network.rpc
            (real,) = [each.found for each in process.auditor._strangers.values()]
            assert real is not None
            assert real.hash == ours
            named = read_transaction(await rpc.call("eth_getTransactionByHash", [theirs]))
            assert named is not None
            lie = replace(named, sender=wallet, nonce=0)
            assert await process.auditor._is_proven(real, wallet, 0, head.number)
            assert not await process.auditor._is_proven(real, wallet, 1, head.number)
            assert not await process.auditor._is_proven(lie, wallet, 0, head.number)

    run_async(scenario())


def test_a_stranger_that_cannot_be_found_is_adopted_by_its_hash(ground: Ground) -> None:
    """The node has the transaction, but not the old state by which it is looked for. Not so anybody else's hash."""

    async def scenario() -> None:
        async with running(ground) as process:
            ground.proxy.alter("eth_getBlockByNumber", lambda block: {**block, "transactions": []} if block else block)
            theirs = ground.send(ground.vault.functions.setPaused(False))
            ours = send_foreign(ground, process, 0)
            ground.mine()
            await until_paused(process, "of nonce 0")
            assert process.auditor.unadopted == []
            assert await process.auditor.adopt(theirs, "uid:0") is None
            assert await process.auditor.adopt(ours, "uid:0") is not None
            assert process.pauses.active == {}
            ground.proxy.open()
            call = await process.act()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())


def test_unresolved_intent_goes_on_when_the_stranger_falls_out_of_the_chain(ground: Ground) -> None:
    """A reorg takes the stranger back before it was final: the same bytes land at the same nonce."""
    ground.chain["confirmations"] = 5

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            bytes_before = attempts(ground)[0]["raw"]
            ground.node.rpc("anvil_dropTransaction", attempts(ground)[0]["hash"])
            send_foreign(ground, process, 0)
            ground.mine()
            await process.until_state(call, "unresolved")
            ground.node.rpc("anvil_reorg", 1, [])
            ground.node.rpc("anvil_dropAllTransactions")
            ground.mine()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        (row,) = attempts(ground)
        assert (row["raw"], row["is_success"]) == (bytes_before, True)
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_gap_that_a_vanished_stranger_leaves_is_filled_by_a_noop(ground: Ground) -> None:
    """We had gone on behind it; its bytes are not ours to send again, and those behind it must not wait for ever."""
    ground.chain.update(confirmations=6, replace_after_blocks=2)

    async def scenario() -> None:
        async with running(ground) as process:
            stranger = send_foreign(ground, process, 0)
            ground.mine()
            await until_paused(process, stranger)
            await process.auditor.adopt(stranger, "uid:0")
            call = await process.act()
            await process.until_state(call, "sent")
            ground.node.rpc("anvil_reorg", 1, [])
            ground.node.rpc("anvil_dropTransaction", stranger)
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        fillers = ground.rows("select * from fillers")
        assert {row["nonce"] for row in fillers} == {0}
        receipts = [ground.node.rpc("eth_getTransactionReceipt", row["hash"]) for row in fillers]
        assert sum(receipt is not None for receipt in receipts) == 1
        assert [row["nonce"] for row in attempts(ground)] == [1]
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_final_transaction_that_a_deep_reorg_takes_back_is_sent_again_as_it_was(ground: Ground) -> None:
    """Deeper than what was called final: the call keeps its result, and the same bytes make it true again."""
    ground.chain.update(confirmations=2, replace_after_blocks=2)
    ground.mine(6)  # the vault must be older than what falls out

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.mine_until_ended(call)
            (row,) = attempts(ground)
            ground.node.rpc("anvil_reorg", 5, [])
            ground.node.rpc("anvil_dropAllTransactions")
            assert ground.effects() == []
            await process.mine_until_ended(await process.act(mint(7)))
        assert "0x" + row["raw"].hex() in ground.sent()[1:]
        assert [effect["value"] for effect in ground.effects()] == [1_000, 7]
        assert ground.rows("select 1 from fillers") == []

    run_async(scenario())


@pytest.mark.parametrize("is_named", [True, False])
def test_strangers_are_known_to_the_next_process(ground: Ground, is_named: bool) -> None:
    """Paused stays paused, and a stranger that could not be named yet is named then."""

    async def refuse_whole_blocks(exchange: Exchange) -> bytes:
        if not any(call["params"][1:] == [True] for call in exchange.calls):
            return await exchange.forward()
        (call,) = exchange.calls
        error = {"code": -32000, "message": "not now"}
        return json.dumps({"jsonrpc": "2.0", "id": call["id"], "error": error}).encode()

    async def scenario() -> None:
        async with running(ground) as process:
            if not is_named:
                ground.proxy.set_rule("eth_getBlockByNumber", refuse_whole_blocks)
            stranger = send_foreign(ground, process, 0)
            ground.mine()
            await until_paused(process, stranger if is_named else "of nonce 0")
        ground.proxy.open()
        async with running(ground, lane=is_named) as process:
            if not is_named:
                await until(lambda: process.auditor.unadopted == [stranger])
                assert strangers(ground)[0]["hash"] == stranger
                process.run(follower=False)
            told = await process.auditor.adopt(stranger, "uid:0")
            assert told is not None
            good = await process.act()
            await process.mine_until_ended(good)
            assert process.outcome(good).startswith("acted")
        assert [row["nonce"] for row in attempts(ground)] == [1]

    run_async(scenario())

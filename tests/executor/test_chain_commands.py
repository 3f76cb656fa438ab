"""An operator's word about what is on its way to the chain, on the real node: cancel, adopt, and knobs of the fees."""

from typing import Any

import pytest

from runnerd.commands.chains import ChainCommands
from runnerd.control.chain_messages import Adopt, Cancel, Fees, GetFees, TurnFees
from runnerd.control.messages import ControlError, Done
from tests.executor.test_auditor import attempts, send_foreign, until_paused
from tests.support.aio import run_async
from tests.support.executor_bench import Ground, Process, mint, running
from tests.support.until import until

GWEI = 10**9
ME = "uid:1000"


def commands_on_record(ground: Ground) -> list[Any]:
    """Bodies of the audit trail's records of commands."""
    query = "select body from audit_records where kind = 'command' order by seq"
    return [row["body"] for row in ground.rows(query)]


async def cancel(process: Process, call_id: int) -> str:
    """What the operator reads."""
    done = await process.commands().handle(Cancel(call_id=call_id), ME)
    assert isinstance(done, Done)
    return done.text


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_planned_intent_that_waits_behind_a_full_flight_ends_at_once(ground: Ground) -> None:
    """No block comes and none is needed; nothing was signed for it, and those beside it go on."""
    ground.wallet["max_in_flight"] = 1

    async def scenario() -> None:
        async with running(ground) as process:
            first = await process.act(mint(1))
            await process.until_state(first, "sent")
            second, third = await process.act(mint(2)), await process.act(mint(3))
            assert (
                await cancel(process, second.id)
                == f"call {second.id} is withdrawn before it is signed; see runnerctl runs"
            )
            await process.until_ended(second)
            assert process.outcome(second) == f"denied: cancelled by {ME}"
            assert process.state(second) == "denied"
            with pytest.raises(ControlError, match=f"call {second.id} has ended already, as denied: cancelled by {ME}"):
                await cancel(process, second.id)
            await process.mine_until_ended(first, third)
        assert [effect["value"] for effect in ground.effects()] == [1, 3]
        assert [row["nonce"] for row in attempts(ground)] == [0, 1]
        (record,) = commands_on_record(ground)
        assert '"command":"cancel"' in record
        assert f'"call":{second.id}' in record
        assert f'"principal":"{ME}"' in record

    run_async(scenario())


def test_planned_intent_that_cannot_be_judged_ends_at_once(ground: Ground) -> None:
    """The node is away and the lane rests between two tries: nobody waits for what he took back."""

    async def scenario() -> None:
        async with running(ground) as process:
            ground.proxy.refuse("eth_estimateGas", -32000, "internal error")
            call = await process.act()
            await until(lambda: process.lane.waiting == 1)
            await cancel(process, call.id)
            await process.until_ended(call)
            assert process.outcome(call) == f"denied: cancelled by {ME}"
            assert process.lane.waiting == 0
        assert attempts(ground) == []

    run_async(scenario())


def test_stuck_transaction_is_cancelled_by_a_no_op_at_its_nonce(ground: Ground) -> None:
    """Stored before it is sent, dearer than the batch; denied when the no-op is final, and the next nonce goes on."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            text = await cancel(process, call.id)
            assert text == f"call {call.id} is being cancelled by a no-op at nonce 0; see runnerctl tx"
            await until(lambda: process.book.open[call.id].intent.cancellation is not None)
            with pytest.raises(
                ControlError, match=rf"being cancelled already, by a no-op at nonce 0: cancelled by {ME}"
            ):
                await cancel(process, call.id)
            await until(lambda: [row["accepted_at"] is not None for row in attempts(ground)] == [True, True])
            assert process.results_of == {}
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith(f"denied: cancelled by {ME}; a no-op took its nonce 0 in block ")
            assert process.state(call) == "cancelled"
            good = await process.act(mint(7))
            await process.mine_until_ended(good)
        batch, noop, last = attempts(ground)
        assert [row["kind"] for row in (batch, noop, last)] == ["batch", "noop", "batch"]
        assert (noop["nonce"], noop["is_success"], batch["is_success"]) == (0, True, None)
        for fee in ("max_fee_per_gas_wei", "max_priority_fee_wei"):
            assert noop[fee] * 8 >= batch[fee] * 9
        assert [effect["value"] for effect in ground.effects()] == [7]

    run_async(scenario())


def test_cancel_is_asked_for_again_until_the_no_op_is_signed(ground: Ground) -> None:
    """The node says nothing about fees when the operator asks: what he was told is carried out at a later block."""

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            trap = ground.proxy.refuse("eth_feeHistory", -32000, "internal error")
            await cancel(process, call.id)
            await until(lambda: bool(trap.calls) and not process.book.open[call.id].is_busy)
            assert len(attempts(ground)) == 1
            ground.node.rpc("anvil_dropTransaction", attempts(ground)[0]["hash"])
            ground.proxy.open()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith(f"denied: cancelled by {ME}; a no-op took its nonce 0 in block ")
        assert ground.effects() == []

    run_async(scenario())


def test_what_is_in_a_block_is_not_cancelled(ground: Ground) -> None:
    """Refused with where it is; it acts, and nothing else is signed. So is a call that ended, or never was."""
    ground.chain["confirmations"] = 3

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            ground.mine()
            await process.until_state(call, "included")
            with pytest.raises(ControlError, match=rf"call {call.id} is included in block \d+ already: it cannot be"):
                await cancel(process, call.id)
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
            with pytest.raises(ControlError, match=rf"call {call.id} has ended already, as acted: included in block"):
                await cancel(process, call.id)
            with pytest.raises(ControlError, match=f"there is no call {call.id + 1}"):
                await cancel(process, call.id + 1)
            queued = await process.call()
            with pytest.raises(ControlError, match=r"is not decided yet.*runnerctl pause alpha"):
                await cancel(process, queued.id)
        assert len(attempts(ground)) == 1
        assert commands_on_record(ground) == []

    run_async(scenario())


def test_cancelled_intent_is_not_signed_anew_after_its_death(ground: Ground) -> None:
    """A stranger takes the nonce before the no-op does: the call ends, although its effect could still be had."""
    ground.chain["confirmations"] = 3

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            trap = ground.proxy.refuse("eth_feeHistory", -32000, "internal error")
            await cancel(process, call.id)
            await until(lambda: bool(trap.calls) and not process.book.open[call.id].is_busy)
            ground.node.rpc("anvil_dropTransaction", attempts(ground)[0]["hash"])
            stranger = send_foreign(ground, process, 0)
            ground.mine()
            await process.until_state(call, "unresolved")
            with pytest.raises(ControlError, match=rf"call {call.id} is unresolved: its nonce 0 is used"):
                await cancel(process, call.id)
            await until_paused(process, stranger)
            ground.proxy.open()
            await process.commands().handle(Adopt(hash=stranger), ME)
            await process.mine_until_ended(call)
            assert process.outcome(call) == f"denied: cancelled by {ME}"
        assert ground.effects() == []
        assert [row["kind"] for row in attempts(ground)] == ["batch"]

    run_async(scenario())


# --- adopt -----------------------------------------------------------------------------------------------------------


def test_adopt_names_what_there_is_and_resumes_what_was_paused(ground: Ground) -> None:
    """A mistyped hash changes nothing; the right one, in any case of letters, is on record with who said it."""

    async def scenario() -> None:
        async with running(ground) as process:
            commands = process.commands()
            with pytest.raises(ControlError, match="is not known as foreign; to adopt: none"):
                await commands.handle(Adopt(hash="0x" + "ee" * 32), ME)
            stranger = send_foreign(ground, process, 0)
            ground.mine()
            await until_paused(process, stranger)
            with pytest.raises(ControlError, match=f"to adopt: {stranger} on local"):
                await commands.handle(Adopt(hash="0x" + "ee" * 32), ME)
            done = await commands.handle(Adopt(hash="0x" + stranger[2:].upper()), ME)
            address = process.lane.signer.address
            assert done == Done(text=f"adopted {stranger}, nonce 0 of {address}; resumed: main")
            assert process.auditor.unadopted == []
        (record,) = commands_on_record(ground)
        assert f'"command":"adopt","hash":"{stranger}","principal":"{ME}"' in record

    run_async(scenario())


# --- fees ------------------------------------------------------------------------------------------------------------


async def turn(commands: ChainCommands, **values: Any) -> Fees:
    """Turn knobs, and read where they stand."""
    fees = await commands.handle(TurnFees(chain="local", **values), ME)
    assert isinstance(fees, Fees)
    assert fees == await commands.handle(GetFees(chain="local"), "uid:7")
    return fees


def test_turned_knobs_change_the_next_fees_and_outlast_a_restart(ground: Ground) -> None:
    """The next signature already; a second process finds them with who turned them, until they are reset."""
    ground.chain.update(min_priority_fee_wei=GWEI, max_fee_per_gas_wei=500 * GWEI)

    async def scenario() -> None:
        async with running(ground) as process:
            await process.mine_until_ended(await process.act())
            fees = await turn(process.commands(), min_priority_fee_wei=20 * GWEI, max_fee_per_gas_wei=30 * GWEI)
            assert [(knob.value, knob.configured, knob.turned_by) for knob in fees.knobs] == [
                (30 * GWEI, 500 * GWEI, ME), (20 * GWEI, GWEI, ME), (1_000, 1_000, None)
            ]  # fmt: skip
            await process.mine_until_ended(await process.act())
        async with running(ground) as process:
            await process.mine_until_ended(await process.act())
            fees = await turn(process.commands(), replace_after_blocks=2)
            assert process.network.rules.replace_after_blocks == 2
            assert [knob.turned_by for knob in fees.knobs] == [ME, ME, ME]
            fees = await turn(process.commands(), is_reset=True)
            assert [(knob.value, knob.turned_by) for knob in fees.knobs] == [
                (500 * GWEI, None), (GWEI, None), (1_000, None)
            ]  # fmt: skip
            await process.mine_until_ended(await process.act())
        tips = [row["max_priority_fee_wei"] for row in attempts(ground)]
        assert tips[0] < 20 * GWEI
        assert tips[1:3] == [20 * GWEI, 20 * GWEI]
        assert ground.rows("select * from knobs") == []
        assert all('"command":"fees"' in record for record in commands_on_record(ground))
        assert len(commands_on_record(ground)) == 3

    run_async(scenario())


@pytest.mark.parametrize(
    "values, problem",
    [
        ({"max_fee_per_gas_wei": 0}, "max_fee_per_gas_wei = 0 is not allowed: 1 to 9223372036854775807"),
        ({"replace_after_blocks": 1_001}, "replace_after_blocks = 1001 is not allowed: 1 to 1000"),
        ({"min_priority_fee_wei": 501 * GWEI}, "min_priority_fee_wei = 501000000000 is above max_fee_per_gas_wei"),
        ({}, "either turn at least one of max_fee_per_gas_wei, min_priority_fee_wei, replace_after_blocks, or reset"),
        ({"replace_after_blocks": 2, "is_reset": True}, "either turn at least one of"),
    ],
)
def test_knobs_that_cannot_be_are_refused_with_what_is_allowed(
    ground: Ground, values: dict[str, Any], problem: str
) -> None:
    """Nothing is turned, and nothing is on record."""
    ground.chain["max_fee_per_gas_wei"] = 500 * GWEI

    async def scenario() -> None:
        async with running(ground) as process:
            with pytest.raises(ControlError, match=problem):
                await process.commands().handle(TurnFees(chain="local", **values), ME)
            with pytest.raises(ControlError, match="there is no chain 'lokal'; there are: local"):
                await process.commands().handle(GetFees(chain="lokal"), ME)
            assert process.network.knobs.turned == {}
        assert ground.rows("select * from knobs") == []
        assert commands_on_record(ground) == []

    run_async(scenario())

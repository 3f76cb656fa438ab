"""A wallet without money: nothing is signed, bid up or cancelled because of it, it is said, and it ends with money."""

import json

from tests.support.aio import run_async
from tests.support.executor_bench import ETHER, Ground, Process, running
from tests.support.rpc_proxy import Exchange
from tests.support.until import until

GWEI = 10**9
OUT_OF_GAS = {"code": -32003, "message": "Out of gas: gas required exceeds allowance: 0"}


def fund(ground: Ground, wei: int) -> None:
    """Let the operator have this much."""
    ground.node.rpc("anvil_setBalance", ground.signer.address, hex(wei))


async def until_seen(process: Process, wei: int) -> None:
    """At the next block, as runnerd does."""
    process.ground.mine()
    await until(lambda: process.lane.purse.balance_wei == wei)


def attempts_of(ground: Ground) -> list[dict[str, object]]:
    """Oldest first."""
    return ground.rows("select * from attempts order by signed_at")


def test_nothing_is_signed_without_money_and_it_is_signed_when_money_has_come(ground: Ground) -> None:
    """The call waits, the status says what to do, and nothing has to be done but to send money."""
    fund(ground, 0)

    async def scenario() -> None:
        async with running(ground) as process:
            await until_seen(process, 0)
            assert process.lane.purse.shortage is None  # nobody has asked for anything yet
            call = await process.act()
            await until(lambda: process.lane.purse.shortage is not None)
            assert str(process.lane.purse.shortage).startswith("has 0 wei, ")
            assert process.state(call) == "planned"
            assert attempts_of(ground) == []
            fund(ground, ETHER)
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
            assert process.lane.purse.shortage is None

    run_async(scenario())


def test_end_of_what_could_not_be_paid_says_so(ground: Ground) -> None:
    """`why` must not say "too late" alone, when the reason was the wallet."""
    fund(ground, 7)

    async def scenario() -> None:
        async with running(ground) as process:
            await until_seen(process, 7)
            call = await process.act(intent_deadline_s=1.0)
            await process.until_ended(call)
            assert process.outcome(call).startswith(
                f"expired: its deadline passed before it could be signed: wallet {ground.signer.address} has 7 wei, "
            )

    run_async(scenario())


def test_only_as_many_are_in_flight_as_can_be_paid(ground: Ground) -> None:
    """Nodes count what is in their pool as well: a second one that could not be paid would only be refused."""

    async def scenario() -> None:
        async with running(ground) as process:
            first = await process.act()
            await process.until_state(first, "sent")
            cost_wei = process.book.promised_wei(31337, ground.signer.address)
            fund(ground, cost_wei * 3 // 2)
            await process.mine_until_ended(first)
            await until(lambda: 0 < (process.lane.purse.balance_wei or 0) < cost_wei * 3 // 2)
            second, third = await process.act(), await process.act()
            await process.until_state(second, "sent")
            await until(lambda: process.book.open[third.id].postponed != "")
            assert process.state(third) == "planned"
            assert len(attempts_of(ground)) == 2
            fund(ground, ETHER)
            await process.mine_until_ended(second, third)
            assert len(ground.effects()) == 3

    run_async(scenario())


def test_what_is_signed_is_neither_bid_up_nor_cancelled_when_the_money_is_gone(ground: Ground) -> None:
    """It is not the price. The same bytes are included when there is money again."""
    ground.chain["replace_after_blocks"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            (only,) = attempts_of(ground)
            ground.node.rpc("anvil_dropTransaction", only["hash"])
            fund(ground, 0)
            await until_seen(process, 0)
            for _ in range(6):
                seen, looked = process.book.open[call.id].in_turn_since, len(ground.sent())
                ground.mine()
                await until(lambda looked=looked: len(ground.sent()) > looked)  # type: ignore[misc]
                assert seen is not None
            assert len(attempts_of(ground)) == 1
            assert process.state(call) == "sent"
            assert set(ground.sent()) == {"0x" + bytes(only["raw"]).hex()}  # type: ignore[call-overload]
            assert process.lane.purse.shortage is not None
            fund(ground, ETHER)
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_batch_that_needs_more_gas_now_is_replaced_and_not_cancelled(ground: Ground) -> None:
    """Its state has moved: the signed gas limit would fail, but it still succeeds with more."""

    async def too_little(exchange: Exchange) -> bytes:
        answers = json.loads(await exchange.forward())
        methods = {call["id"]: call["method"] for call in exchange.calls}
        for answer in answers if isinstance(answers, list) else [answers]:
            if methods[answer["id"]] == "eth_call":
                answer.pop("result", None)
                answer["error"] = OUT_OF_GAS
        return json.dumps(answers).encode()

    async def scenario() -> None:
        async with running(ground) as process:
            ground.proxy.refuse("eth_sendRawTransaction", -32000, "internal error")
            call = await process.act()
            await until(lambda: [attempt for attempt in attempts_of(ground) if attempt["error"]])
            ground.proxy.set_rule("eth_call", too_little)
            ground.mine()
            await until(lambda: len(attempts_of(ground)) > 1)
            ground.proxy.open()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
            _, second, *_ = attempts_of(ground)
            assert second["kind"] == "batch"
        assert len(ground.effects()) == 1

    run_async(scenario())

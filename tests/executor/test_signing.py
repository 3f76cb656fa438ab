"""What the lane does with a signer that is slow, away, or not to be trusted: nothing is given away, nothing stuck."""

import asyncio
from collections.abc import Awaitable, Callable

from runnerd.pauses import Pause, Scope
from runnerd.wallets.errors import SignerMismatch, SignerUnavailable
from runnerd.wallets.signer import Signer
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction
from tests.support.aio import run_async
from tests.support.executor_bench import Ground, Process, running
from tests.support.until import until
from tests.support.virtual_time import EPOCH


class MoodySigner:
    """A real signer, behind something that happens first."""

    def __init__(self, signer: Signer, first: Callable[[], Awaitable[None]]) -> None:
        self._signer = signer
        self.first = first
        self.asked = 0

    @property
    def address(self) -> str:
        return self._signer.address

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        self.asked += 1
        await self.first()
        return await self._signer.sign(transaction)

    async def close(self) -> None:
        await self._signer.close()


def moody(process: Process, first: Callable[[], Awaitable[None]]) -> MoodySigner:
    """The lane's signer from now on."""
    process.lane.signer = signer = MoodySigner(process.lane.signer, first)
    return signer


async def away() -> None:
    raise SignerUnavailable("signer", "it is restarted")


async def nothing() -> None:
    """It is well."""


def test_intent_waits_while_the_signer_is_away_and_is_signed_when_it_is_back(ground: Ground) -> None:
    """No nonce is used up meanwhile, and its neighbours are not held up for ever."""

    async def scenario() -> None:
        async with running(ground, lane=False) as process:
            signer = moody(process, away)
            calls = [await process.act() for _ in range(2)]
            process.run(follower=False)
            await until(lambda: signer.asked >= 3)
            assert {process.state(call) for call in calls} == {"planned"}
            assert ground.rows("select * from attempts") == []
            signer.first = nothing
            await process.mine_until_ended(*calls)
        assert sorted(row["nonce"] for row in ground.rows("select nonce from attempts")) == [0, 1]
        assert len(ground.effects()) == 2

    run_async(scenario())


def test_intent_expires_when_the_signer_does_not_come_back(ground: Ground) -> None:
    """The call has its result at its deadline, and nothing was signed."""

    async def scenario() -> None:
        async with running(ground, lane=False) as process:
            moody(process, away)
            call = await process.act(intent_deadline_s=1.0)
            process.run()
            await process.until_ended(call)
            assert process.outcome(call).startswith("expired: its deadline passed before it could be signed: ")
        assert ground.rows("select * from attempts") == []
        assert ground.sent() == []

    run_async(scenario())


def test_intent_fails_at_once_when_the_signer_is_not_to_be_trusted(ground: Ground) -> None:
    """Asking again would change nothing: the reason is the call's, and its nonce goes to the next intent."""

    async def tampered() -> None:
        raise SignerMismatch("signer", "nonce is 0x08, asked was 0x07")

    async def scenario() -> None:
        async with running(ground, lane=False) as process:
            signer = moody(process, tampered)
            call = await process.act()
            process.run()
            await process.until_ended(call)
            assert process.outcome(call) == (
                "failed: not signed: signer gave back something else than was asked, and it was not used: "
                "nonce is 0x08, asked was 0x07"
            )
            assert signer.asked == 1
            signer.first = nothing
            good = await process.act()
            await process.mine_until_ended(good)
        assert [row["nonce"] for row in ground.rows("select nonce from attempts")] == [0]

    run_async(scenario())


def test_pause_that_came_while_the_signer_was_asked_holds(ground: Ground) -> None:
    """A signer elsewhere may take seconds. What it signed then is stored nowhere and sent to nobody."""

    async def scenario() -> None:
        async with running(ground, lane=False) as process:

            async def pause_meanwhile() -> None:
                process.pauses.add(Pause(Scope.VAULT, "main", "uid:0", EPOCH))

            moody(process, pause_meanwhile)
            call = await process.act()
            process.run()
            await process.until_ended(call)
            assert process.outcome(call).startswith("denied: not signed: vault main is paused")
        assert ground.rows("select * from attempts") == []
        assert ground.sent() == []

    run_async(scenario())


def test_replacement_waits_for_a_signer_that_is_away(ground: Ground) -> None:
    """The follower goes on; what was sent before stays out, and is replaced when the signer is back."""
    ground.chain["replace_after_blocks"] = 2

    async def scenario() -> None:
        async with running(ground) as process:
            call = await process.act()
            await process.until_state(call, "sent")
            signer = moody(process, away)
            ground.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(10**12))
            for _ in range(3):
                ground.mine()
                ground.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(10**10))
            await until(lambda: signer.asked >= 1)
            assert len(ground.rows("select * from attempts")) == 1
            signer.first = nothing
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert len(ground.effects()) == 1

    run_async(scenario())


def test_a_lane_that_is_stopped_does_not_wait_for_its_signer(ground: Ground) -> None:
    """Stopping runnerd takes no longer because a signer is silent."""

    async def silent() -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with running(ground, lane=False) as process:
            signer = moody(process, silent)
            call = await process.act()
            process.run()
            await until(lambda: signer.asked == 1)
            assert process.state(call) == "planned"
        assert ground.rows("select * from attempts") == []

    run_async(scenario())

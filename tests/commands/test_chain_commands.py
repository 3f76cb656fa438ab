"""Commands about a chain that is not as it should be: refused with why and what to do."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from runnerd.commands.chains import ChainCommands
from runnerd.control.chain_messages import Adopt, Cancel
from runnerd.control.messages import ControlError, Done
from runnerd.executor.wanted import Intent, IntentState
from tests.support.aio import run_async
from tests.support.caller_parts import FakeLedger
from tests.support.virtual_time import EPOCH, VirtualClock, VirtualTimeLoop

ME = "uid:1000"
WALLET = "0x" + "0A" * 20


def a_chain(**changes: Any) -> Any:
    """One that works, but for `changes`."""
    asked: list[object] = []
    parts: dict[str, Any] = {
        "network": SimpleNamespace(config=SimpleNamespace(id=1)), "lanes": {WALLET: None}, "auditor": None,
        "follower": SimpleNamespace(withdraw=lambda *what: asked.append(what)), "problem": None, "asked": asked,
    }  # fmt: skip
    return SimpleNamespace(**(parts | changes))


class Bench:
    """Commands over one open intent, call 7, with everything in memory."""

    def __init__(self, state: IntentState, *, chain: Any = None, desk: Any = None) -> None:
        self.ledger = FakeLedger()
        intent = Intent(
            call_id=7, plugin="alpha", vault="main", chain_id=1, wallet=WALLET, target=WALLET, calldata=b"",
            value_wei=0, deadline_at=EPOCH, state=state, nonce=12,
        )  # fmt: skip
        self.tracked = SimpleNamespace(intent=intent, withdrawn=None, seen=None)
        book = SimpleNamespace(open={7: self.tracked})
        chains = {"local": chain} if chain is not None else {}
        self.commands = ChainCommands(
            chains, {"main": desk} if desk is not None else {}, cast("Any", book), self.ledger, VirtualClock()
        )

    def cancel(self) -> str:
        async def scenario() -> str:
            done = await self.commands.handle(Cancel(call_id=7), ME)
            assert isinstance(done, Done)
            return done.text

        return run_async(scenario(), loop_factory=VirtualTimeLoop)


def a_desk(*, problem: str | None = None, is_complete: bool = False, has_proposals: bool = True) -> Any:
    """A vault whose proposal of call 7 waits, unless that is complete."""
    withdrawn: list[object] = []
    shown = [SimpleNamespace(intent=SimpleNamespace(call_id=7), is_complete=is_complete)]
    return SimpleNamespace(
        lane=SimpleNamespace(problem=problem, withdraw=lambda *what: withdrawn.append(what)), withdrawn=withdrawn,
        proposals=SimpleNamespace(shown=lambda: shown) if has_proposals else None,
    )  # fmt: skip


def test_proposal_that_waits_for_owners_is_ended_by_rejecting_it() -> None:
    """The lane does not have it; with its signatures complete the lane has it, and ends it."""
    desk = a_desk()
    bench = Bench(IntentState.PLANNED, desk=desk)
    with pytest.raises(
        ControlError, match="waits for signatures of the Safe's owners; to end it: runnerctl safe reject 7"
    ):
        bench.cancel()
    assert (desk.withdrawn, bench.ledger.commits) == ([], [])
    desk = a_desk(is_complete=True)
    bench = Bench(IntentState.PLANNED, desk=desk)
    assert bench.cancel() == "call 7 is withdrawn before it is signed; see runnerctl runs"
    assert desk.withdrawn == [(bench.tracked, f"cancelled by {ME}")]
    assert len(bench.ledger.commits) == 1


def test_planned_intent_of_a_vault_that_is_not_open_ends_when_it_opens() -> None:
    """A node that is down when runnerd starts must not keep an operator from taking back what is planned."""
    bench = Bench(IntentState.PLANNED)
    assert "will end without being signed when vault main opens" in bench.cancel()
    assert bench.tracked.withdrawn == f"cancelled by {ME}"


def test_lane_that_signs_nothing_any_more_is_named() -> None:
    """It would never look at the wish."""
    bench = Bench(IntentState.PLANNED, desk=a_desk(problem="the ledger refused", has_proposals=False))
    with pytest.raises(ControlError, match="signs nothing any more, call 7 included: the ledger refused"):
        bench.cancel()


@pytest.mark.parametrize(
    "chain, says",
    [
        (None, "call 7 cannot be cancelled: chain 1 is not configured any more"),
        (
            a_chain(follower=None, problem="node a: silent"),
            "cannot be cancelled now: nothing is sent to chain local: node a",
        ),
        (a_chain(lanes={}), f"call 7 is only watched: wallet {WALLET} is no operator here any more"),
    ],
)
def test_signed_intent_that_nobody_can_cancel_now_is_refused_with_why(chain: Any, says: str) -> None:
    """Nothing is begun, and nothing is on record."""
    bench = Bench(IntentState.SENT, chain=chain)
    with pytest.raises(ControlError, match=says):
        bench.cancel()
    assert bench.ledger.commits == []


def test_second_wish_is_the_first_ones() -> None:
    """Who began it stays the reason."""
    chain = a_chain()
    bench = Bench(IntentState.SENT, chain=chain)
    bench.tracked.withdrawn = "cancelled by uid:1"
    assert bench.cancel() == "call 7 is being cancelled by a no-op at nonce 12; see runnerctl tx"
    assert chain.asked == [(bench.tracked, "cancelled by uid:1")]


def test_intent_whose_end_is_being_stored_is_just_ending() -> None:
    """Its end is an end, although it still is in the book."""
    with pytest.raises(ControlError, match="call 7 is just ending: its intent is final"):
        Bench(IntentState.FINAL, chain=a_chain()).cancel()


def test_adopt_says_which_chain_could_not_be_asked() -> None:
    """The hash may be right, and its chain silent."""
    bench = Bench(IntentState.SENT, chain=a_chain())

    async def scenario() -> None:
        with pytest.raises(ControlError, match="to adopt: none; chain local has not answered yet"):
            await bench.commands.handle(Adopt(hash="0x" + "ee" * 32), ME)

    run_async(scenario(), loop_factory=VirtualTimeLoop)

"""A worker's state requests: answered from the ledger, bounded, and one that keeps too much is told on."""

import asyncio

import pytest
from msgspec import structs

from protocol.limits import MAX_STATE_REQUESTS_PER_S, STATE_BURST, STATE_COMMIT_COST
from protocol.messages import Message, StateCompareAndSet, StateGet, StateRefused, StateReply
from runnerd.store.decisions import StateLimits
from runnerd.store.errors import CommitRefused, StateOverLimit, StoreError, StoreUnavailable
from runnerd.store.ledger import Rows
from runnerd.store.statement import Statement
from runnerd.supervisor.state_desk import StateDesk
from tests.support.aio import run_async
from tests.support.caller_parts import FakeLedger
from tests.support.virtual_time import VirtualTimeLoop

SWAP = StateCompareAndSet(request_id=7, key="k", expected=None, value="1")


async def answer(
    refusal: StoreError | None, request: StateGet | StateCompareAndSet = SWAP
) -> tuple[list[Message], list[str], FakeLedger]:
    """What was sent, and for what reasons the worker was to be ended."""
    ledger, sent, ended = FakeLedger(), list[Message](), list[str]()
    ledger.refusal = refusal
    desk = StateDesk("alpha", ledger, StateLimits(max_bytes=10, max_keys=1), ended.append)
    await desk.answer(request, sent.append)
    assert desk.has_room
    return sent, ended, ledger


def test_compare_and_set_is_kept_within_the_limits_of_its_plugin() -> None:
    """In its own commit; a removal is within any limit."""

    async def scenario() -> None:
        sent, ended, ledger = await answer(None)
        assert sent == [StateReply(request_id=7, value=None, is_swapped=False)]
        assert ended == []
        ((_, within),) = ledger.commits
        assert within.parameters == {"plugin": "alpha", "max_bytes": 10, "max_keys": 1}
        removal = StateCompareAndSet(request_id=8, key="k", expected="1", value=None)
        _, _, ledger = await answer(None, removal)
        assert [len(statements) for statements in ledger.commits] == [1]

    run_async(scenario())


@pytest.mark.parametrize(
    "refusal, reasons",
    [(CommitRefused("odd"), []), (StateOverLimit("over its state limit"), ["over its state limit"])],
    ids=["control", "over"],
)
def test_who_would_keep_too_much_is_refused_and_ended(refusal: StoreError, reasons: list[str]) -> None:
    """Another refusal is an answer, and no more."""

    async def scenario() -> None:
        sent, ended, _ = await answer(refusal)
        assert sent == [StateRefused(request_id=7, reason=str(refusal))]
        assert ended == reasons
        await asyncio.sleep(0)

    run_async(scenario())


def test_who_asks_without_end_is_answered_at_a_pace_and_in_order() -> None:
    """A burst at once, then so many a second; a commit counts for more. Nobody is refused."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        sent: list[Message] = []
        desk = StateDesk("alpha", FakeLedger(), StateLimits(max_bytes=10, max_keys=1), lambda _: None)
        for number in range(STATE_BURST):
            await desk.answer(StateGet(request_id=number + 1, key="k"), sent.append)
        assert loop.time() == 0.0
        for number in range(MAX_STATE_REQUESTS_PER_S):
            await desk.answer(StateGet(request_id=number + 1, key="k"), sent.append)
        assert loop.time() == pytest.approx(1.0)
        for number in range(MAX_STATE_REQUESTS_PER_S // STATE_COMMIT_COST):
            await desk.answer(structs.replace(SWAP, request_id=number + 1), sent.append)
        assert loop.time() == pytest.approx(2.0)
        sent.clear()
        requests = [StateGet(request_id=number + 1, key="k") for number in range(100)]
        await asyncio.gather(*(desk.answer(request, sent.append) for request in requests))
        assert [reply.request_id for reply in sent if isinstance(reply, StateReply)] == list(range(1, 101))

    run_async(scenario(), loop_factory=VirtualTimeLoop)


class AwayLedger(FakeLedger):
    """Answers no query until it is back; each takes a while to fail."""

    is_away = True

    async def fetch(self, statement: Statement) -> Rows:
        await asyncio.sleep(5.0 if self.is_away else 0.0)
        if self.is_away:
            raise StoreUnavailable("away")
        return [{"value": "1"}]


def test_who_reads_while_the_ledger_is_away_waits_and_is_not_to_blame() -> None:
    """As long as it takes, and as long as there is who asked."""

    async def scenario() -> None:
        sent: list[Message] = []
        ledger, loop = AwayLedger(), asyncio.get_running_loop()
        desk = StateDesk("alpha", ledger, StateLimits(max_bytes=10, max_keys=1), lambda _: None)
        asking = loop.create_task(desk.answer(StateGet(request_id=1, key="k"), sent.append))
        await asyncio.sleep(0.2)
        assert not desk.is_held_up()
        await asyncio.sleep(20)
        assert (desk.is_held_up(), sent) == (True, [])
        ledger.is_away = False
        await asking
        assert (desk.is_held_up(), sent) == (False, [StateReply(request_id=1, value="1")])
        ledger.is_away = True
        await desk.answer(StateGet(request_id=2, key="k"), sent.append, lambda: False)
        assert sent[1:] == [StateRefused(request_id=2, reason="away")]

    run_async(scenario(), loop_factory=VirtualTimeLoop)

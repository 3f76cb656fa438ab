"""The calls of a chain's trigger: what names the event is the same for all who follow it."""

from datetime import timedelta

from protocol.messages import TriggerKind
from protocol.triggers import Block as BlockTrigger
from runnerd.chain.types import Block
from runnerd.store.calls import inserted
from runnerd.triggers.chain_calls import Moment, Task, build_call, build_retraction
from runnerd.triggers.chain_source import Finding
from tests.support.virtual_time import EPOCH

HEADER = Block(number=7, hash="0xab", timestamp=1, base_fee_wei=None, gas_limit=1, parent_hash="0xaa")
FINDING = Finding(label="block local 0xab", payload={"number": 7})
MOMENT = Moment(now=EPOCH, call_deadline=timedelta(seconds=60))
TASKS = (
    Task(producer="block", plugin="alpha", trigger=BlockTrigger(), chain="local"),
    Task(producer="block", plugin="beta", trigger=BlockTrigger(job="settle", every=7), chain="local"),
)


def test_an_event_has_one_name_for_all_and_so_has_what_takes_it_back() -> None:
    """Whatever their triggers are; and another one when it came again after a reorg."""
    found = [build_call(task, TriggerKind.BLOCK, HEADER, FINDING, 0, MOMENT) for task in TASKS]
    again = [build_call(task, TriggerKind.BLOCK, HEADER, FINDING, 1, MOMENT) for task in TASKS]
    assert [call.event for call in (*found, *again)] == ["block local 0xab"] * 2 + ["block local 0xab again 1"] * 2
    assert len({call.identity for call in (*found, *again)}) == 4
    undone = [
        build_retraction(task, inserted(call, {"id": 1, "attempts": 0}), MOMENT)
        for task, call in zip(TASKS, again, strict=True)
    ]
    assert {call.event for call in undone} == {"retracted block local 0xab again 1"}

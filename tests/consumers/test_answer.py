"""What may be answered, and what the answer says: only a chain's own calls, only to the contract that asked."""

from dataclasses import replace
from typing import Any, Literal

import msgspec
import pytest

from protocol.messages import BlockRef, TriggerKind
from protocol.values import Value
from runnerd.consumers.answer import NO_TRANSACTION, build_answer, find_objection, is_asked_by_chain, reference_problem
from runnerd.consumers.consumer import ConsumerRefused
from runnerd.store.calls import JobCall, JobOutcome, JobResult
from tests.support.calls import job_call
from tests.support.virtual_time import EPOCH

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
OTHER = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
HASH = "0x" + "ab" * 32
PAYLOAD = {
    "address": CONTRACT, "event": "Asked", "args": {"id": 7, "to": OTHER}, "transaction_hash": HASH, "log_index": 3,
    "block": {"number": 5, "hash": HASH},
}  # fmt: skip


def call(kind: TriggerKind = TriggerKind.LOG, **changes: Any) -> JobCall:
    """As the log producer makes one; `changes` make it another."""
    made = replace(
        job_call(12, trigger=kind),
        identity=f"log local {HASH} 3 log",
        principal="chain:local",
        payload=msgspec.json.encode(PAYLOAD).decode(),
        block=BlockRef(number=5, hash=HASH, timestamp=1_000),
    )
    return replace(made, **changes)


def result(reason: str = "42", transaction: str | None = None, **changes: Any) -> JobResult:
    """Of such a call."""
    outcome = JobOutcome.ACTED if transaction else JobOutcome.NOOP
    return JobResult(call=call(**changes), outcome=outcome, reason=reason, finished_at=EPOCH, transaction=transaction)


def test_a_log_is_answered_to_the_contract_that_wrote_it() -> None:
    """The control of all refusals below; in whatever case the address is written."""
    assert find_objection(call(), "local", CONTRACT) is None
    assert find_objection(call(), "local", CONTRACT.lower()) is None
    assert find_objection(call(TriggerKind.BLOCK, payload="{}"), "local", OTHER) is None


@pytest.mark.parametrize("kind", [kind for kind in TriggerKind if kind not in (TriggerKind.LOG, TriggerKind.BLOCK)])
def test_whoever_is_no_chain_gets_no_answer(kind: TriggerKind) -> None:
    """With the very payload, identity and block of a log: a webhook or a command can bring these."""
    assert f"it came by {kind}" in (find_objection(call(kind), "local", CONTRACT) or "")
    assert not is_asked_by_chain(call(kind), "log")
    assert not is_asked_by_chain(call(kind), "block")


@pytest.mark.parametrize(
    "changes, is_passed_over",
    [({}, False), ({"principal": "copy of chain:local"}, True), ({"identity": "retracted x"}, True)],
)
def test_copies_and_what_takes_back_are_passed_over(changes: dict[str, Any], is_passed_over: bool) -> None:
    """Nobody expects an answer to them, so they are no dead letters either."""
    assert is_asked_by_chain(call(**changes), "log") != is_passed_over


@pytest.mark.parametrize("changes, chain, contract, why", [
    ({}, "local", OTHER, f"it came from {CONTRACT}, and the action is of {OTHER}"),
    ({}, "mainnet", CONTRACT, "it came from chain:local, and its vault is on chain mainnet"),
    ({"principal": "key:shop"}, "local", CONTRACT, "it came from key:shop"),
    ({"payload": "no json"}, "local", CONTRACT, "it came from None"),
    ({"payload": "[]"}, "local", CONTRACT, "it came from None"),
    ({"identity": f"retracted log local {HASH} 3 log"}, "local", CONTRACT, "it came by log"),
    ({"payload": msgspec.json.encode({**PAYLOAD, "retracted": True}).decode()}, "local", CONTRACT, "it came by log"),
    ({"principal": "copy of chain:local"}, "local", CONTRACT, "it came from copy of chain:local"),
])  # fmt: skip
def test_another_contract_another_chain_and_what_was_taken_back_get_none(
    changes: dict[str, Any], chain: str, contract: str, why: str
) -> None:
    """Each with its reason."""
    assert why in (find_objection(call(**changes), chain, contract) or "")


def test_every_part_of_the_call_and_its_result_can_be_an_argument() -> None:
    """With its own type; what does not begin with $ is itself."""
    arguments: dict[str, Value] = {
        "a": "$call.id", "b": "$block.number", "c": "$block.hash", "d": "$block.timestamp", "e": "$log.address",
        "f": "$log.index", "g": "$log.transaction_hash", "h": "$log.args.id", "i": "$log.args.to",
        "j": "$result.outcome", "k": "$result.is_acted", "l": "$result.reason", "m": "$result.integer",
        "n": "$result.transaction", "o": 5, "p": ["x", True],
    }  # fmt: skip
    assert build_answer("answer", arguments, result("-42")).args == {
        "a": 12, "b": 5, "c": HASH, "d": 1_000, "e": CONTRACT, "f": 3, "g": HASH, "h": 7, "i": OTHER, "j": "noop",
        "k": False, "l": "-42", "m": -42, "n": NO_TRANSACTION, "o": 5, "p": ["x", True],
    }  # fmt: skip
    acted = build_answer("answer", {"k": "$result.is_acted", "n": "$result.transaction"}, result("in", HASH))
    assert acted.args == {"k": True, "n": HASH}


@pytest.mark.parametrize("argument, given", [
    ("$log.args.absent", {}), ("$log.args.id", {"payload": '{"args":null}'}), ("$log.index", {"payload": "{}"}),
    ("$block.hash", {"block": None}), ("$result.integer", {"reason": "forty-two"}),
    ("$result.integer", {"reason": "4" * 200}), ("$result.integer", {"reason": "\u0664"}), ("$result.else", {}),
    ("$log.args.id", {"payload": '{"args":{"id":1.5}}'}),
])  # fmt: skip
def test_a_part_that_is_not_there_is_refused(argument: str, given: dict[str, Any]) -> None:
    """The call is named; nothing is made up in its place."""
    with pytest.raises(ConsumerRefused):
        build_answer("answer", {"a": argument}, result(**given))


@pytest.mark.parametrize("text, kind, is_known", [
    ("$log.args.id", "log", True), ("$log.args.", "log", False), ("$log.args.id", "block", False),
    ("$log.address", "block", False), ("$block.hash", "block", True), ("$result.integer", "log", True),
    ("$call.payload", "log", False), ("$", "log", False),
])  # fmt: skip
def test_what_a_configuration_may_name(text: str, kind: Literal["log", "block"], is_known: bool) -> None:
    """A block has no log in it."""
    assert (reference_problem(text, kind) is None) == is_known

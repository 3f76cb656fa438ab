"""The stranger's simulation, purely: who asks, and what each answer means for a keeper's call."""

import pytest

from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.simulate import CallMessage
from runnerd.chain.types import Block
from runnerd.executor.intent import observe
from runnerd.executor.observation import Finish, SimulationReverted
from runnerd.executor.stranger import build_stranger, judge_stranger
from runnerd.executor.wanted import IntentState
from runnerd.store.calls import JobOutcome
from tests.executor.test_intent import NOW, PLANNED, RULES

KEEPER = "0x" + "Ab" * 20
FEED = "0x" + "cd" * 20
BLOCK = Block(number=7, hash="0x" + "00" * 32, timestamp=1, gas_limit=30_000_000, base_fee_wei=1)
MESSAGE = CallMessage(sender=KEEPER, to=FEED, data=b"\x01\x02\x03\x04")


def asked() -> dict[str, JsonValue]:
    """The call in the request."""
    method, (call, _) = build_stranger(BLOCK, MESSAGE)
    assert method == "eth_call"
    assert isinstance(call, dict)
    return dict(call)


def test_the_same_call_is_made_from_an_address_that_is_new_each_time() -> None:
    """An address that stays could be given a right, or be recognised."""
    first, second = asked(), asked()
    assert len({first["from"], second["from"], KEEPER}) == 3
    assert {key: first[key] for key in first if key != "from"} == {"to": FEED, "data": "0x01020304", "value": "0x0"}


def test_what_succeeds_for_a_stranger_may_be_signed() -> None:
    """Whatever it returns."""
    assert judge_stranger(BLOCK, KEEPER, "0x", ()) is None


def test_what_reverts_for_a_stranger_is_refused_with_both_facts() -> None:
    """The intent is denied then, as by a policy: it has not failed."""
    verdict = judge_stranger(BLOCK, KEEPER, RpcRefused(3, "execution reverted: not the keeper"), ())
    assert isinstance(verdict, SimulationReverted)
    assert (verdict.block, verdict.is_privileged, verdict.is_breach, verdict.is_refusal) == (7, True, False, True)
    assert verdict.reason.startswith(
        f"not permissionless: it succeeds for the keeper {KEEPER} and reverts for a stranger: "
    )
    intent, effects = observe(PLANNED, verdict, NOW, RULES)
    assert intent.state is IntentState.DENIED
    assert effects == (Finish(JobOutcome.DENIED, f"simulation at block 7: {verdict.reason}"),)


def test_a_node_that_did_not_run_it_proves_nothing() -> None:
    """Neither for nor against: it is asked again."""
    with pytest.raises(RpcRefused):
        judge_stranger(BLOCK, KEEPER, RpcRefused(-32005, "rate limit"), ())

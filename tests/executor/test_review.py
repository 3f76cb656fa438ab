"""What a former process planned, looked at again: it is signed only if today's configuration comes to the same."""

from dataclasses import replace
from typing import Any

import pytest

from protocol.actions import Act, Action, Noop
from protocol.codec import encode_outcome
from runnerd.chain.vaults.erc7821 import Erc7821Vault
from runnerd.config.grants import ActionGrant, ArgumentLimit
from runnerd.config.model import VaultConfig
from runnerd.config.plugins import BudgetConfig
from runnerd.executor.draft import Grant
from runnerd.executor.policy import Approved, Circumstances, judge
from runnerd.executor.review import find_objection
from runnerd.executor.wanted import Intent
from runnerd.executor.windows import Measure
from runnerd.vaults.catalogue import build_catalogue
from tests.support.virtual_time import EPOCH

MARKET, OTHER = "0x" + "11" * 20, "0x" + "12" * 20
VAULT, WALLET = "0x" + "22" * 20, "0x" + "33" * 20
INTENT_ID = b"\x07" * 32
MOVED = Erc7821Vault(address=MARKET, operator=WALLET)
DECISION = Act(actions=(Action("mint", {"strike": 500}, 10),))


def grant(*, spent: int = 0, budget: int = 100, max_actions: int = 8, **action: Any) -> Grant:
    """A vault that grants one action."""
    options: dict[str, Any] = {"contract": MARKET, "function": "mint(uint256 strike) payable", "max_value_wei": 50}
    config = VaultConfig(
        chain="local", address=VAULT, wallet="hot", max_value_wei_per_day=budget, max_actions=max_actions,
        actions={"mint": ActionGrant(**{**options, **action})},
    )  # fmt: skip
    return Grant(
        vault="main",
        chain_id=1,
        wallet=WALLET,
        catalogue=build_catalogue("main", config),
        adapter=Erc7821Vault(address=VAULT, operator=WALLET),
        circumstances=Circumstances(
            plugin="alpha", budget=BudgetConfig(), used=lambda meter: spent if meter.measure is Measure.VALUE else 0,
            caps=None, on_the_way_wei=0,
        ),
    )  # fmt: skip


def planned(decision: Act = DECISION) -> Intent:
    """As it was planned under `grant()`."""
    then = grant()
    approved = judge(decision.actions, then.catalogue, then.circumstances)
    assert isinstance(approved, Approved)
    return Intent(
        call_id=1, plugin="alpha", vault="main", chain_id=1, wallet=WALLET, target=VAULT,
        calldata=then.adapter.build(approved.calls, INTENT_ID).data, value_wei=approved.value_wei, deadline_at=EPOCH,
    )  # fmt: skip


def objection(intent: Intent, today: Grant, decision: str | None = encode_outcome(DECISION)) -> str | None:
    """Of today's configuration."""
    return find_objection(intent, decision, INTENT_ID, today)


def test_intent_that_is_granted_as_it_was_may_be_signed() -> None:
    """Also when it takes the very last of the budget, and when a limit was only widened."""
    assert objection(planned(), grant()) is None
    assert objection(planned(), grant(spent=90)) is None
    assert objection(planned(), grant(max_value_wei=99)) is None


@pytest.mark.parametrize(
    "today, reason",
    [
        (replace(grant(), wallet=MARKET), f"its wallet was {WALLET}, it is {MARKET} now"),
        (replace(grant(), chain_id=2), "its chain was 1, it is 2 now"),
        (
            replace(grant(), adapter=Erc7821Vault(address=MARKET, operator=WALLET)),
            f"its vault's address was {VAULT}, it is {MARKET} now",
        ),
        (grant(max_value_wei=9), "action 1 (mint): value_wei = 10 is above max_value_wei = 9"),
        (grant(limits={"strike": ArgumentLimit(max=499)}), "action 1 (mint): strike = 500 is above max = 499"),
        (
            grant(spent=91),
            "10 wei on top of 91 in the last 24 hours is above max_value_wei_per_day = 100 of vault main",
        ),
        (grant(contract=OTHER), "the catalogue makes other calls of its Decision now"),
        (grant(function="mint(int256 strike) payable"), "the catalogue makes other calls of its Decision now"),
    ],
    ids=["wallet", "chain", "vault", "value", "limit", "budget", "contract", "function"],
)
def test_intent_of_another_configuration_is_objected_to(today: Grant, reason: str) -> None:
    """Each thing that the operator may have changed while runnerd was down."""
    assert objection(planned(), today) == reason


def test_action_that_is_granted_no_more_is_objected_to() -> None:
    """The catalogue says what is, instead."""
    renamed = encode_outcome(Act(actions=(Action("burn", {"strike": 500}, 10),)))
    assert objection(planned(), grant(), renamed) == (
        "action 1 (burn) is not in the catalogue of vault main; granted: mint"
    )


@pytest.mark.parametrize(
    "decision, reason",
    [
        (None, "its Decision is not in the ledger"),
        (encode_outcome(Noop("quiet")), "its Decision asks for nothing"),
        ("{}", "its Decision cannot be read: "),
    ],
    ids=["missing", "noop", "broken"],
)
def test_intent_without_its_decision_is_objected_to(decision: str | None, reason: str) -> None:
    """Nothing that cannot be judged is signed."""
    assert (objection(planned(), grant(), decision) or "").startswith(reason)

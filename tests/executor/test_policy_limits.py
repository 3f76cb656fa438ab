"""Sums, address lists, budgets and the vault's own caps: what each lets through to the last unit, and what it says."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.actions import Action
from runnerd.chain.abi import parse_function
from runnerd.chain.vault_caps import VaultCaps
from runnerd.config.grants import ActionGrant, ArgumentLimit
from runnerd.config.model import VaultConfig
from runnerd.config.plugins import BudgetConfig
from runnerd.executor.budget import plugin_rules, vault_rules, wallet_rules
from runnerd.executor.policy import Approved, Circumstances, Denied, judge, judge_gas
from runnerd.executor.windows import DAY_S, HOUR_S, Measure, Meter, Use
from runnerd.vaults.catalogue import Catalogue, build_catalogue

MARKET, OTHER = "0x" + "11" * 20, "0x" + "12" * 20
FRIEND, FOE = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512", "0x5FbDB2315678afecb367f032d93F642f64180aa3"
LISTS = {"friends": (FRIEND,), "foes": (FOE,)}
FUNCTION = "pay(int256 amount, uint256[] parts, address to) payable"
SELECTOR = parse_function(FUNCTION).selector
AMOUNT = ("argument", "main", "pay", "amount")
PARTS = ("argument", "main", "pay", "parts")


def catalogue(limits: Mapping[str, ArgumentLimit] | None = None, **vault: Any) -> Catalogue:
    """One action with these limits."""
    options = {"max_value_wei_per_day": 10**9, **vault}
    grant = ActionGrant(contract=MARKET, function=FUNCTION, max_value_wei=10**9, limits=dict(limits or {}))
    config = VaultConfig(chain="local", address=OTHER, wallet="hot", actions={"pay": grant}, **options)
    return build_catalogue("main", config, LISTS)


def pay(amount: Any = 1, parts: Any = (), to: str = FRIEND, value_wei: int = 0) -> Action:
    """The action."""
    return Action("pay", {"amount": amount, "parts": list(parts), "to": to}, value_wei)


def verdict(
    actions: list[Action],
    granted: Catalogue,
    *,
    used: Mapping[Meter, int] | None = None,
    caps: VaultCaps | None = None,
    on_the_way_wei: int = 0,
    budget: Mapping[str, int] | None = None,
) -> str | None:
    """Why they are denied, or None."""
    sums = used or {}
    circumstances = Circumstances(
        plugin="alpha", budget=BudgetConfig(**budget or {}), used=lambda meter: sums.get(meter, 0), caps=caps,
        on_the_way_wei=on_the_way_wei,
    )  # fmt: skip
    judgement = judge(actions, granted, circumstances)
    return judgement.reason if isinstance(judgement, Denied) else None


# --- sums of arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit, actions, used, reason",
    [
        ({"max_per_call": 10}, [pay(10)], {}, None),
        ({"max_per_call": 10}, [pay(11)], {}, "action 1 (pay): amount: 11 in one decision is above max_per_call = 10"),
        ({"max_per_call": 10}, [pay(6), pay(5)], {},
         "action 2 (pay): amount: 11 in one decision is above max_per_call = 10"),
        ({"max_per_call": 10}, [pay(6), pay(-5)], {},
         "action 2 (pay): amount: 11 in one decision is above max_per_call = 10"),
        ({"max_per_hour": 10}, [pay(3)], {Meter(Measure.ARGUMENT, AMOUNT, HOUR_S): 7}, None),
        ({"max_per_hour": 10}, [pay(4)], {Meter(Measure.ARGUMENT, AMOUNT, HOUR_S): 7},
         "action 1 (pay): amount: 4 on top of 7 in the last hour is above max_per_hour = 10"),
        ({"max_per_hour": 10}, [pay(4)], {Meter(Measure.ARGUMENT, AMOUNT, DAY_S): 70}, None),
        ({"max_per_day": 10}, [pay(2), pay(2)], {Meter(Measure.ARGUMENT, AMOUNT, DAY_S): 7},
         "action 2 (pay): amount: 4 on top of 7 in the last 24 hours is above max_per_day = 10"),
        ({"max_per_day": 10}, [pay(2)], {Meter(Measure.ARGUMENT, PARTS, DAY_S): 10}, None),
        ({"max_per_day": 10}, [pay(0)], {Meter(Measure.ARGUMENT, AMOUNT, DAY_S): 11}, None),
        ({"max_per_day": 10}, [pay(True)], {}, "action 1 (pay): amount = True is not an integer, and has limits"),
    ],
)  # fmt: skip
def test_sums_of_an_argument(
    limit: dict[str, Any], actions: list[Action], used: dict[Meter, int], reason: str | None
) -> None:
    """The limit itself passes. A negative number counts by its magnitude: it frees nothing."""
    assert verdict(actions, catalogue({"amount": ArgumentLimit(**limit)}), used=used) == reason


def test_items_of_a_list_count_together() -> None:
    """Splitting an amount helps nobody."""
    granted = catalogue({"parts": ArgumentLimit(max=5, max_per_call=9)})
    assert verdict([pay(parts=[5, 4])], granted) is None
    assert verdict([pay(parts=[5, 4, 1])], granted) == (
        "action 1 (pay): parts: 10 in one decision is above max_per_call = 9"
    )


@given(st.lists(st.tuples(st.integers(-50, 50), st.lists(st.integers(0, 50), max_size=4)), min_size=1, max_size=4))
def test_uses_are_the_sums_of_magnitudes(amounts: list[tuple[int, list[int]]]) -> None:
    """One for each argument with a rolling limit, and none for the others."""
    limits = {"amount": ArgumentLimit(max_per_day=10_000), "parts": ArgumentLimit(max_per_call=10_000)}
    actions = [pay(amount, parts, value_wei=2) for amount, parts in amounts]
    circumstances = Circumstances(
        plugin="alpha", budget=BudgetConfig(), used=lambda _: 0, caps=None, on_the_way_wei=0
    )  # fmt: skip
    approved = judge(actions, catalogue(limits), circumstances)
    assert isinstance(approved, Approved)
    total = sum(abs(amount) for amount, _ in amounts)
    moved = [Use(measure=Measure.ARGUMENT, amount=total, action="pay", argument="amount")] if total else []
    assert list(approved.uses) == [
        *moved, Use(measure=Measure.VALUE, amount=2 * len(amounts)), Use(measure=Measure.TRANSACTIONS, amount=1)
    ]  # fmt: skip


# --- address lists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit, to, reason",
    [
        ({"in_list": "friends"}, FRIEND, None),
        ({"in_list": "friends"}, FRIEND.lower(), None),
        ({"in_list": "friends"}, FOE, f"to = {FOE} is not in address list friends (in_list)"),
        ({"not_in_list": "foes"}, FRIEND, None),
        ({"not_in_list": "foes"}, FOE, f"to = {FOE} is in address list foes (not_in_list)"),
        ({"not_in_list": "foes"}, FOE.lower(), f"to = {FOE.lower()} is in address list foes (not_in_list)"),
        ({"in_list": "foes", "not_in_list": "foes"}, FOE, f"to = {FOE} is in address list foes (not_in_list)"),
    ],
)
def test_address_lists(limit: dict[str, Any], to: str, reason: str | None) -> None:
    """Without regard to case; both lists hold."""
    found = verdict([pay(to=to)], catalogue({"to": ArgumentLimit(**limit)}))
    assert found == (f"action 1 (pay): {reason}" if reason else None)


# --- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["plugin alpha", "vault main"])
@pytest.mark.parametrize(
    "key, measure, window_s, reason",
    [
        ("max_value_wei_per_day", Measure.VALUE, DAY_S, "3 wei on top of 8 in the last 24 hours is above"),
        ("max_transactions_per_hour", Measure.TRANSACTIONS, HOUR_S, "1 transactions on top of 10 in the last hour is"),
        (
            "max_transactions_per_day",
            Measure.TRANSACTIONS,
            DAY_S,
            "1 transactions on top of 10 in the last 24 hours is",
        ),
    ],
)
def test_budget_of_a_plugin_and_of_a_vault(whose: str, key: str, measure: Measure, window_s: int, reason: str) -> None:
    """Each is counted by itself: what another plugin took of the vault is not this plugin's."""
    scope, name = whose.split()
    mine: dict[str, Any] = {key: 10}
    other: dict[str, Any] = {key: 1_000}
    granted = catalogue(**(mine if scope == "vault" else other))
    budget = mine if scope == "plugin" else other
    meter = Meter(measure, (scope, name), window_s)
    before = 8 if measure is Measure.VALUE else 10
    fits = 7 if measure is Measure.VALUE else 9
    assert verdict([pay(value_wei=3)], granted, used={meter: fits}, budget=budget) is None
    found = verdict([pay(value_wei=3)], granted, used={meter: before}, budget=budget)
    assert found is not None
    assert found.startswith(reason)
    assert found.endswith(f"{key} = 10 of {whose}")


def test_a_budget_of_zero_is_a_budget() -> None:
    """Not the absence of one; what takes nothing of it passes."""
    assert verdict([pay(value_wei=1)], catalogue(), budget={"max_value_wei_per_day": 0}) is not None
    assert verdict([pay()], catalogue(), budget={"max_value_wei_per_day": 0}) is None
    assert verdict([pay()], catalogue(), budget={"max_transactions_per_day": 0}) is not None


@pytest.mark.parametrize(
    "meter, of",
    [
        (Meter(Measure.GAS, ("plugin", "alpha"), DAY_S), "plugin alpha"),
        (Meter(Measure.GAS, ("vault", "main"), DAY_S), "vault main"),
        (Meter(Measure.GAS, ("wallet", "1", OTHER), DAY_S), f"wallet {OTHER}"),
    ],
)
def test_gas_is_judged_by_itself(meter: Meter, of: str) -> None:
    """When a transaction is about to be signed; no other rule is asked then."""
    budget = BudgetConfig(max_gas_wei_per_day=100, max_value_wei_per_day=0, max_transactions_per_day=0)
    granted = catalogue(max_gas_wei_per_day=100, max_transactions_per_day=0)
    rules = (*plugin_rules("alpha", budget), *vault_rules(granted), *wallet_rules(1, OTHER, 100))
    assert judge_gas(100, rules, lambda _: 0) is None
    assert judge_gas(10, rules, lambda one: 91 if one == meter else 0) == (
        f"10 wei for gas on top of 91 in the last 24 hours is above max_gas_wei_per_day = 100 of {of}"
    )


# --- what the vault itself allows ------------------------------------------------------------------------------------

CAPS = VaultCaps(
    block_number=7, day=20_000, is_paused=False, max_per_transaction_wei=1_000, max_per_day_wei=5_000,
    spent_today_wei=4_000, refused=frozenset(), executed=frozenset(),
)  # fmt: skip


@pytest.mark.parametrize(
    "caps, values, on_the_way, reason",
    [
        (CAPS, [1_000], 0, None),
        (CAPS, [400, 600], 0, None),
        (CAPS, [0], 10**9, None),
        (replace(CAPS, spent_today_wei=9_000), [0], 0, None),
        (replace(CAPS, is_paused=True), [0], 0, "the vault is paused on chain (paused)"),
        (replace(CAPS, refused=frozenset({(MARKET, SELECTOR)})), [0], 0,
         f"action 1 (pay): vault does not allow 0x{SELECTOR.hex()} of {MARKET} (isAllowed)"),
        (replace(CAPS, refused=frozenset({(OTHER, SELECTOR), (MARKET, b"\0\0\0\0")})), [0], 0, None),
        (CAPS, [2_000], 0,
         "action 1 (pay): vault allows 1000 wei in one transaction (maxPerTransaction), asked 2000"),
        (CAPS, [600, 401], 0,
         "action 2 (pay): vault allows 1000 wei in one transaction (maxPerTransaction), asked 1001"),
        (CAPS, [600], 401,
         ("vault allows 5000 wei in one day (maxPerDay), asked 600 "
          "on top of 4000 spent (spentToday) and 401 on the way")),
    ],
)  # fmt: skip
def test_caps_of_the_vault_itself(caps: VaultCaps, values: list[int], on_the_way: int, reason: str | None) -> None:
    """A breach is refused here, before it costs gas; to the last wei as the contract has it."""
    actions = [pay(value_wei=value) for value in values]
    assert verdict(actions, catalogue(), caps=caps, on_the_way_wei=on_the_way) == reason


def test_unreadable_caps_deny_nothing() -> None:
    """The simulation is asked in any case."""
    assert verdict([pay(value_wei=2_000)], catalogue(), caps=None) is None

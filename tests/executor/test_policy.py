"""The pure judgement of Actions: each rule refuses what it should, lets through what it should, and says why."""

from typing import Any

import pytest

from protocol.actions import Action
from protocol.values import PlainValue
from runnerd.chain.abi import encode_call, parse_function
from runnerd.chain.vault import Call
from runnerd.config.grants import ActionGrant, ArgumentLimit
from runnerd.config.model import VaultConfig
from runnerd.config.plugins import BudgetConfig
from runnerd.executor import policy
from runnerd.executor.policy import Approved, Circumstances, Denied
from runnerd.executor.windows import Measure, Meter
from runnerd.vaults.catalogue import Catalogue, build_catalogue

MARKET = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
FRIEND = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
STRANGER = "0x" + "99" * 20
MINT = "mintBinary(uint256 strike, bool above) payable"
PAY = "pay(address to, uint256[] amounts, bytes4 tag)"
SPREAD = "spread(int256[][] steps)"


def catalogue(*, max_actions: int = 3, per_day: int = 1_000, **limits: ArgumentLimit) -> Catalogue:
    """Three actions; `limits` are those of `mint` and `pay`, by argument."""
    mint = {name: limit for name, limit in limits.items() if name in ("strike", "above")}
    pay = {name: limit for name, limit in limits.items() if name in ("to", "amounts", "tag")}
    steps = {name: limit for name, limit in limits.items() if name == "steps"}
    return build_catalogue(
        "main",
        VaultConfig(
            chain="dev",
            address=MARKET,
            wallet="hot",
            max_actions=max_actions,
            max_value_wei_per_day=per_day,
            actions={
                "mint": ActionGrant(contract=MARKET, function=MINT, max_value_wei=600, limits=mint),
                "pay": ActionGrant(contract=FRIEND, function=PAY, limits=pay),
                "spread": ActionGrant(contract=FRIEND, function=SPREAD, limits=steps),
            },
        ),
    )


def judge(actions: list[Action], granted: Catalogue, spent_wei: int, **budget: int) -> Approved | Denied:
    """By plugin alpha, when the vault has spent this much and nothing else was used."""

    def used(meter: Meter) -> int:
        return spent_wei if (meter.measure, meter.of) == (Measure.VALUE, ("vault", "main")) else 0

    circumstances = Circumstances(plugin="alpha", budget=BudgetConfig(**budget), used=used, caps=None, on_the_way_wei=0)
    return policy.judge(actions, granted, circumstances)


def mint(strike: PlainValue = 100, above: PlainValue = True, value_wei: int = 0) -> Action:
    """An action that any catalogue here allows."""
    return Action("mint", {"strike": strike, "above": above}, value_wei)


def pay(to: str = FRIEND, amounts: Any = (), tag: str = "0x01020304") -> Action:
    """Another, with an address, a list and bytes."""
    return Action("pay", {"to": to, "amounts": list(amounts), "tag": tag})


def denial(action: Action, granted: Catalogue) -> str | None:
    """Why a Decision of one action is denied, or None."""
    judgement = judge([action], granted, 0)
    return judgement.reason if isinstance(judgement, Denied) else None


def test_approved_actions_become_calls_in_order() -> None:
    """To the granted contract, with the value, encoded by the granted fragment."""
    judgement = judge([mint(7, False, 5), pay(amounts=[1, 2]), mint(8, True, 6)], catalogue(), 0)
    assert isinstance(judgement, Approved)
    data = encode_call(parse_function(MINT), {"strike": 7, "above": False})
    assert judgement.calls[0] == Call(to=MARKET, value_wei=5, data=data)
    assert [call.to for call in judgement.calls] == [MARKET, FRIEND, MARKET]
    assert judgement.value_wei == 11


def test_unknown_action_is_denied_with_what_is_granted() -> None:
    """Only what the owner granted can be asked for."""
    assert denial(Action("withdraw"), catalogue()) == (
        "action 1 (withdraw) is not in the catalogue of vault main; granted: mint, pay, spread"
    )


def test_one_bad_action_denies_the_whole_decision() -> None:
    """All or nothing, and the denial names which of them."""
    judgement = judge([mint(), mint(), Action("withdraw")], catalogue(), 0)
    assert isinstance(judgement, Denied)
    assert judgement.reason.startswith("action 3 (withdraw) is not in the catalogue")


def test_too_many_actions_are_denied() -> None:
    """As many as the vault allows pass."""
    assert isinstance(judge([mint()] * 3, catalogue(), 0), Approved)
    assert judge([mint()] * 4, catalogue(), 0) == Denied("4 actions in one decision, vault main allows 3")


@pytest.mark.parametrize(
    "value_wei, reason", [(600, None), (601, "action 1 (mint): value_wei = 601 is above max_value_wei = 600")]
)
def test_value_of_one_action_is_capped(value_wei: int, reason: str | None) -> None:
    """The cap itself is allowed."""
    assert denial(mint(value_wei=value_wei), catalogue()) == reason


def test_value_needs_a_payable_function() -> None:
    """A grant cannot raise the cap of one that is not (config.check refuses it); here it is refused once more."""
    granted = catalogue()
    entry = granted.actions["pay"]
    object.__setattr__(entry, "max_value_wei", 10)
    action = Action("pay", {"to": FRIEND, "amounts": [], "tag": "0x01020304"}, 1)
    expected = "action 1 (pay): value_wei = 1, but pay(address,uint256[],bytes4) is not payable"
    assert denial(action, granted) == expected


@pytest.mark.parametrize(
    "spent, values, reason",
    [
        (0, [500, 500], None),
        (999, [1], None),
        (1_000, [0], None),
        (2_000, [], None),
        (
            600,
            [300, 101],
            "401 wei on top of 600 in the last 24 hours is above max_value_wei_per_day = 1000 of vault main",
        ),
        (1_000, [1], "1 wei on top of 1000 in the last 24 hours is above max_value_wei_per_day = 1000 of vault main"),
    ],
    ids=["exactly", "exactly, on top", "no value", "nothing to send", "two together", "one above"],
)
def test_value_of_a_day_is_capped_over_all_decisions(spent: int, values: list[int], reason: str | None) -> None:
    """The actions of one Decision count together, on top of what was spent."""
    judgement = judge([mint(value_wei=value) for value in values], catalogue(), spent)
    assert (judgement.reason if isinstance(judgement, Denied) else None) == reason


# --- limits of arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strike, reason",
    [
        (10, None),
        (20, None),
        (9, "strike = 9 is below min = 10"),
        (21, "strike = 21 is above max = 20"),
        ((1 << 256) - 1, f"strike = {(1 << 256) - 1} is above max = 20"),
        (True, "strike = True is not an integer, and has limits"),
        ("15", "strike = 15 is not an integer, and has limits"),
        ("0x0f", "strike = 0x0f is not an integer, and has limits"),
    ],
)
def test_integer_limits(strike: PlainValue, reason: str | None) -> None:
    """Both bounds are allowed. Text and booleans never pass as numbers, whatever the codec might make of them."""
    granted = catalogue(strike=ArgumentLimit(min=10, max=20))
    assert denial(mint(strike), granted) == (f"action 1 (mint): {reason}" if reason else None)


@pytest.mark.parametrize(
    "limit, strike, is_allowed",
    [
        (ArgumentLimit(min=0), 0, True),
        (ArgumentLimit(max=0), 0, True),
        (ArgumentLimit(max=0), 1, False),
        (ArgumentLimit(min=1), 0, False),
    ],
)
def test_a_limit_of_zero_is_a_limit(limit: ArgumentLimit, strike: int, is_allowed: bool) -> None:
    """Not the absence of one."""
    assert (denial(mint(strike), catalogue(strike=limit)) is None) is is_allowed


@pytest.mark.parametrize(
    "amounts, reason",
    [
        ([1, 5], None),
        ([], None),
        ([1, 6], "amounts = 6 is above max = 5"),
        ([6, 0], "amounts = 6 is above max = 5"),
        ([1, True], "amounts = True is not an integer, and has limits"),
    ],
)
def test_limits_hold_for_each_item_of_a_list(amounts: list[int], reason: str | None) -> None:
    """One item beyond is enough."""
    granted = catalogue(amounts=ArgumentLimit(min=0, max=5))
    assert denial(pay(amounts=amounts), granted) == (f"action 1 (pay): {reason}" if reason else None)


def test_limits_hold_inside_lists_of_lists() -> None:
    """However deep the argument is."""
    granted = catalogue(steps=ArgumentLimit(min=-5, max=5))
    assert denial(Action("spread", {"steps": [[-5, 5], []]}), granted) is None
    assert denial(Action("spread", {"steps": [[0], [0, -6]]}), granted) == (
        "action 1 (spread): steps = -6 is below min = -5"
    )


@pytest.mark.parametrize("to", [FRIEND, FRIEND.lower(), "0x" + FRIEND[2:].upper()])
def test_address_list_ignores_case(to: str) -> None:
    """A checksummed, a lower-case and an upper-case address are one address."""
    assert denial(pay(to=to), catalogue(to=ArgumentLimit(one_of=(FRIEND,)))) is None
    assert denial(pay(to=to), catalogue(to=ArgumentLimit(one_of=(FRIEND.lower(),)))) is None


def test_address_that_is_not_listed_is_denied() -> None:
    """With the value and the list."""
    expected = f"action 1 (pay): to = {STRANGER} is not one of ['{FRIEND}']"
    assert denial(pay(to=STRANGER), catalogue(to=ArgumentLimit(one_of=(FRIEND,)))) == expected


@pytest.mark.parametrize(
    "allowed, strike, is_allowed",
    [((1, 2), 2, True), ((1, 2), 3, False), ((1,), True, False), ((True,), 1, False), ((0,), False, False)],
)
def test_one_of_compares_type_and_value(allowed: tuple[Any, ...], strike: PlainValue, is_allowed: bool) -> None:
    """In Python 1 == True; in a catalogue it is not."""
    reason = denial(mint(strike), catalogue(strike=ArgumentLimit(one_of=allowed)))
    assert (reason is None) is is_allowed
    assert is_allowed or "is not one of" in str(reason)


def test_booleans_can_be_listed() -> None:
    """A grant for one side only."""
    granted = catalogue(above=ArgumentLimit(one_of=(True,)))
    assert denial(mint(above=True), granted) is None
    assert denial(mint(above=False), granted) == "action 1 (mint): above = False is not one of ['True']"


def test_one_of_and_range_both_hold() -> None:
    """A value must pass each limit that is there."""
    granted = catalogue(strike=ArgumentLimit(one_of=(5, 50), max=10))
    assert denial(mint(5), granted) is None
    assert denial(mint(50), granted) == "action 1 (mint): strike = 50 is above max = 10"


@pytest.mark.parametrize(
    "args, part",
    [
        ({"strike": 15}, "above"),
        ({"strike": 15, "above": True, "more": 1}, "more"),
        ({"strike": -1, "above": True}, "strike"),
        ({"strike": 1 << 255, "above": 2}, "above"),
        ({"strike": [1], "above": True}, "strike"),
    ],
    ids=["missing", "unknown", "negative", "no boolean", "list"],
)
def test_arguments_that_do_not_fit_the_fragment_are_denied(args: dict[str, Any], part: str) -> None:
    """By name, before anything is encoded."""
    reason = denial(Action("mint", args), catalogue())
    assert reason is not None
    assert reason.startswith("action 1 (mint): ")
    assert part in reason


def test_limited_argument_cannot_be_left_out() -> None:
    """A limit is not passed by sending nothing."""
    reason = denial(Action("mint", {"above": True}), catalogue(strike=ArgumentLimit(min=10)))
    assert reason is not None
    assert "strike" in reason


def test_long_value_is_cut_in_the_reason() -> None:
    """A line of the ledger, not a dump."""
    reason = denial(pay(tag="0x" + "ab" * 4_000), catalogue(tag=ArgumentLimit(one_of=("0x01020304",))))
    assert reason is not None
    assert len(reason) < 200

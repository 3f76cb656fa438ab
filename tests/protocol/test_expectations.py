"""What may be expected of a Decision's effects: built with early errors, and refused on the wire by the same rules."""

import json
from typing import Any

import pytest

from protocol.actions import Act, Action
from protocol.codec import decode_from_worker, decode_outcome, encode, encode_outcome
from protocol.errors import ProtocolError
from protocol.expectations import BalanceChange, Expectation, MinimumOut, SharePrice
from protocol.limits import (
    INT_MAX,
    INT_MIN,
    MAX_ACTIONS,
    MAX_CHANGE_BPS,
    MAX_EXPECTATIONS,
    MAX_STATE_WRITES,
    MAX_VALUES_PER_ACTION,
    MAX_VALUES_PER_EXPECTATION,
)
from protocol.messages import Decision, StatePut

TOKEN = "0x" + "c1" * 20  # an address
ACTION = Action("swap")


def frame_of(*expect: object) -> bytes:
    """A decision that expects these, as a stranger's worker may write them."""
    act = {"kind": "act", "actions": [{"name": "swap"}], "expect": list(expect)}
    return json.dumps({"type": "decision", "call_id": 1, "attempt": 1, "outcome": act}).encode()


def refused_everywhere(wire: dict[str, Any], expected: str) -> None:
    """By the class, and by the codec."""
    kinds = {"balance_change": BalanceChange, "share_price": SharePrice}
    fields = {name: value for name, value in wire.items() if name != "kind"}
    with pytest.raises(ValueError, match=expected):
        kinds[wire["kind"]](**fields)
    with pytest.raises(ProtocolError, match="not a message of this protocol"):
        decode_from_worker(frame_of(wire))


def test_lists_become_tuples_and_an_act_that_expects_nothing_is_written_as_before() -> None:
    """The ledger's outcomes of older releases, and theirs of today, are the same text."""
    act = Act([ACTION], expect=[MinimumOut(5)])
    assert (act.actions, act.expect) == ((ACTION,), (BalanceChange(min=5),))
    plain = '{"kind":"act","actions":[{"name":"swap","args":{},"value_wei":0}]}'
    assert encode_outcome(Act([ACTION])) == plain
    assert decode_outcome(plain) == Act([ACTION])


def test_minimum_out_is_a_lower_bound() -> None:
    """Of native value, or of a token."""
    assert MinimumOut(7) == BalanceChange(token=None, min=7, max=None)
    assert MinimumOut(7, token=TOKEN) == BalanceChange(TOKEN, 7)


@pytest.mark.parametrize("bound", [INT_MIN, -1, 0, 2**64, INT_MAX])
def test_bounds_are_exact_at_any_size(bound: int) -> None:
    """Control: both, and one alone."""
    for expected in (BalanceChange(min=bound), BalanceChange(max=bound), BalanceChange(TOKEN, bound, bound)):
        decision = Decision(call_id=1, attempt=1, outcome=Act([ACTION], [expected]))
        assert decode_from_worker(encode(decision)) == decision


@pytest.mark.parametrize("bound", [INT_MIN - 1, INT_MAX + 1, True, 1.5, "1"], ids=repr)
@pytest.mark.parametrize("name", ["min", "max"])
def test_a_bound_that_is_none_is_refused(name: str, bound: object) -> None:
    """Whole numbers in the token's smallest units, as everywhere."""
    refused_everywhere({"kind": "balance_change", name: bound}, f"{name} must be an integer from")


def test_a_balance_change_needs_a_bound_that_can_be_met() -> None:
    """Without one it says nothing; with crossed ones it would deny everything."""
    refused_everywhere({"kind": "balance_change"}, "needs min or max")
    refused_everywhere({"kind": "balance_change", "token": TOKEN}, "needs min or max")
    refused_everywhere({"kind": "balance_change", "min": 2, "max": 1}, "min = 2 is above max = 1")
    decode_from_worker(frame_of({"kind": "balance_change", "min": 2, "max": 2}))


@pytest.mark.parametrize(
    "token", ["", "0x", "usdc", TOKEN[:-1], TOKEN + "0", TOKEN + "\n", "0x" + "g" * 40, 5], ids=repr
)
def test_a_token_is_an_address(token: object) -> None:
    """Its checksum is the supervisor's to check."""
    refused_everywhere({"kind": "balance_change", "token": token, "min": 0}, "a token is an address")


@pytest.mark.parametrize("bps", [-1, MAX_CHANGE_BPS + 1, True, 0.5, "5", None], ids=repr)
def test_a_share_price_is_bounded_in_whole_basis_points(bps: object) -> None:
    """Not less than none."""
    refused_everywhere(
        {"kind": "share_price", "read": "nav", "max_change_bps": bps}, "max_change_bps must be an integer"
    )
    for fitting in (0, MAX_CHANGE_BPS):
        decode_from_worker(frame_of({"kind": "share_price", "read": "nav", "max_change_bps": fitting}))


def test_a_share_price_names_a_read() -> None:
    """With arguments as a read has them, but few."""
    refused_everywhere({"kind": "share_price", "read": "the price", "max_change_bps": 1}, "a read's name must be")
    many = {"x": [1] * MAX_VALUES_PER_EXPECTATION}
    wire = {"kind": "share_price", "read": "nav", "max_change_bps": 1, "args": many}
    refused_everywhere(wire, f"more than {MAX_VALUES_PER_EXPECTATION} values")
    assert SharePrice("nav", 1, {"owner": b"\x01"}).args == {"owner": "0x01"}


@pytest.mark.parametrize("wire", [{"kind": "slippage"}, {}, None, {"kind": "balance_change", "min": 1, "of": "x"}])
def test_an_expectation_is_one_of_two_kinds(wire: object) -> None:
    """Nothing that a supervisor would not check is taken."""
    with pytest.raises(ProtocolError, match="not a message of this protocol"):
        decode_from_worker(frame_of(wire))


def test_what_is_no_expectation_is_refused_where_it_is_written() -> None:
    """The author reads it in the traceback."""
    with pytest.raises(ValueError, match=r"expect holds a Action; only BalanceChange\(...\), SharePrice\(...\)"):
        Act([ACTION], expect=[ACTION])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="expect must be a list"):
        Act([ACTION], expect=MinimumOut(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="actions holds a str; only Actions"):
        Act(["swap"])  # type: ignore[list-item]


def test_at_most_eight_are_taken() -> None:
    """On both sides: each costs the node two reads."""
    one = {"kind": "balance_change", "min": 1}
    decode_from_worker(frame_of(*[one] * MAX_EXPECTATIONS))
    with pytest.raises(ProtocolError, match=f"length <= {MAX_EXPECTATIONS}"):
        decode_from_worker(frame_of(*[one] * (MAX_EXPECTATIONS + 1)))
    with pytest.raises(ValueError, match=f"at most {MAX_EXPECTATIONS} expectations"):
        Act([ACTION], [MinimumOut(1)] * (MAX_EXPECTATIONS + 1))


def test_the_fullest_decision_passes_the_bounds_of_a_frame() -> None:
    """Everything at its own limit at once: the bounds on a whole frame must not refuse it."""
    actions = [Action("a", {"x": [[1] * 255, [1] * 255, [1] * 255, [1] * 251]})] * MAX_ACTIONS
    assert sum(map(len, actions[0].args["x"])) + 5 + 3 == MAX_VALUES_PER_ACTION  # type: ignore[arg-type]
    prices: list[Expectation] = [SharePrice("nav", 1, {"x": [1] * (MAX_VALUES_PER_EXPECTATION - 1)})] * MAX_EXPECTATIONS
    writes = tuple(StatePut(key=f"k{n}", value="1") for n in range(MAX_STATE_WRITES))
    decision = Decision(call_id=1, attempt=1, outcome=Act(actions, prices), state_writes=writes)
    assert decode_from_worker(encode(decision)) == decision


def test_subclasses_of_text_and_numbers_travel_as_what_they_are() -> None:
    """As in Actions."""

    class Text(str):
        __slots__ = ()

    class Number(int):
        pass

    for expected in (BalanceChange(Text(TOKEN), Number(1), Number(2)), SharePrice(Text("nav"), Number(3))):
        decision = Decision(call_id=1, attempt=1, outcome=Act([ACTION], [expected]))
        assert decode_from_worker(encode(decision)) == decision

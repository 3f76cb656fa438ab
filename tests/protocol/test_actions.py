"""Intent is checked by the same rule where a plugin makes it and where the supervisor reads it."""

import json

import pytest

from protocol.actions import Act, Action, Noop
from protocol.codec import decode_from_worker, encode
from protocol.errors import ProtocolError
from protocol.limits import INT_MAX, MAX_ACTIONS, MAX_ARGUMENTS, MAX_NAME_LENGTH, MAX_TEXT_LENGTH
from protocol.messages import Decision
from tests.protocol.strategies import acting


class Text(str):
    """Plugins build names and reasons from enums, templates, markup: text, but not exactly `str`."""

    __slots__ = ()


class Number(int):
    """The same for integers."""


def frame_of(outcome: object) -> bytes:
    """A Decision as a worker in another language could send it: nothing checked."""
    return json.dumps({"type": "decision", "call_id": 1, "attempt": 1, "outcome": outcome}).encode()


def frame_of_action(action: object) -> bytes:
    """The same, of one Action."""
    return frame_of({"kind": "act", "actions": [action]})


@pytest.mark.parametrize(
    "reason",
    [
        "",
        " ",
        "\n\t ",
        "\u00a0\u2003\u3000",  # spaces of other scripts
        "\u200b\u2060\ufeff\u00ad",  # zero-width
        "\u202e\u2066",  # direction marks
        "\x00\x07\x1b",  # controls
        "\u0301\u034f\ufe0f",  # marks that need a letter to sit on
        "\u3164\u115f\uffa0\u2800",  # letters and symbols that are drawn as nothing
        "\ue000\U000e0041",  # private use, tags
    ],
    ids=ascii,
)
def test_a_noop_whose_reason_shows_nothing_is_refused_on_both_sides(reason: str) -> None:
    """The reason is all that an operator gets of a quiet plugin."""
    with pytest.raises(ValueError, match="a reason that is not blank"):
        Noop(reason)
    with pytest.raises(ProtocolError, match="a reason that is not blank"):
        decode_from_worker(frame_of({"kind": "noop", "reason": reason}))


@pytest.mark.parametrize(
    "reason", [".", "0", "€", "市場は静か", "🙂", "\u200bok", "e\u0301", "x" * MAX_TEXT_LENGTH], ids=ascii
)
def test_a_noop_whose_reason_shows_anything_is_accepted_on_both_sides(reason: str) -> None:
    """Control: one visible character of any script is enough, and the text is kept as it is."""
    decision = Decision(call_id=1, attempt=1, outcome=Noop(reason))
    assert decode_from_worker(encode(decision)) == decision


def test_a_noop_whose_reason_is_too_long_is_refused_on_both_sides() -> None:
    """At most 500 characters."""
    reason = "x" * (MAX_TEXT_LENGTH + 1)
    with pytest.raises(ValueError, match="at most 500 characters"):
        Noop(reason)
    with pytest.raises(ProtocolError, match="length <= 500"):
        decode_from_worker(frame_of({"kind": "noop", "reason": reason}))


@pytest.mark.parametrize("reason", [None, 5, b"quiet", ["quiet"]])
def test_a_noop_whose_reason_is_no_text_is_refused(reason: object) -> None:
    """Nothing is converted by guessing."""
    with pytest.raises(ValueError, match="a reason that is not blank"):
        Noop(reason)  # type: ignore[arg-type]


def test_a_noop_that_cannot_be_utf8_is_refused_on_both_sides() -> None:
    """A lone surrogate fails where it is made, not when the answer is on its way."""
    with pytest.raises(ValueError, match="lone surrogate"):
        Noop("half \ud83d")
    with pytest.raises(ProtocolError, match="not a message of this protocol"):
        decode_from_worker(frame_of({"kind": "noop", "reason": "half \ud83d."}))


def test_an_act_without_actions_is_refused_on_both_sides() -> None:
    """Doing nothing is a Noop, and has a reason."""
    with pytest.raises(ValueError, match="return a Noop with a reason"):
        Act(actions=())
    with pytest.raises(ProtocolError, match="length >= 1"):
        decode_from_worker(frame_of({"kind": "act", "actions": []}))
    with pytest.raises(ProtocolError, match="missing required field `actions`"):
        decode_from_worker(frame_of({"kind": "act"}))


def test_an_act_with_too_many_actions_is_refused_on_both_sides() -> None:
    """At most 16, at both ends: 16 pass."""
    many = (Action("a"),) * (MAX_ACTIONS + 1)
    with pytest.raises(ValueError, match="at most 16 Actions"):
        Act(actions=many)
    with pytest.raises(ProtocolError, match="length <= 16"):
        decode_from_worker(frame_of({"kind": "act", "actions": [{"name": "a"}] * (MAX_ACTIONS + 1)}))
    enough = Decision(call_id=1, attempt=1, outcome=Act(actions=many[:MAX_ACTIONS]))
    assert decode_from_worker(encode(enough)) == enough


def test_an_outcome_is_one_of_two_kinds() -> None:
    """Neither both, nor something else."""
    outcomes: list[object] = [
        {"kind": "sell"},
        {},
        None,
        [],
        {"kind": "noop", "reason": "x", "actions": [{"name": "a"}]},
    ]
    for outcome in outcomes:
        with pytest.raises(ProtocolError, match="not a message of this protocol"):
            decode_from_worker(frame_of(outcome))


@pytest.mark.parametrize(
    "name", ["", " ", "1st", "-a", ".a", "a b", "a\n", "a\x00", "naïve", "a/b", "z" * (MAX_NAME_LENGTH + 1)], ids=ascii
)
def test_a_name_that_is_none_is_refused_on_both_sides(name: str) -> None:
    """Of an Action as of its arguments: names end up in logs, metrics and configuration keys."""
    with pytest.raises(ValueError, match="an action name must be 1 to 64 letters, digits"):
        Action(name)
    with pytest.raises(ProtocolError, match="name"):
        decode_from_worker(frame_of_action({"name": name}))
    with pytest.raises(ValueError, match="an argument name must be 1 to 64 letters, digits"):
        Action("a", {name: 1})
    with pytest.raises(ProtocolError, match="an argument name must be"):
        decode_from_worker(frame_of_action({"name": "a", "args": {name: 1}}))


@pytest.mark.parametrize("name", ["a", "_", "mint_binary", "Mint.v2-b", "z" * MAX_NAME_LENGTH])
def test_a_name_within_the_rule_is_accepted_on_both_sides(name: str) -> None:
    """Control."""
    assert decode_from_worker(frame_of_action({"name": name, "args": {name: 1}})) == Decision(
        call_id=1, attempt=1, outcome=Act(actions=(Action(name, {name: 1}),))
    )


def test_too_many_arguments_are_refused_on_both_sides() -> None:
    """At most 32, at both ends: 32 pass."""
    args = {f"a{n}": n for n in range(MAX_ARGUMENTS + 1)}
    with pytest.raises(ValueError, match="at most 32 names"):
        Action("a", args)
    with pytest.raises(ProtocolError, match="at most 32 names"):
        decode_from_worker(frame_of_action({"name": "a", "args": args}))
    args.popitem()
    decode_from_worker(encode(acting(args)))


@pytest.mark.parametrize("args", [None, [], [("a", 1)], "a", 5])
def test_arguments_that_are_no_table_are_refused(args: object) -> None:
    """By name only."""
    with pytest.raises(ValueError, match="arguments must be a table"):
        Action("a", args)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [-1, INT_MAX + 1, True, 1.0, "1", None], ids=repr)
def test_an_amount_that_is_none_is_refused_on_both_sides(amount: object) -> None:
    """Wei are whole, not negative, and fit uint256; `True` is not one wei."""
    with pytest.raises(ValueError, match=r"from 0 to 2\*\*256 - 1"):
        Action("a", {}, amount)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="value_wei"):
        decode_from_worker(frame_of_action({"name": "a", "value_wei": amount}))


def test_an_amount_at_the_bounds_is_exact() -> None:
    """Control."""
    for amount in (0, INT_MAX):
        frame = frame_of_action({"name": "a", "value_wei": amount})
        assert decode_from_worker(frame) == Decision(
            call_id=1, attempt=1, outcome=Act(actions=(Action("a", {}, amount),))
        )


def test_subclasses_of_text_and_numbers_travel_as_what_they_are() -> None:
    """The encoder knows exact types only; a plugin's enum or template must not fail after the decision is made."""
    action = Action(Text("a"), {Text("x"): Text("y"), "n": Number(5)}, Number(7))
    for outcome in (Act(actions=(action,)), Noop(Text("quiet"))):
        decision = Decision(call_id=1, attempt=1, outcome=outcome)
        assert decode_from_worker(encode(decision)) == decision
    assert {type(part) for part in (action.name, *action.args, action.args["x"])} == {str}
    assert {type(action.value_wei), type(action.args["n"])} == {int}


def test_actions_share_no_arguments() -> None:
    """Neither the default, nor the table that the plugin built them from."""
    table = {"x": [1]}
    first, second, bare, other_bare = Action("a", table), Action("a", table), Action("a"), Action("a")
    table["x"].append(2)
    first.args["y"] = 1
    bare.args["y"] = 1
    assert second.args == {"x": [1]}
    assert other_bare.args == {}


def test_an_action_cannot_be_changed() -> None:
    """What was checked is what is sent."""
    with pytest.raises(AttributeError):
        Action("a").value_wei = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Noop("quiet").reason = ""  # type: ignore[misc]

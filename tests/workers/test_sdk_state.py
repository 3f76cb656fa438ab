"""`ctx.state`: what one call sees and leaves behind, over a transport in memory."""

import asyncio
from typing import Any

import pytest

from protocol.limits import MAX_STATE_KEY_LENGTH, MAX_STATE_VALUE_LENGTH, MAX_STATE_WRITES
from protocol.messages import StateDelete, StatePut
from tests.support.aio import run_async
from workers.sdk.state import MAX_VALUE_DEPTH, BlockingState, State


class Committed:
    """The supervisor's table: JSON text by key. Remembers what was asked of it."""

    def __init__(self, **texts: str) -> None:
        self.texts = texts
        self.asked: list[tuple[object, ...]] = []

    async def fetch(self, key: str) -> str | None:
        self.asked.append(("fetch", key))
        return self.texts.get(key)

    async def compare_and_set(self, key: str, expected: str | None, value: str | None) -> bool:
        self.asked.append(("compare_and_set", key, expected, value))
        return self.texts.get(key) == expected


def got(state: State, key: str, default: Any = None) -> Any:
    """`state.get`, run to its end."""
    return run_async(state.get(key, default))


def test_get_gives_what_is_committed() -> None:
    """Decoded; an absent key gives the default, and None without one."""
    state = State(Committed(centre='{"at":[1,2]}'))
    assert got(state, "centre") == {"at": [1, 2]}
    assert got(state, "absent") is None
    assert got(state, "absent", 7) == 7


def test_get_gives_the_calls_own_put() -> None:
    """A call reads what it wrote, though nothing is committed yet; the transport is not asked."""
    committed = Committed(centre="1")
    state = State(committed)
    state.put("centre", [2])
    assert got(state, "centre") == [2]
    assert committed.asked == []
    assert committed.texts == {"centre": "1"}


def test_get_after_the_calls_own_delete_gives_the_default() -> None:
    """Though the committed value still stands."""
    state = State(Committed(centre="1"))
    state.delete("centre")
    assert got(state, "centre", "gone") == "gone"


def test_the_last_write_of_a_key_wins() -> None:
    """One write per key travels with the Decision."""
    state = State(Committed())
    state.put("a", 1)
    state.put("b", 1)
    state.delete("a")
    state.put("b", 2)
    assert state.writes == (StateDelete(key="a"), StatePut(key="b", value="2"))


def test_putting_none_removes_the_key() -> None:
    """None means absent everywhere: otherwise `get` would say None and `compare_and_set(key, None, …)` would fail."""
    state = State(Committed(centre="1"))
    state.put("centre", None)
    assert state.writes == (StateDelete(key="centre"),)
    assert got(state, "centre", "gone") == "gone"


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (False, "false"),
        ("", '""'),
        ([], "[]"),
        ({}, "{}"),
        ({"b": 1, "a": {"d": None, "c": (1, 2)}}, '{"a":{"c":[1,2],"d":null},"b":1}'),
        (2**256, str(2**256)),
        (-(2**255), str(-(2**255))),
        (1.5, "1.5"),
        ("é\U0001f600", '"é\U0001f600"'),
    ],
    ids=ascii,
)
def test_a_value_has_one_text(value: Any, text: str) -> None:
    """Keys sorted, no spaces: equal values are equal texts, which is what compare_and_set compares."""
    state = State(Committed())
    state.put("k", value)
    assert state.writes == (StatePut(key="k", value=text),)
    assert run_async(State(Committed(k=text)).compare_and_set("k", value, 1))


@pytest.mark.parametrize("value", [0, False, "", [], {}], ids=repr)
def test_a_falsy_value_is_a_value(value: Any) -> None:
    """The default is for absent keys only."""
    state = State(Committed())
    state.put("k", value)
    assert got(state, "k", "default") == value


def test_what_get_gives_is_the_callers_own() -> None:
    """Changing it, or the object that was put, changes nothing in the store."""
    state = State(Committed(old="[1]"))
    got(state, "old").append(2)
    assert got(state, "old") == [1]
    made = {"list": [1]}
    state.put("new", made)
    made["list"].append(2)
    got(state, "new")["list"].append(3)
    assert got(state, "new") == {"list": [1]}


@pytest.mark.parametrize(
    "expected, value, asked",
    [
        (None, 1, ("compare_and_set", "k", None, "1")),
        (1, None, ("compare_and_set", "k", "1", None)),
        ({"b": 1, "a": 2}, {"z": 1, "y": 2}, ("compare_and_set", "k", '{"a":2,"b":1}', '{"y":2,"z":1}')),
        (False, 0, ("compare_and_set", "k", "false", "0")),
    ],
    ids=repr,
)
def test_compare_and_set_asks_at_once(expected: Any, value: Any, asked: tuple[object, ...]) -> None:
    """None is absent, on both sides; nothing of it travels with the Decision."""
    committed = Committed()
    state = State(committed)
    run_async(state.compare_and_set("k", expected, value))
    assert committed.asked == [asked]
    assert state.writes == ()


def test_compare_and_set_looks_at_what_is_committed() -> None:
    """Not at this call's own put, which nobody else can see."""
    state = State(Committed(k="1"))
    state.put("k", 2)
    assert run_async(state.compare_and_set("k", 1, 3)) is True
    assert run_async(state.compare_and_set("k", 2, 3)) is False


@pytest.mark.parametrize("key", ["", "k" * (MAX_STATE_KEY_LENGTH + 1), None, 5, b"k", "\ud800"], ids=ascii)
def test_a_key_that_is_none_is_refused_everywhere(key: Any) -> None:
    """Before anything is sent."""
    committed = Committed()
    state = State(committed)
    with pytest.raises(ValueError, match="a state key is a string of 1 to 256"):
        state.put(key, 1)
    with pytest.raises(ValueError, match="a state key is"):
        state.delete(key)
    with pytest.raises(ValueError, match="a state key is"):
        got(state, key)
    with pytest.raises(ValueError, match="a state key is"):
        run_async(state.compare_and_set(key, None, 1))
    assert committed.asked == []
    assert state.writes == ()


def test_keys_and_values_at_the_bounds_are_accepted() -> None:
    """Control."""
    state = State(Committed())
    state.put("k" * MAX_STATE_KEY_LENGTH, "v" * (MAX_STATE_VALUE_LENGTH - 2))
    deep: Any = 1
    for _ in range(MAX_VALUE_DEPTH):
        deep = [deep]
    state.put("deep", deep)
    assert len(state.writes) == 2


class Circle(list[Any]):
    """A list that holds itself."""

    def __init__(self) -> None:
        super().__init__([self])


@pytest.mark.parametrize(
    "value, reason",
    [
        ("v" * (MAX_STATE_VALUE_LENGTH - 1), "at most 65536 characters of JSON, this one has 65537"),
        (float("nan"), "nan cannot be kept"),
        ([float("inf")], "inf cannot be kept"),
        (b"bytes", "b'bytes' cannot be kept"),
        ({"a": {1, 2}}, "cannot be kept in state; allowed: what JSON can hold"),
        (object(), "cannot be kept"),
        ({1: "a"}, "a key within a state value must be text, not 1"),
        ({None: "a"}, "a key within a state value must be text"),
        ("\ud800", "cannot be kept"),
        ({"\ud800": 1}, "a key within a state value must be text"),
        (Circle(), "nested deeper than 32"),
        (10**5000, "4300 digits"),
    ],
    ids=["long", "nan", "inf", "bytes", "set", "object", "key 1", "key None", "surrogate", "key", "circle", "digits"],
)
def test_a_value_that_would_not_come_back_is_refused(value: Any, reason: str) -> None:
    """The encoder alone would keep NaN as null and bytes as base64, and say nothing."""
    state = State(Committed())
    with pytest.raises(ValueError, match=reason):
        state.put("k", value)
    with pytest.raises(ValueError, match=reason):
        run_async(state.compare_and_set("k", None, value))
    with pytest.raises(ValueError, match=reason):
        run_async(state.compare_and_set("k", value, None))
    assert state.writes == ()


def test_a_refused_write_leaves_the_one_before() -> None:
    """A plugin may catch the error and go on."""
    state = State(Committed())
    state.put("k", 1)
    with pytest.raises(ValueError, match="cannot be kept"):
        state.put("k", object())
    assert state.writes == (StatePut(key="k", value="1"),)


def test_too_many_keys_are_refused_and_the_rest_stands() -> None:
    """256 keys per Decision; the one too many is not among them, and a written key may be written again."""
    state = State(Committed())
    for number in range(MAX_STATE_WRITES):
        state.put(f"k{number}", number)
    with pytest.raises(ValueError, match="at most 256 state keys"):
        state.put("one more", 1)
    with pytest.raises(ValueError, match="at most 256 state keys"):
        state.delete("one more")
    state.put("k0", "again")
    assert len(state.writes) == MAX_STATE_WRITES
    assert state.writes[0] == StatePut(key="k0", value='"again"')


def test_subclasses_of_text_and_numbers_are_kept_as_what_they_are() -> None:
    """The encoder knows exact types only."""

    class Text(str):
        __slots__ = ()

    class Number(int):
        pass

    state = State(Committed())
    state.put(Text("k"), {Text("a"): Text("b"), "n": Number(1)})
    assert state.writes == (StatePut(key="k", value='{"a":"b","n":1}'),)


def test_a_plain_def_uses_the_same_store_from_its_thread() -> None:
    """Each method of BlockingState waits for the loop's answer."""

    async def scenario() -> None:
        state = State(Committed(k="1"))
        blocking = BlockingState(state, asyncio.get_running_loop())

        def in_thread() -> tuple[Any, ...]:
            before = blocking.get("k"), blocking.get("absent", "default")
            blocking.put("k", 2)
            blocking.delete("old")
            return *before, blocking.get("k"), blocking.compare_and_set("k", 1, 3), blocking.compare_and_set("k", 2, 3)

        assert await asyncio.to_thread(in_thread) == (1, "default", 2, True, False)
        assert blocking.writes == state.writes == (StatePut(key="k", value="2"), StateDelete(key="old"))

    run_async(scenario())


def test_an_error_of_the_store_reaches_the_thread() -> None:
    """What the supervisor refused is raised where the plugin asked."""

    class Failing(Committed):
        async def fetch(self, key: str) -> str | None:
            raise ConnectionError(key)

    async def scenario() -> None:
        blocking = BlockingState(State(Failing()), asyncio.get_running_loop())
        with pytest.raises(ConnectionError, match="centre"):
            await asyncio.to_thread(blocking.get, "centre")
        with pytest.raises(ValueError, match="a state key is"):
            await asyncio.to_thread(blocking.get, "")

    run_async(scenario())

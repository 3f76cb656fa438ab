"""The filter of event triggers: what matches, what does not, and that no payload is an error."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.triggers.where import NOT_JSON, matches, read

names = st.text(max_size=8)
plain = st.text("abc", min_size=1, max_size=3)
values = st.booleans() | st.integers(-(1 << 255), (1 << 256) - 1) | names
anything = st.recursive(
    st.none() | values | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=12,
)


def is_so(where: dict[str, Any], payload: str) -> bool:
    return matches(where, read(payload))


@pytest.mark.parametrize(
    "where,payload",
    [
        ({}, ""),
        ({}, "not JSON"),
        ({"side": "buy"}, '{"side": "buy", "size": 1}'),
        ({"side": "b\u00fcy\u20ac"}, '{"side": "b\\u00fcy\u20ac"}'),
        ({"size": 25}, '{"size": 25}'),
        ({"size": 25}, '{"size": 25.0}'),
        ({"size": 25}, '{"size": 2.5e1}'),
        ({"size": 0}, '{"size": -0}'),
        ({"size": (1 << 256) - 1}, f'{{"size": {(1 << 256) - 1}}}'),
        ({"ok": True, "off": False}, '{"ok": true, "off": false}'),
        ({"pool.id": 3}, '{"pool": {"id": 3}}'),
        ({"a.b.c": "x", "a.d": 1}, '{"a": {"b": {"c": "x"}, "d": 1}}'),
        ({"": 1}, '{"": 1}'),
        ({"a.": 1}, '{"a": {"": 1}}'),
        ({"side": "sell"}, '{"side": "buy", "side": "sell"}'),
    ],
)
def test_matching(where: dict[str, Any], payload: str) -> None:
    """Each of the values, exactly; a name with dots goes into objects."""
    assert is_so(where, payload)


@pytest.mark.parametrize(
    "where,payload",
    [
        ({"side": "buy"}, ""),
        ({"side": "buy"}, "not JSON"),
        ({"side": "buy"}, '{"side": "buy"'),
        ({"side": "buy"}, '{"side": "buy"} x'),
        ({"side": "buy"}, '["side", "buy"]'),
        ({"side": "buy"}, '"side"'),
        ({"side": "buy"}, "null"),
        ({"side": "buy"}, '{"side": null}'),
        ({"side": "buy"}, '{"side": "Buy"}'),
        ({"side": "buy"}, '{"side": ["buy"]}'),
        ({"side": "buy", "size": 1}, '{"side": "buy"}'),
        ({"size": 1}, '{"size": "1"}'),
        ({"size": 1}, '{"size": true}'),
        ({"size": 0}, '{"size": false}'),
        ({"size": "1"}, '{"size": 1}'),
        ({"ok": True}, '{"ok": 1}'),
        ({"ok": False}, '{"ok": 0}'),
        ({"ok": True}, '{"ok": "true"}'),
        ({"size": 25}, '{"size": 25.000001}'),
        ({"size": (1 << 256) - 1}, f'{{"size": {1 << 256}}}'),
        ({"size": (1 << 63) + 1}, f'{{"size": {1 << 63}}}'),
        ({"pool.id": 3}, '{"pool.id": 3}'),
        ({"pool.id": 3}, '{"pool": [{"id": 3}]}'),
        ({"pool.id": 3}, '{"pool": 3}'),
        ({"pool.0": 3}, '{"pool": [3]}'),
        ({"a": "x"}, "[" * 100_000),
        ({"a": "x"}, '{"a":' * 100_000),
        ({"a": 1}, '{"a": 1e999}'),
    ],
)
def test_not_matching(where: dict[str, Any], payload: str) -> None:
    """Another kind of value is another value; what is not JSON matches nothing, and is no error."""
    assert not is_so(where, payload)


@given(value=anything, where=st.dictionaries(names, values, min_size=1, max_size=3))
def test_agrees_with_a_slow_reading_of_the_rule(value: Any, where: dict[str, Any]) -> None:
    """Field by field, with the standard library's decoder."""

    def holds(name: str, wanted: object) -> bool:
        found = json.loads(json.dumps(value))
        for part in name.split("."):
            if not isinstance(found, dict) or part not in found:
                return False
            found = found[part]
        if isinstance(wanted, bool) or isinstance(found, bool):
            return type(wanted) is type(found) and wanted == found
        is_of_a_kind = isinstance(found, str) if isinstance(wanted, str) else isinstance(found, int | float)
        return bool(is_of_a_kind and wanted == found)

    expected = all(holds(name, wanted) for name, wanted in where.items())
    assert is_so(where, json.dumps(value)) is expected


@given(path=st.lists(plain, min_size=1, max_size=4), wanted=values, others=st.dictionaries(plain, anything, max_size=3))
def test_what_was_put_there_is_found(path: list[str], wanted: object, others: dict[str, Any]) -> None:
    """At any depth, beside anything; and not any more when it is another one."""
    inner: Any = wanted
    for part in reversed(path):
        inner = {**others, part: inner}
    name = ".".join(path)
    assert is_so({name: wanted}, json.dumps(inner))
    assert not is_so({name: f"{wanted} "}, json.dumps(inner))


@given(payload=st.text() | st.binary().map(lambda data: data.decode("utf-8", "replace")))
def test_no_text_is_an_error(payload: str) -> None:
    """Whoever may announce chooses it."""
    assert is_so({}, payload)
    assert is_so({"a": "b"}, payload) in (True, False)


def test_what_is_not_json_is_told_from_null() -> None:
    """Null is a value."""
    assert read("null") is None
    assert read("nul") is NOT_JSON

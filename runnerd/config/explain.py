"""What is wrong with a table that does not decode: every key of it, by name, with what is allowed there.

msgspec stops at the first error, writes `[...]` for names that the operator chose, and says neither which values a key
may have nor its other bound; this goes through key by key.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sized
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct, structs

from protocol.actions import NAME_RULE
from protocol.trigger import TriggerBase
from runnerd.config.grants import WHY_PERMISSIONLESS
from runnerd.config.problem import Problem

NAME_PROBLEM: Final = f"a name is {NAME_RULE}"
_AT = re.compile(r"^(?P<text>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_RANGE = re.compile(r"Expected `(int|float)` [<>]")
_LENGTH = re.compile(r"Expected `\w+` of length")


def to_path(kind: type, value: object) -> Path:
    """msgspec's way to ask for a type it does not know; Path is the only one in our tables."""
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError("Expected a path as text")


def explain(raw: object, kind: Any, where: str) -> list[Problem]:
    """All problems of `raw` as a `kind`; `where` is its dotted path in the file. Empty when there is none."""
    tagged = _tagged(kind)
    if tagged and isinstance(raw, dict):
        name = raw.get("kind")
        if not isinstance(name, str) or name not in tagged:
            what = "is missing" if name is None else f"is {name!r}"
            return [Problem(_join(where, "kind"), f"{what}; allowed: {', '.join(tagged)}")]
        kind = tagged[name]
    if raw is not None:  # TOML has none; what an embedding application gives may be
        kind = _present(kind)
    return list(_table(raw, kind, where) if _is_struct(kind) and isinstance(raw, dict) else _value(raw, kind, where))


def unknown_key(key: str, names: Iterable[str]) -> str:
    """Says so, with the nearest name and all that are allowed."""
    allowed = list(names)
    close = difflib.get_close_matches(key, allowed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown key; {hint}allowed: {', '.join(allowed)}"


def _tagged(kind: object) -> dict[str, type[Struct]]:
    """The structs of a union that their `kind` tells apart, by that; none of anything else."""
    structs_ = [each for each in get_args(kind) if _is_struct(each) and each.__struct_config__.tag is not None]
    return {str(each.__struct_config__.tag): each for each in structs_}


def _present(kind: Any) -> Any:
    """What `kind` is where a value stands: without the None of what may be left out, if it is one thing then."""
    members = [each for each in get_args(kind) if each is not NoneType] if NoneType in get_args(kind) else []
    return members[0] if len(members) == 1 else kind


def _table(raw: dict[str, object], kind: type[Struct], where: str) -> Iterator[Problem]:
    fields = {field.name: field for field in structs.fields(kind)}
    tag_field = kind.__struct_config__.tag_field
    # Of a trigger its own keys before those that all have.
    names = sorted(fields, key=lambda name: issubclass(kind, TriggerBase) and name in TriggerBase.__struct_fields__)
    known = [*([tag_field] if tag_field is not None else []), *names]
    found = [
        Problem(_join(where, key), unknown_key(key, known)) for key in raw if key not in known
    ]  # fmt: skip
    for name, field in fields.items():
        if name in raw:
            found += explain(raw[name], field.type, _join(where, name))
        elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
            found.append(Problem(_join(where, name), "is missing, and has no default"))
    # What several keys of one table must satisfy together is said by the table itself.
    yield from found or _leaf(raw, kind, where)


def _value(raw: object, kind: Any, where: str) -> Iterator[Problem]:
    bare, found = get_args(kind)[0] if get_origin(kind) is Annotated else kind, list[Problem]()
    if get_origin(bare) is dict and isinstance(raw, dict):
        name_kind, item_kind = get_args(bare)
        for name, item in raw.items():
            if not _is_one(name, name_kind):
                found.append(Problem(_join(where, name), NAME_PROBLEM))
            else:
                found += explain(item, item_kind, _join(where, name))
    elif get_origin(bare) is tuple and isinstance(raw, list):
        for i, item in enumerate(raw):
            found += explain(item, get_args(bare)[0], f"{where}[{i}]")
    yield from found or _leaf(raw, kind, where)


def _leaf(raw: object, kind: Any, where: str) -> Iterator[Problem]:
    """What msgspec says of a value whose parts, if it has any, are right each for itself; and all that is allowed."""
    try:
        msgspec.convert(raw, kind, strict=True, dec_hook=to_path)
    except msgspec.ValidationError as error:
        match = _AT.match(str(error))
        text, path = (match["text"], match["path"] or "") if match else (str(error), "")
        key = (where + path.replace("[...]", ".*")).lstrip(".")
        if key.endswith(".permissionless"):
            text = f"{text}; {WHY_PERMISSIONLESS}"
        elif "got `float`" in text:
            text += "; a fraction is never exact here: write a whole number of a smaller unit, or text"
        elif not path:
            text = _with_allowed(text, raw, kind)
        yield Problem(key, text)


def _with_allowed(text: str, raw: object, kind: Any) -> str:
    choices = list(kind) if isinstance(kind, type) and issubclass(kind, Enum) else get_args(kind)
    if text.startswith("Invalid enum value"):
        return f"{text}; allowed: {', '.join(map(str, choices))}"
    bounds = next((each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Meta)), Meta())
    if _RANGE.match(text):
        return f"is {raw}; allowed: {_range(bounds)}"
    if _LENGTH.match(text) and isinstance(raw, Sized):
        lengths = Meta(ge=bounds.min_length or 0, le=bounds.max_length)
        return f"has length {len(raw)}; allowed: {_range(lengths)}"
    return text


def _range(bounds: Meta) -> str:
    """All of it: the documented bounds, whichever of them was broken."""
    match bounds.gt, bounds.ge, bounds.le:
        case None, None, most:
            return f"at most {_number(most)}"
        case None, least, None:
            return f"{_number(least)} or more"
        case None, least, most:
            return f"{_number(least)} to {_number(most)}"
        case beyond, _, None:
            return f"more than {_number(beyond)}"
        case beyond, _, most:
            return f"more than {_number(beyond)}, at most {_number(most)}"


def _number(number: float | None) -> str:
    return str(number).removesuffix(".0")


def _is_one(raw: object, kind: Any) -> bool:
    try:
        msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key

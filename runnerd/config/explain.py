"""What is wrong with a table that does not decode: every key of it, by name, with what is allowed there.

msgspec stops at the first error and writes `[...]` for names that the operator chose; this goes through key by key.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct, structs

from protocol.actions import NAME_RULE
from protocol.trigger import TriggerBase
from protocol.triggers import Trigger
from protocol.zygote import Layer
from runnerd.config.consumer_model import OutcomeName
from runnerd.config.grants import WHY_PERMISSIONLESS
from runnerd.config.problem import Problem

NAME_PROBLEM: Final = f"a name is {NAME_RULE}"
_AT = re.compile(r"^(?P<text>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_NUMBER = re.compile(r"\[(\d+)\]")
_KINDS: Final = {str(kind.__struct_config__.tag): kind for kind in get_args(Trigger)}


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


def _table(raw: dict[str, object], kind: type[Struct], where: str) -> Iterator[Problem]:
    fields = {field.name: field for field in structs.fields(kind)}
    tag_field = kind.__struct_config__.tag_field
    known = [*([tag_field] if tag_field is not None else []), *fields]
    found = [
        Problem(_join(where, key), unknown_key(key, known)) for key in raw if key not in known
    ]  # fmt: skip
    for name, field in fields.items():
        if name in raw:
            found += explain(raw[name], field.type, _join(where, name))
        elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
            found.append(Problem(_join(where, name), "is missing, and has no default"))
    # What several keys of one table must satisfy together is said by the table itself.
    yield from found or _value(raw, kind, where)


def _value(raw: object, kind: Any, where: str) -> Iterator[Problem]:
    if get_origin(kind) is dict and isinstance(raw, dict):
        name_kind, item_kind = get_args(kind)
        for name, item in raw.items():
            if not _is_one(name, name_kind):
                yield Problem(_join(where, name), NAME_PROBLEM)
            else:
                yield from explain(item, item_kind, _join(where, name))
        return
    try:
        msgspec.convert(raw, kind, strict=True, dec_hook=to_path)
    except msgspec.ValidationError as error:
        yield _problem(error, where, raw)


def _problem(error: msgspec.ValidationError, where: str, raw: object) -> Problem:
    match = _AT.match(str(error))
    text, path = (match["text"], match["path"] or "") if match else (str(error), "")
    key = (where + path.replace("[...]", ".*")).lstrip(".")
    unknown = _UNKNOWN.search(text)
    if unknown:  # only triggers are reached here: tables in a list
        return Problem(_join(key, unknown["field"]), unknown_key(unknown["field"], ["kind", *_trigger_keys(raw, path)]))
    if text.startswith("Invalid value") and key.endswith(".kind"):
        return Problem(key, f"{text}; allowed: {', '.join(_KINDS)}")
    if text.startswith("Invalid enum value") and ".require[" in key:
        return Problem(key, f"{text}; allowed: {', '.join(Layer)}")
    if key.endswith(".permissionless"):
        return Problem(key, f"{text}; {WHY_PERMISSIONLESS}")
    if text.startswith("Invalid enum value") and ".outcomes[" in key:
        return Problem(key, f"{text}; allowed: {', '.join(get_args(OutcomeName))}")
    if "got `float`" in text:
        text += "; a fraction is never exact here: write a whole number of a smaller unit, or text"
    return Problem(key, text)


def _trigger_keys(raw: object, path: str) -> list[str]:
    """The keys of the trigger at `path`: those of its kind, its own before those that all have."""
    number = _NUMBER.match(path)
    trigger = raw[int(number[1])] if number and isinstance(raw, list) else None
    kind = _KINDS.get(str(trigger.get("kind"))) if isinstance(trigger, dict) else None
    kinds = _KINDS.values() if kind is None else (kind,)
    names = dict.fromkeys(field.name for each in kinds for field in structs.fields(each))
    return sorted(names, key=lambda name: name in TriggerBase.__struct_fields__)


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

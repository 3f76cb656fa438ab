"""Finds every log call of the supervisor in its syntax trees: action, level, fields and message, without running any.

A record's action is an API: alerts and searches name it. `docs.generate` makes the page, tests/test_docs.py checks it.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True, order=True)
class LogEvent:
    """One log call. `action` is its stable name; `fields` are what else its record carries."""

    action: str
    file: str
    levels: tuple[str, ...]
    fields: tuple[str, ...]
    message: str


@cache
def find_log_calls() -> tuple[tuple[str, ast.Call, ast.Module], ...]:
    """Every call of a `logger` in the supervisor's code: file, call, and the module around it."""
    return tuple(_log_calls())


@cache
def _modules() -> Mapping[str, ast.Module]:
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8"))
        for path in sorted((ROOT / "runnerd").rglob("*.py"))
    }


def _log_calls() -> Iterator[tuple[str, ast.Call, ast.Module]]:
    for file, tree in _modules().items():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=attr)):
                    if attr in {*LEVELS, "log", "exception"}:
                        yield file, node, tree
                case _:
                    pass


@cache
def find_log_events() -> tuple[LogEvent, ...]:
    """Every log call that names its action."""
    found = [*_ready_made()]
    for file, call, module in find_log_calls():
        extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
        match extra:
            case ast.Call(func=ast.Name(id="fields"), args=[ast.Constant(value=str(action))], keywords=keywords):
                names = [keyword.arg for keyword in keywords if keyword.arg]
            case ast.Dict(keys=[ast.Constant(value="action"), *others], values=[ast.Constant(value=str(action)), *_]):
                names = [str(key.value) for key in others if isinstance(key, ast.Constant)]
            case _:
                continue
        found.append(LogEvent(action, file, _levels(call, module), tuple(names), _message(call)))
    return tuple(sorted(found))


def _ready_made() -> Iterator[LogEvent]:
    """Records that no logger makes: `logging.makeLogRecord` with a level, a message and an action that stand there."""
    for file, tree in _modules().items():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr="makeLogRecord"), args=[ast.Dict(keys=keys, values=values)]):
                    texts = {key.value: str(value.value) for key, value in zip(keys, values, strict=True)
                             if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)}  # fmt: skip
                case _:
                    continue
            match values[-1]:
                case ast.Call(func=ast.Name(id="fields"), args=[ast.Constant(value=str(action))], keywords=keywords):
                    names = tuple(keyword.arg for keyword in keywords if keyword.arg)
                    yield LogEvent(action, file, (texts["levelname"].lower(),), names, f"`{texts['msg']}`")
                case _:
                    pass


def _levels(call: ast.Call, module: ast.Module) -> tuple[str, ...]:
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr == "exception":
        return ("error",)
    if call.func.attr != "log":
        return (call.func.attr,)
    named = _level_names(call.args[0], module, set())
    return tuple(level for level in LEVELS if level in named)


def _level_names(where: ast.AST, module: ast.Module, seen: set[str]) -> set[str]:
    """The `logging.LEVEL`s in an expression; of a name in it, those of what is assigned, or passed, to that name."""
    found = set()
    for node in ast.walk(where):
        match node:
            case ast.Attribute(value=ast.Name(id="logging"), attr=attr) if attr.lower() in LEVELS:
                found.add(attr.lower())
            case ast.Name(id=name) if name not in seen:
                seen.add(name)
                for source in _sources(name, module):
                    found |= _level_names(source, module, seen)
            case _:
                pass
    return found


def _sources(name: str, module: ast.Module) -> Iterator[ast.AST]:
    takers = set()
    for node in ast.walk(module):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                yield value
            case ast.FunctionDef(name=function, args=arguments):
                takers |= {function} if any(argument.arg == name for argument in arguments.args) else set()
            case _:
                pass
    for taker in takers:
        yield from _arguments().get(taker, ())


@cache
def _arguments() -> Mapping[str, list[ast.expr]]:
    """What is passed to a method, anywhere: who calls it may be in another module, and knows it by this name."""
    passed: dict[str, list[ast.expr]] = defaultdict(list)
    for module in _modules().values():
        for node in ast.walk(module):
            match node:
                case ast.Call(func=ast.Attribute(attr=called), args=arguments):
                    passed[called] += arguments
                case _:
                    pass
    return passed


def _message(call: ast.Call) -> str:
    text = call.args[1 if isinstance(call.func, ast.Attribute) and call.func.attr == "log" else 0]
    return (
        f"`{text.value.replace(chr(10), ' ')}`"
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
        else ""
    )

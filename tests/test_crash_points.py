"""Crash points: the names in the code are those of the list, and nothing in production can make them do anything."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from runnerd import crash_points
from runnerd.crash_points import CRASH_POINTS, reached

REPOSITORY = Path(__file__).resolve().parents[1]


def _calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a function `name` below runnerd, outside of the module itself."""
    for path in sorted((REPOSITORY / "runnerd").rglob("*.py")):
        if path.name == "crash_points.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=found) | ast.Attribute(attr=found)) if found == name:
                    yield f"{path.relative_to(REPOSITORY)}:{node.lineno}", node
                case _:
                    pass


def test_every_name_is_in_the_code_and_every_point_of_the_code_has_a_name() -> None:
    """A point that nobody reaches is tested by nobody; one without a name cannot be asked for."""
    used = set()
    for where, call in _calls("reached"):
        match call.args:
            case [ast.Constant(value=str(name))]:
                used.add(name)
            case _:
                pytest.fail(f"{where}: the name of a crash point is a literal")
    assert used == set(CRASH_POINTS)
    assert len(CRASH_POINTS) == len(set(CRASH_POINTS))


def test_production_installs_no_listener() -> None:
    """Only a launcher of the tests may: it imports the module and calls `listen` before the daemon's main."""
    importing = [
        str(path.relative_to(REPOSITORY))
        for package in ("runnerd", "workers", "protocol")
        for path in (REPOSITORY / package).rglob("*.py")
        if "crash_points import listen" in path.read_text("utf-8") or "crash_points.listen" in path.read_text("utf-8")
    ]
    assert importing == []


def test_a_point_that_is_reached_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a listener; with one, it is told the name."""
    reached("call.stored")
    told: list[str] = []
    monkeypatch.setattr(crash_points, "_listeners", [])
    crash_points.listen(told.append)
    reached("call.stored")
    assert told == ["call.stored"]

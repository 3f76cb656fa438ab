"""Puts the functions that workers run side by side in memory.

Imports lay them out in the order of the source: what a worker runs lies between what it never runs, and each function
that it calls writes to the page of its code (reference counts, and CPython's own caches in the bytecode), which the
kernel copies for it. A copy of a code object is as good as the object, and lies where there is room: so the used ones
are copied one after the other. Called once by `workers.inherited`, in the zygote.
"""

import gc
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final

# From 3.14 on annotations are evaluated when they are asked for, which may fail: their function is what moves.
_ANNOTATIONS: Final = "__annotate__" if sys.version_info >= (3, 14) else "__annotations__"
_ATTRIBUTES: Final = ("__kwdefaults__", _ANNOTATIONS, "__type_params__", "__doc__", "__module__", "__qualname__")


def compact(play: Callable[[], object], packages: Iterable[str]) -> int:
    """Move every function that runs in `play`, or that belongs to `packages`. Returns how many there were."""
    used = _used_in(play)
    inside = tuple(f"{package}." for package in packages)
    moving = [
        value
        for value in gc.get_objects()
        if type(value) is FunctionType and (value.__code__ in used or f"{value.__module__}.".startswith(inside))
    ]
    for function in moving:
        function.__code__ = _copied(function.__code__)
    _replace({id(function): _renewed(function) for function in moving})
    return len(moving)


def _used_in(play: Callable[[], object]) -> set[CodeType]:
    used: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            used.add(frame.f_code)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        play()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return used


def _copied(code: CodeType) -> CodeType:
    """With the functions inside of it."""
    consts = tuple(_copied(const) if isinstance(const, CodeType) else const for const in code.co_consts)
    return code.replace(co_consts=consts)


def _renewed(function: FunctionType) -> FunctionType:
    renewed = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    for attribute in _ATTRIBUTES:
        if hasattr(function, attribute):
            setattr(renewed, attribute, getattr(function, attribute))
    renewed.__dict__.update(function.__dict__)
    return renewed


def _replace(renewed: dict[int, FunctionType]) -> None:
    """Where a module or a plain class holds the old one. Who else does goes on with that: it has the same code."""
    for holder in _holders():
        for name, value in [*vars(holder).items()]:
            if type(value) is FunctionType and id(value) in renewed:
                setattr(holder, name, renewed[id(value)])


def _holders() -> Iterator[object]:
    yield from (module for module in [*sys.modules.values()] if type(module) is ModuleType)
    yield from (value for value in gc.get_objects() if type(value) is type)

"""Tests that need the machine to themselves (`@pytest.mark.alone`) get it: no other test of this checkout runs then.

They measure the host itself: who is late, starved or slow. Two locks, of which the second is a room: any number of
tests are in it, or a lonely one. The first is its door, so that whoever waits for the room is the next. Both are locks
on files that stand anyway, so nothing is left behind; and the tests of slow files are begun with, so that no worker
ends long after the other.
"""

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

ROOM: Final = Path(__file__)
DOOR: Final = ROOM.parents[1] / "conftest.py"
ORDER: Final = ("alone", "slow", "faults", "hostile", "integration")
"""Marks, the longest tests first."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Every test of every process, with its fixtures."""
    with entered(DOOR, ROOM, is_alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the longest tests first; the order within a file stays."""
    ranks: dict[Path, int] = {}
    for item in items:
        own = min((ORDER.index(mark.name) for mark in item.iter_markers() if mark.name in ORDER), default=len(ORDER))
        ranks[item.path] = min(own, ranks.get(item.path, len(ORDER)))
    items.sort(key=lambda item: ranks[item.path])


@contextmanager
def entered(door: Path, room: Path, *, is_alone: bool) -> Iterator[None]:
    """Be in `room`, alone or with all others who need not be alone. Waits as long as it takes."""
    how = fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH
    with _opened(room) as place:
        with _opened(door) as gate:
            fcntl.flock(gate, how)
            fcntl.flock(place, how)
            fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # By hand: a process that a test forked may hold the descriptor still.
            fcntl.flock(place, fcntl.LOCK_UN)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)

"""The room for tests: who needs it alone waits for the others, and they for him, and nobody is passed by for ever."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.solitude import entered

DEADLINE_S = 10.0
SOON_S = 0.2


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A door and a room."""
    door, room = tmp_path / "door", tmp_path / "room"
    door.touch()
    room.touch()
    return door, room


class Guest:
    """Somebody who wants to be in the room, and stays until told to leave."""

    def __init__(self, places: tuple[Path, Path], *, is_alone: bool = False) -> None:
        self.is_in, self._may_leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._stay, args=(*places, is_alone))
        self._thread.start()

    def _stay(self, door: Path, room: Path, is_alone: bool) -> None:
        with entered(door, room, is_alone=is_alone):
            self.is_in.set()
            self._may_leave.wait(DEADLINE_S)

    def leave(self) -> None:
        """And be gone."""
        self._may_leave.set()
        self._thread.join(DEADLINE_S)


@pytest.fixture
def guest(places: tuple[Path, Path]) -> Callable[..., Guest]:
    """Makes guests of this room."""
    return lambda **wishes: Guest(places, **wishes)


def test_many_are_in_together(guest: Callable[..., Guest]) -> None:
    """Those who do not mind."""
    guests = [guest(), guest()]
    assert all(one.is_in.wait(DEADLINE_S) for one in guests)
    for one in guests:
        one.leave()


def test_who_is_alone_waits_and_is_waited_for(guest: Callable[..., Guest]) -> None:
    """And who comes while he waits does not pass him by."""
    first = guest()
    assert first.is_in.wait(DEADLINE_S)
    lonely = guest(is_alone=True)
    assert not lonely.is_in.wait(SOON_S)
    late = guest()
    assert not late.is_in.wait(SOON_S), "passed by"
    first.leave()
    assert lonely.is_in.wait(DEADLINE_S)
    assert not late.is_in.wait(SOON_S), "not alone"
    lonely.leave()
    assert late.is_in.wait(DEADLINE_S)
    late.leave()

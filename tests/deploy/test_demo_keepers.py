"""The two keepers of the demo, as pure functions: when they act, and that they ask once."""

import asyncio
import sys
from collections.abc import Mapping
from importlib import util
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.demo.world import PLUGINS
from protocol.messages import BlockRef
from workers.sdk import Noop
from workers.sdk.state import State
from workers.testing import Decided, MemoryState, run


def plugin(name: str, class_name: str) -> Any:
    """The class, loaded from its file as a stranger would copy it."""
    spec = util.spec_from_file_location(name, PLUGINS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return getattr(module, class_name)


def block(number: int) -> BlockRef:
    return BlockRef(number=number, hash="0x" + "00" * 32, timestamp=number)


def settle(number: int, current: int = 4, state: Mapping[str, Any] | None = None) -> Decided:
    """Round `current` closes at block 100."""
    return run(
        plugin("settlement", "Settlement"), reads={"round": current, "closes_at": 100}, block=block(number),
        params={"patience_blocks": 6}, state=state,
    )  # fmt: skip


def refresh(current: int, number: int, state: Mapping[str, Any] | None = None) -> Decided:
    """What was published is 1,000,000, at block 50."""
    return run(
        plugin("nav_refresh", "NavRefresh"), block=block(number), state=state,
        reads={"published_nav": 1_000_000, "current_nav": current, "refreshed_at": 50},
        params={"min_move_wei": 1_000, "max_age_blocks": 20, "patience_blocks": 3},
    )  # fmt: skip


def test_a_round_is_settled_once_it_is_over() -> None:
    """By its number; asked for again only when nothing came of it."""
    assert settle(99).noop == "round 4 is open for 1 blocks more"
    first = settle(100)
    assert [(action.name, action.args) for action in first.actions] == [("settle", {"round": 4})]
    assert settle(105, state=first.state).noop == "round 4 was asked for at block 100"
    assert len(settle(106, state=first.state).actions) == 1
    assert len(settle(101, current=5, state=first.state).actions) == 1


@pytest.mark.parametrize("current, number, is_due", [(1_000_999, 60, False), (1_001_000, 60, True), (999_000, 60, True),
                                                     (1_000_000, 69, False), (1_000_000, 70, True)])  # fmt: skip
def test_the_nav_is_published_when_it_moved_or_is_old(current: int, number: int, is_due: bool) -> None:
    """A thousand wei, or twenty blocks."""
    decided = refresh(current, number)
    assert [action.name for action in decided.actions] == (["refresh"] if is_due else [])
    if is_due:
        again = refresh(current, number + 2, state=decided.state)
        assert again.noop == f"asked for at block {number}"


@pytest.mark.parametrize("name, class_name", [("settlement", "Settlement"), ("nav_refresh", "NavRefresh")])
def test_of_many_calls_at_once_one_asks(name: str, class_name: str) -> None:
    """A backlog of blocks or logs: all read the state before the first has decided. The next crowd is patient."""
    reads = {"round": 4, "closes_at": 100, "published_nav": 1, "current_nav": 10**18, "refreshed_at": 50}
    params = {"patience_blocks": 6, "min_move_wei": 1_000, "max_age_blocks": 20}
    state = SlowState({})

    async def crowd(number: int) -> list[object]:
        contexts = [
            SimpleNamespace(reads=reads, params=params, block=block(number), state=State(state)) for _ in range(5)
        ]
        return list(await asyncio.gather(*(plugin(name, class_name)().decide(context) for context in contexts)))

    for number, asking in ((100, 1), (105, 0), (106, 1)):
        outcomes = asyncio.run(crowd(number))
        assert sum(not isinstance(outcome, Noop) for outcome in outcomes) == asking, outcomes


class SlowState(MemoryState):
    """Others have their turn before anything is read: so all have read before any has written."""

    async def fetch(self, key: str) -> str | None:
        value = await super().fetch(key)
        await asyncio.sleep(0)
        return value

"""Fixtures of the chain tests: a real node per module, reachable in all three ways, and both event loops."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import uvloop

from tests.chain.servers import Run
from tests.support.aio import run_async
from tests.support.anvil import Anvil, start_anvil


@dataclass(frozen=True, slots=True)
class Node:
    """A running anvil that keeps its history, and its urls by transport."""

    anvil: Anvil
    urls: dict[str, str]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario to its end; production uses uvloop, whose transports differ in detail."""
    return partial(run_async, loop_factory=None if request.param == "asyncio" else uvloop.new_event_loop)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    socket: Path = tmp_path_factory.mktemp("node") / "anvil.ipc"
    with start_anvil(prune_history=False, extra_args=("--ipc", str(socket))) as anvil:
        yield Node(anvil, {"http": anvil.url, "ws": anvil.ws_url, "ipc": f"ipc://{socket}"})

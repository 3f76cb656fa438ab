"""One zygote at a time, on real processes: the next one is started when one dies; no plugin is blamed."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from protocol.zygote import LoopSettings, PluginSource, Spawn
from runnerd.supervisor.birth import ZygoteGone
from runnerd.zygotes import BACKOFF_S, SHORT_LIFE_S, Zygotes
from tests.support.aio import run_async
from tests.support.until import until

pytestmark = pytest.mark.integration


def run(scenario: Callable[[Zygotes], Coroutine[Any, Any, None]]) -> None:
    """Runs a scenario on opened zygotes."""

    async def whole() -> None:
        zygotes = Zygotes()
        await zygotes.open()
        try:
            await scenario(zygotes)
        finally:
            await zygotes.close()

    run_async(whole())


def kill(zygotes: Zygotes) -> None:
    assert zygotes.pid is not None
    os.kill(zygotes.pid, signal.SIGKILL)


def test_zygotes_that_die_young_follow_each_other_ever_more_slowly() -> None:
    """A host on which they die does other things than start them; one that had lived is replaced at once."""

    async def scenario(zygotes: Zygotes) -> None:
        loop = asyncio.get_running_loop()
        waits = []
        for _ in range(4):
            died = loop.time()
            kill(zygotes)
            await until(lambda: zygotes.pid is None)
            await until(lambda: zygotes.pid is not None)
            waits.append(loop.time() - died)
        floor_s = BACKOFF_S[0]
        assert all(wait_s >= floor_s * 2**number for number, wait_s in enumerate(waits)), waits
        zygotes._own._born_at -= SHORT_LIFE_S
        kill(zygotes)
        await until(lambda: zygotes.pid is None)
        await until(lambda: zygotes.pid is not None)
        assert zygotes._own._delay_s == 0.0

    run(scenario)


def test_birth_that_finds_no_zygote_blames_nobody(short_dir: Path) -> None:
    """It waits for one as long as a birth may take, then says so."""

    request = Spawn(
        plugin="alpha",
        generation=1,
        link_dir=str(short_dir),
        link_address=f"ipc://{short_dir}/link",
        code=PluginSource(kind="path", value="/no/such/file.py"),
        loop=LoopSettings(generation=1),
    )

    async def scenario(zygotes: Zygotes) -> None:
        kill(zygotes)
        await until(lambda: zygotes.pid is None)
        with pytest.raises(ZygoteGone, match=r"no zygote within 0\.01 s"):
            await zygotes.spawn(request, 0.01)

    run(scenario)

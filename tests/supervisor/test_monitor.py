"""The monitor looks at real processes, without privilege, and ends nothing that is within its limits."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runnerd.supervisor.limits import MIB, Limits, Usage
from runnerd.supervisor.monitor import LOOKS_PER_TURN, Monitor, read_usage
from tests.support.aio import run_async
from tests.support.until import until

DEADLINE_S = 10.0
WIDE = Limits()


@contextmanager
def process(code: str) -> Iterator[int]:
    """A process that has done `code`, and waits."""
    text = f"{code}\nprint('done', flush=True)\nimport sys\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"done\n"
        yield running.pid


async def judge(pid: int, limits: Limits) -> str | None:
    """What the monitor says of a process in a few looks."""
    monitor = Monitor()
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    watch = monitor.watch(pid, limits, said.set_result)
    done, _ = await asyncio.wait([said], timeout=0.35)
    watch.close()
    return said.result() if done else None


@pytest.mark.parametrize(
    "deed, limits, words",
    [
        ("hoard = bytearray(b'x') * (100 << 20)", Limits(memory_bytes=64 * MIB), "over its memory limit: 1"),
        (
            "from threading import *\nfor _ in range(30): Thread(target=Event().wait, daemon=True).start()",
            Limits(threads=20),
            "over its thread limit: 31 of 20",
        ),
        ("hoard = [open('/dev/null') for _ in range(70)]", Limits(files=64), "over its descriptor limit: 73 of 64"),
    ],
)
def test_process_that_is_over_a_limit_is_named(deed: str, limits: Limits, words: str) -> None:
    """And the same one is within wider limits."""
    with process(deed) as pid:
        said = run_async(judge(pid, limits))
        assert said is not None
        assert said.startswith(words)
        assert run_async(judge(pid, WIDE)) is None


def test_process_that_spins_is_over_its_cpu_limit() -> None:
    """A tenth of a second of CPU time is a hundredth of ten seconds."""

    async def scenario(pid: int) -> str:
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        watch = Monitor().watch(pid, Limits(cpus=0.01), said.set_result)
        try:
            return await asyncio.wait_for(said, DEADLINE_S)
        finally:
            watch.close()

    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) as spinning:
        try:
            assert "s in 10 s, 0.1 s are allowed" in run_async(scenario(spinning.pid))
        finally:
            spinning.kill()


def test_process_whose_name_looks_like_a_line_of_proc_is_read_right() -> None:
    """The name in /proc/PID/stat is the plugin's choice."""
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 1 1 (', 0, 0, 0)"
    with process(code) as pid:
        usage = read_usage(pid)
    assert usage is not None
    assert usage.threads == 1
    assert 0 <= usage.cpu_s < 5


def test_process_that_has_ended_uses_nothing() -> None:
    """Its end is reported elsewhere."""
    with process("pass") as pid:
        pass
    assert read_usage(pid) is None


def test_looks_are_bounded_in_each_turn_and_come_round() -> None:
    """A thousand workers do not hold the loop; each is looked at in its turn, and nobody twice before that."""

    async def scenario() -> None:
        looked: list[int] = []
        is_round = asyncio.Event()

        def read(pid: int) -> Usage | None:
            looked.append(pid)
            if len(looked) > 2 * LOOKS_PER_TURN:
                is_round.set()
            return None

        monitor = Monitor(read)
        watches = [monitor.watch(pid, WIDE, pytest.fail) for pid in range(2 * LOOKS_PER_TURN)]
        await asyncio.wait_for(is_round.wait(), DEADLINE_S)
        assert looked[: 2 * LOOKS_PER_TURN] == list(range(2 * LOOKS_PER_TURN))
        for watch in watches:
            watch.close()

    run_async(scenario())


def test_closed_watches_leave_no_timer() -> None:
    """A supervisor without workers sleeps."""

    async def scenario() -> None:
        monitor = Monitor(lambda _: None)
        monitor.watch(1, WIDE, pytest.fail).close()
        await until(lambda: monitor._timer is None)
        assert not monitor._queue

    run_async(scenario())

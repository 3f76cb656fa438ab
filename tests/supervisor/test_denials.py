"""Denied system calls: named, answered, bounded; and never able to hold the supervisor's loop."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from runnerd.supervisor.denials import MAX_DENIALS_PER_TURN, Denials
from tests.support.probes import DEADLINE_S, ProbeHost, outside, probe_host

pytestmark = pytest.mark.hostile

FLOOD = """
    import ctypes, threading
    libc = ctypes.CDLL(None, use_errno=True)  # gives up the GIL while it calls, so that many calls wait at once
    def flood():
        while libc.unshare(0) < 0 and ctypes.get_errno() != errno.ENOSYS:
            pass
    threads = [threading.Thread(target=flood) for _ in range(40)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print("nobody answers any more", flush=True)
    loop.run_forever()
"""


@pytest.fixture
def host() -> Iterator[ProbeHost]:
    """A running zygote."""
    with probe_host() as running:
        yield running


def test_a_denied_call_is_named_with_its_arguments(host: ProbeHost) -> None:
    """`denied socket (1, …)`: the operator sees what the plugin was after."""
    seen: list[tuple[str, tuple[int, ...]]] = []

    async def watch() -> list[str]:
        request = host.request("import socket; attempt(lambda: socket.socket(socket.AF_UNIX)); print('end')")
        worker = await host.zygote.spawn(request, DEADLINE_S)
        assert worker.notify_fd is not None
        denials = Denials(worker.notify_fd, lambda name, args: seen.append((name, args)), pytest.fail, pytest.fail)
        await asyncio.wait_for(worker.exited, DEADLINE_S)
        denials.close()
        denials.close()
        said = os.read(worker.stdout_fd, 1_000).decode().split()
        os.close(worker.stdout_fd)
        os.close(worker.stderr_fd)
        worker.close()
        return said

    assert host.wait_for(watch()) == ["EPERM", "end"]
    [(name, args)] = seen
    assert (name, args[0], len(args)) == ("socket", 1, 6)


def test_a_call_that_libseccomp_cannot_name_looks_unimplemented(host: ProbeHost) -> None:
    """A newer libc tries calls of the future and falls back on ENOSYS: EPERM would break it."""
    code = """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        def future():
            if libc.syscall(999) < 0:
                raise OSError(ctypes.get_errno(), "")
        attempt(future)
    """
    outcome = host.run(code)
    assert (outcome.said, outcome.denied) == (["ENOSYS"], ("unknown",)), (
        "the number is the plugin's choice, and names are labels of a metric"
    )


def test_a_flood_of_denials_ends_after_the_limit_and_never_holds_the_loop(host: ProbeHost) -> None:
    """Forty threads that do nothing but forbidden things get a few answers per turn, then no more, ever."""
    per_turn: list[int] = [0]

    async def endure() -> tuple[int, str]:
        worker = await host.zygote.spawn(host.request(FLOOD), DEADLINE_S)
        assert worker.notify_fd is not None
        loop = asyncio.get_running_loop()
        flooded: asyncio.Future[None] = loop.create_future()
        is_over = False

        def on_denial(name: str, _: tuple[int, ...]) -> None:
            assert name == "unshare"
            per_turn[-1] += 1

        def next_turn() -> None:
            per_turn.append(0)
            if not is_over:
                loop.call_soon(next_turn)

        next_turn()
        denials = Denials(worker.notify_fd, on_denial, lambda: flooded.set_result(None), pytest.fail, limit=2_000)
        await asyncio.wait_for(flooded, DEADLINE_S)
        is_over = True
        os.set_blocking(worker.stdout_fd, True)
        said = await asyncio.to_thread(os.read, worker.stdout_fd, 1_000)
        denials.close()
        os.close(worker.stdout_fd)
        os.close(worker.stderr_fd)
        worker.kill(signal.SIGKILL)
        await asyncio.wait_for(worker.exited, DEADLINE_S)
        worker.close()
        return sum(per_turn), said.decode().strip()

    assert host.wait_for(endure()) == (2_000, "nobody answers any more")
    assert max(per_turn) <= MAX_DENIALS_PER_TURN


def test_an_attack_is_never_answered(host: ProbeHost) -> None:
    """The thread that called waits in the kernel until it is dead: nothing after the call runs."""
    code = """
        import ctypes
        print("before", flush=True)
        ctypes.CDLL(None).ptrace(0, 0, 0, 0)
        print("after", flush=True)
    """
    assert outside(code) == ["before", "after"]
    outcome = host.run(code)
    assert outcome.said == ["before"]
    assert outcome.exited.status == -signal.SIGKILL
    assert outcome.attacks == ("ptrace",)


def test_the_end_of_the_worker_ends_the_reading(host: ProbeHost) -> None:
    """A notify fd without a process is always readable (POLLHUP): left in the loop it would spin."""

    async def end() -> None:
        running = await host.start(host.request("loop.run_forever()"))
        denials = running.denials
        assert denials is not None
        running.worker.kill(signal.SIGKILL)
        await asyncio.wait_for(running.worker.exited, DEADLINE_S)
        before = asyncio.get_running_loop().time()
        while denials._is_open:
            await asyncio.sleep(0)
            assert asyncio.get_running_loop().time() < before + DEADLINE_S
        running.close()

    host.wait_for(end())

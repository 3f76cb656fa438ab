"""The supervisor's handle on the zygote: births, their failures, the zygote's own end and what it leaves: nothing."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from protocol.zygote import Born, Exited, Layer, SandboxPolicy, encode, send_packet
from runnerd.supervisor.birth import Birth
from runnerd.supervisor.zygote import BirthFailed, BirthRefused, BornWorker, Zygote, ZygoteFailed, ZygoteGone
from tests.support.leaks import find_descendants, wait_until_gone
from tests.support.probes import DEADLINE_S, PROGRAM, ProbeHost, probe_host

pytestmark = pytest.mark.integration

FOREVER = "print('up', flush=True); loop.run_forever()"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def host(request: pytest.FixtureRequest) -> Iterator[ProbeHost]:
    """A running zygote, in both kinds of event loop."""
    with probe_host(loop_factory=LOOPS[request.param]) as running:
        yield running


def count_fds(pid: int | str = "self") -> int:
    """Open descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def abandon(worker: BornWorker) -> None:
    """Kill it and close all that is had of it."""
    worker.kill(signal.SIGKILL)
    worker.close_pipes()
    worker.close()


async def discard(worker: BornWorker) -> None:
    """Abandon it, and wait until the zygote has reaped it."""
    abandon(worker)
    await asyncio.wait_for(worker.exited, DEADLINE_S)


async def wait_for_abandoned(host: ProbeHost) -> None:
    """Until the zygote has reaped every child whose birth nobody waits for any more."""
    exits = [birth.exited for birth in host.zygote._births.values()]
    if exits:
        await asyncio.wait(exits, timeout=DEADLINE_S)
    assert not host.zygote._births


def test_a_born_worker_is_locked_in_and_reports_its_exit_once(host: ProbeHost) -> None:
    """Everything that the supervisor needs of it is there, and its exit comes with status and usage."""

    async def live() -> None:
        request = host.request(FOREVER)
        running = await host.start(request)
        worker = running.worker
        assert (worker.id, worker.link_address) == (request.worker, request.link_address)
        assert {report.layer for report in worker.layers} == set(Layer)
        assert Path(request.link_dir, "link").is_socket(), "bound before it is born"
        assert not os.get_blocking(worker.stdout_fd)
        assert not any(os.get_inheritable(fd) for fd in (worker.pidfd, worker.stdout_fd, worker.stderr_fd))
        assert await running.line() == "up"
        worker.kill(signal.SIGKILL)
        outcome = await running.finish()
        assert outcome.exited.describe() == "killed by SIGKILL"
        assert outcome.exited.cpu_s > 0
        running.close()

    host.wait_for(live())
    assert [exited.status for exited in host.exits] == [-signal.SIGKILL]


def test_a_hundred_births_at_once(host: ProbeHost) -> None:
    """Boot: all plugins are asked for in the same moment, more than the kernel lets descriptors travel."""

    async def boot() -> None:
        births = (host.zygote.spawn(host.request(FOREVER, plugin=f"p{n}"), DEADLINE_S) for n in range(100))
        workers = await asyncio.gather(*births)
        assert len({worker.pid for worker in workers}) == 100
        await asyncio.gather(*map(discard, workers))

    host.wait_for(boot())
    assert len(host.exits) == 100


def test_two_hundred_births_leave_nothing_behind(host: ProbeHost) -> None:
    """Born, refused, crashed and abandoned ones: no descriptor in supervisor or zygote, no process, no zombie."""

    async def one_round() -> None:
        await discard(await host.zygote.spawn(host.request(FOREVER), DEADLINE_S))
        refused = host.request("", sandbox=SandboxPolicy(namespaces="off", require=(Layer.NAMESPACES,)))
        with pytest.raises(BirthRefused):
            await host.zygote.spawn(refused, DEADLINE_S)
        crashing = host.request("")
        Path(crashing.link_dir).rmdir()
        with pytest.raises(BirthFailed):
            await host.zygote.spawn(crashing, DEADLINE_S)
        with pytest.raises(BirthFailed, match=r"not born within 0\.0005 s"):
            await host.zygote.spawn(host.request(FOREVER), 0.0005)

    async def settle() -> int:
        await wait_for_abandoned(host)
        gc.collect()
        return count_fds()

    async def rounds() -> tuple[int, int]:
        await one_round()
        before = await settle()
        for _ in range(50):
            await one_round()
        return before, await settle()

    before, after = host.wait_for(rounds())
    assert after == before
    assert count_fds(host.zygote.pid) <= 16, "stdio, control, epoll, and those of one spare and one leaving child"
    assert len(find_descendants(host.zygote.pid)) <= 2


def test_a_crash_at_birth_says_why(host: ProbeHost) -> None:
    """The traceback of the worker's first milliseconds is the operator's only clue."""
    request = host.request("")
    Path(request.link_dir).rmdir()
    with pytest.raises(BirthFailed, match="exit code 1 before its sandbox was closed; stderr ends") as failed:
        host.wait_for(host.zygote.spawn(request, DEADLINE_S))
    assert request.link_dir in failed.value.reason or "No such file" in failed.value.reason
    assert host.exits == [], "it was never born"


def test_a_worker_that_exits_at_once_is_born_first(host: ProbeHost) -> None:
    """However fast it is gone: spawn returns it, and its exit is reported."""
    for _ in range(20):
        assert host.run("").exited.status == 0
    assert len(host.exits) == 20


def test_what_a_worker_said_before_its_exit_counts(host: ProbeHost) -> None:
    """Both are readable in the same turn of the loop, and the exit may be read first."""

    async def read_the_exit_first() -> None:
        request = host.request("")
        birth = Birth(request)
        with (
            subprocess.Popen(["sleep", "60"]) as process,  # noqa: ASYNC220  # a process to have a pidfd of
            socket.socket(fileno=os.dup(birth.lent_fds[0])) as child_socket,
        ):
            send_packet(child_socket, encode(Born(layers=(), digest="sha256:" + "0" * 64)))
            birth.on_spawned(os.pidfd_open(process.pid))
            birth.on_exited(Exited(worker=request.worker, status=0, max_rss_bytes=0, cpu_s=0))
            assert birth.is_born
            worker = await birth.outcome()
            birth.close()
            assert worker.pid == process.pid
            assert worker.exited.result().status == 0
            abandon(worker)

    host.wait_for(read_the_exit_first())


def test_a_cancelled_birth_is_undone(host: ProbeHost) -> None:
    """A commanded stop while the worker is being born: what comes of it is killed."""

    async def cancel() -> None:
        before = count_fds()
        async with asyncio.TaskGroup() as group:
            births = [group.create_task(host.zygote.spawn(host.request(FOREVER), DEADLINE_S)) for _ in range(5)]
            await asyncio.sleep(0)
            for birth in births:
                birth.cancel()
        await wait_for_abandoned(host)
        assert count_fds() == before

    host.wait_for(cancel())


def test_a_generation_is_used_once(host: ProbeHost) -> None:
    """Reports name `plugin#generation`: two workers of one name could not be told apart."""

    async def twice() -> None:
        request = host.request(FOREVER)
        worker = await host.zygote.spawn(request, DEADLINE_S)
        with pytest.raises(ValueError, match="every start is a new generation"):
            await host.zygote.spawn(request, DEADLINE_S)
        await discard(worker)

    host.wait_for(twice())


def test_births_end_with_the_zygote(host: ProbeHost) -> None:
    """It is killed while workers are being born: every caller hears of it at once, and so does `on_death`."""
    host.is_death_expected = True

    async def lose() -> None:
        family = find_descendants(host.zygote.pid)
        births = (host.zygote.spawn(host.request(FOREVER), DEADLINE_S) for _ in range(20))
        outcomes = asyncio.gather(*births, return_exceptions=True)
        await asyncio.sleep(0)
        os.kill(host.zygote.pid, signal.SIGKILL)
        results = await outcomes
        assert all(isinstance(result, BirthFailed | BornWorker) for result in results), results
        failed = [result for result in results if isinstance(result, BirthFailed)]
        assert failed
        assert all(isinstance(result, ZygoteGone) for result in failed), "no plugin is to blame"
        for result in results:
            if isinstance(result, BornWorker):
                abandon(result)
        assert "killed by SIGKILL" in await asyncio.wait_for(host.death, DEADLINE_S)
        wait_until_gone(family)
        with pytest.raises(ZygoteGone, match="cannot be asked"):
            await host.zygote.spawn(host.request(FOREVER), DEADLINE_S)

    host.wait_for(lose())


@pytest.mark.parametrize(
    "python, program, reason",
    [
        (sys.executable, ("-c", "raise SystemExit('no libseccomp')"), "exit code 1; its stderr ends: no libseccomp"),
        (sys.executable, ("-c", "import sys; sys.stdin = open(0); input()"), r"(?s)exit code 1.*EOFError"),
        (sys.executable, ("-c", "import signal; signal.pause()"), "not ready after 0.5 s"),
        ("/no/such/python", PROGRAM, "/no/such/python cannot be started: No such file"),
    ],
    ids=["exits", "raises", "hangs", "absent"],
)
def test_a_zygote_that_does_not_come_up_says_why(python: str, program: tuple[str, ...], reason: str) -> None:
    """No plugin can be started without it: the operator gets its stderr, and no process is left."""

    async def start() -> None:
        await Zygote.start(on_exit=lambda _: None, on_death=pytest.fail, python=python, program=program, deadline_s=0.5)

    before = count_fds()
    with pytest.raises(ZygoteFailed, match=reason):
        asyncio.run(start())
    assert count_fds() == before


def test_stopping_twice_is_fine(host: ProbeHost) -> None:
    """A shutdown may meet a shutdown."""

    async def stop() -> None:
        await asyncio.gather(host.zygote.stop(), host.zygote.stop())
        await host.zygote.stop()

    host.wait_for(stop())
    assert not host.death.done(), "a commanded stop is not a death"

"""The zygote: it dies with its supervisor, its workers die with it, and it is small, single-threaded and exact."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.zygote import (
    Exited,
    Layer,
    LoopSettings,
    PluginSource,
    Ready,
    SandboxPolicy,
    Spawn,
    Spawned,
    decode_from_zygote,
    encode,
    receive_packet,
    send_packet,
)
from runnerd.supervisor.zygote import BirthRefused
from tests.support.leaks import find_descendants, wait_until_gone
from tests.support.probes import (
    DEADLINE_S,
    PROGRAM,
    PROGRAM_WITHOUT_NAMESPACES,
    ProbeHost,
    Running,
    probe_host,
    wait_until_readable,
)

pytestmark = pytest.mark.hostile

POLICIES = pytest.mark.parametrize(
    "policy", [SandboxPolicy(), SandboxPolicy(namespaces="off")], ids=["namespaces", "off"]
)
GUARDIAN = "runnerd: zygote guardian"
FOREVER = "print('up', flush=True); loop.run_forever()"


async def start_some(host: ProbeHost, count: int, policy: SandboxPolicy) -> list[Running]:
    """Workers that are up and would stay so."""
    started = [await host.start(host.request(FOREVER, sandbox=policy)) for _ in range(count)]
    for running in started:
        assert await running.line() == "up"
    return started


def _family(host: ProbeHost) -> dict[int, str]:
    """The zygote's processes, and nobody else's: the session has a database and a node of its own."""
    below = find_descendants(host.zygote.pid)
    return {pid: title for pid, title in find_descendants().items() if pid == host.zygote.pid or pid in below}


@pytest.mark.parametrize(
    "program, victim",
    [(PROGRAM, "runnerd: zygote"), (PROGRAM, GUARDIAN), (PROGRAM_WITHOUT_NAMESPACES, "runnerd: zygote")],
    ids=["zygote", "guardian", "no namespaces"],
)
@POLICIES
def test_no_worker_outlives_the_zygote(program: tuple[str, ...], victim: str, policy: SandboxPolicy) -> None:
    """kill -9 of the zygote: nobody would hear of the workers' exits any more, so the kernel ends them, all of them."""
    with probe_host(program) as host:
        workers = host.wait_for(start_some(host, 3, policy))
        family = _family(host)
        assert len(family) >= 4
        host.is_death_expected = True
        # The oldest: a spare that has only just been forked still bears the zygote's title.
        os.kill(min(pid for pid, title in family.items() if title == victim), signal.SIGKILL)
        for running in workers:
            wait_until_readable(running.worker.pidfd)
        wait_until_gone(family)
        assert "killed by SIGKILL" in host.wait_for(asyncio.wait_for(host.death, DEADLINE_S))
        for running in workers:
            assert running.worker.exited.cancelled()
            running.close()


def test_a_host_without_namespaces_runs_workers_unless_they_are_required() -> None:
    """`auto` goes without and says so, with the cost; `require` refuses, with the reason."""
    with probe_host(PROGRAM_WITHOUT_NAMESPACES) as host:
        outcome = host.run("import os, socket; print(os.getpid() > 1); attempt(lambda: socket.socket())")
        assert outcome.said == ["True", "EPERM"]
        [report] = [report for report in outcome.layers if report.layer is Layer.NAMESPACES]
        assert (report.is_applied, report.detail) == (False, "this host refuses")
        with pytest.raises(BirthRefused, match="this host refuses"):
            host.run("", sandbox=SandboxPolicy(namespaces="require"))


def test_a_worker_holds_nothing_of_its_siblings(host: ProbeHost) -> None:
    """One forked while others live inherits the zygote's descriptors of them, and must not keep a single one."""

    async def count() -> list[int]:
        workers = await start_some(host, 4, SandboxPolicy())
        counts = [len(list(Path(f"/proc/{running.worker.pid}/fd").iterdir())) for running in workers]
        for running in workers:
            running.close()
        return counts

    if os.getuid() != 0:
        pytest.skip("only root may look at a process that is not dumpable")
    first, *later = host.wait_for(count())
    assert later == [first] * 3


@POLICIES
def test_stopping_the_zygote_ends_all_workers(host: ProbeHost, policy: SandboxPolicy) -> None:
    """The supervisor closes its end: the zygote kills every worker, spare and all, and leaves."""
    workers = host.wait_for(start_some(host, 3, policy))
    family = find_descendants(host.zygote.pid)
    host.wait_for(host.zygote.stop())
    wait_until_gone(family)
    for running in workers:
        assert running.worker.exited.cancelled() or running.worker.exited.done()
        running.close()


def test_the_zygote_and_its_workers_die_with_the_supervisor() -> None:
    """kill -9 of the supervisor leaves nothing behind, not even a zygote that was only just born."""
    supervisor = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from tests.support.probes import probe_host
with probe_host() as host:
    async def main():
        running = await host.start(host.request({FOREVER!r}))
        print(await running.line(), flush=True)
        await asyncio.sleep(60)
    host.wait_for(main())
"""
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            [sys.executable, "-c", supervisor],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": directory},
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        family = find_descendants(process.pid)
        assert len(family) >= 2
        process.kill()
    wait_until_gone(family)


def test_an_orphan_zygote_leaves_by_itself() -> None:
    """If its supervisor died before the two were tied together, the pid it was told is not its parent's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-I", *PROGRAM, str(theirs.fileno()), "1"]
        done = subprocess.run(command, pass_fds=[theirs.fileno()], capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert b"the parent 1 is gone" in done.stderr


def test_the_zygote_is_single_threaded_titled_and_holds_no_stranger(host: ProbeHost) -> None:
    """Forking a process with threads is unsafe; what it holds open every worker would have to close."""
    host.run("")
    family = {title: pid for pid, title in sorted(_family(host).items(), reverse=True) if "worker" not in title}
    assert family.keys() == {GUARDIAN, "runnerd: zygote"}
    assert family[GUARDIAN] == host.zygote.pid
    for pid in family.values():
        proc = Path(f"/proc/{pid}")
        assert len(list((proc / "task").iterdir())) == 1
        assert (proc / "environ").read_bytes().strip(b"\0") in {b"LANG=C.UTF-8", b""}
        assert str((proc / "cwd").readlink()) == "/"
        until = time.monotonic() + DEADLINE_S
        while strange := _strange_descriptors(proc):  # for a moment a namespace: its spare is being made
            assert time.monotonic() < until, strange
            time.sleep(0.01)
    assert not list(Path(f"/proc/{host.zygote.pid}/fd").iterdir()), "the guardian holds nothing"


USUAL = frozenset({"/dev/null", "pipe", "socket", "anon_inode"})


def _strange_descriptors(proc: Path) -> list[str]:
    with suppress(FileNotFoundError):  # one that was closed just now
        targets = [str(link.readlink()) for link in (proc / "fd").iterdir()]
        return [target for target in targets if target.split(":")[0] not in USUAL]
    return ["closed just now"]


def test_the_wire_of_one_worker() -> None:
    """Ready; Spawned with a pidfd; Exited with status and usage. Spoken by hand, without the supervisor's class."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(DEADLINE_S)
        with theirs:
            command = [sys.executable, "-I", *PROGRAM, str(theirs.fileno()), str(os.getpid())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        with process:
            assert decode_from_zygote(receive_packet(ours)[0]) == Ready()
            birth, child_birth = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            request = Spawn(
                plugin="beta",
                generation=7,
                link_dir="/nowhere",
                link_address="ipc:///nowhere/link",
                code=PluginSource(kind="path", value="/nowhere/plugin.py"),
                loop=LoopSettings(generation=7),
            )
            with birth, child_birth:
                send_packet(ours, encode(request), [child_birth.fileno(), 1, 2])
                spawned, pidfds = receive_packet(ours)
                report = decode_from_zygote(spawned)
                assert report == Spawned(worker="beta#7")
                wait_until_readable(*pidfds)
                os.close(*pidfds)
            exited = decode_from_zygote(receive_packet(ours)[0])
            assert isinstance(exited, Exited)
            assert (exited.worker, exited.describe()) == ("beta#7", "exit code 1"), (
                "its link's directory does not exist"
            )
            assert exited.max_rss_bytes > 1 << 20
            assert exited.cpu_s > 0
            ours.close()
            assert process.wait(DEADLINE_S) == 0


def test_each_worker_draws_numbers_of_its_own(host: ProbeHost) -> None:
    """`random` seeds itself in a forked child by a hook; ours are forked without hooks."""
    code = "import random; print(random.random(), random.getrandbits(64))"
    assert len({host.run(code).stdout for _ in range(3)}) == 3


def test_the_zygote_forks_without_hooks() -> None:
    """Each that a library has registered is Python code on pages that every worker would copy."""
    code = """
import os, runpy, sys
told = []
register = os.register_at_fork
os.register_at_fork = lambda **hooks: told.append(hooks)
sys.argv = ["zygote", "not a descriptor", "1"]
try:
    runpy.run_module("workers.zygote", run_name="__main__")
except ValueError as error:
    print(len(told), "threading" in sys.modules, error)
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 True invalid literal"), (done.stdout, done.stderr)

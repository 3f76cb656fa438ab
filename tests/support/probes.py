"""Runs probes: small Python programs that try something and print what came of it, inside the sandbox and outside.

A probe may use `attempt(action)`, which prints `done` or the name of the errno. `ProbeHost` owns a real zygote and an
event loop; `outside` is the positive control: the same program in an ordinary process.
"""

import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from protocol.zygote import Exited, LayerReport, LoopSettings, PluginSource, SandboxPolicy, Spawn, WorkerLimits
from runnerd.supervisor.denials import Denials
from runnerd.supervisor.zygote import BornWorker, Zygote

T = TypeVar("T")

PROGRAM = (str(Path(__file__).with_name("probe_zygote.py")),)
PROGRAM_WITHOUT_NAMESPACES = (*PROGRAM, "--no-namespaces")
DEADLINE_S = 20.0

PRELUDE = """
import errno
def attempt(action):
    try:
        action()
    except OSError as error:
        print(errno.errorcode.get(error.errno, error), flush=True)
    else:
        print("done", flush=True)
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe left behind."""

    stdout: str
    stderr: str
    exited: Exited
    denied: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    attacks: tuple[str, ...] = ()

    @property
    def said(self) -> list[str]:
        """Its lines."""
        return self.stdout.split("\n")[:-1]


@dataclass(slots=True)
class Running:
    """A probe at work in its sandbox."""

    worker: BornWorker
    denied: list[str] = field(default_factory=list)
    denials: Denials | None = None
    attacks: list[str] = field(default_factory=list)

    async def line(self) -> str:
        """The next line it prints."""
        return await asyncio.wait_for(_read(self.worker.stdout_fd, until=b"\n"), DEADLINE_S)

    async def finish(self) -> Outcome:
        """Wait for its end."""
        worker = self.worker
        stdout, stderr, exited = await asyncio.wait_for(
            asyncio.gather(_read(worker.stdout_fd), _read(worker.stderr_fd), worker.exited), DEADLINE_S
        )
        return Outcome(stdout, stderr, exited, tuple(self.denied), worker.layers, tuple(self.attacks))

    def answer(self) -> None:
        """Answer its denied calls from now on; an attack ends it, as it does in `supervisor.worker`."""
        if self.worker.notify_fd is not None:
            self.denials = Denials(
                self.worker.notify_fd, lambda name, _: self.denied.append(name), _no_flood, self._on_attack
            )

    def _on_attack(self, name: str) -> None:
        self.attacks.append(name)
        self.worker.kill(signal.SIGKILL)

    def close(self) -> None:
        """Kill it if it still runs, and close everything."""
        if self.denials is not None:
            self.denials.close()
        os.close(self.worker.stdout_fd)
        os.close(self.worker.stderr_fd)
        self.worker.kill(signal.SIGKILL)
        self.worker.close()


class ProbeHost:
    """A zygote of our own, and the requests for its workers."""

    def __init__(
        self, zygote: Zygote, runner: asyncio.Runner, directory: Path, exits: list[Exited], death: asyncio.Future[str]
    ) -> None:
        self.zygote = zygote
        self.exits = exits
        self.death = death
        self.is_death_expected = False
        self._runner = runner
        self._directory = directory
        self._generation = 0

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop that the zygote belongs to."""
        return self._runner.run(work)

    def request(
        self,
        code: str,
        *,
        plugin: str = "alpha",
        readable: Sequence[Path] = (),
        limits: WorkerLimits | None = None,
        sandbox: SandboxPolicy | None = None,
    ) -> Spawn:
        """A Spawn for a probe, its file written and its link's directory made."""
        self._generation += 1
        home = self._directory / f"{plugin}.{self._generation}"
        link_dir = home / "link"
        link_dir.mkdir(parents=True, mode=0o700)
        file = home / "probe.py"
        file.write_text(program(code))
        return Spawn(
            plugin=plugin,
            generation=self._generation,
            link_dir=str(link_dir),
            link_address=f"ipc://{link_dir}/link",
            code=PluginSource(kind="path", value=str(file)),
            read_paths=(str(file), *map(str, readable)),
            limits=limits or WorkerLimits(),
            sandbox=sandbox or SandboxPolicy(),
            loop=LoopSettings(generation=self._generation),
        )

    async def start(self, request: Spawn) -> Running:
        """Spawn it, and answer its denied calls from now on."""
        running = Running(await self.zygote.spawn(request, DEADLINE_S))
        running.answer()
        return running

    def run(self, code: str, **options: Any) -> Outcome:
        """Run a probe in its sandbox to its end."""

        async def to_its_end() -> Outcome:
            running = await self.start(self.request(code, **options))
            try:
                return await running.finish()
            finally:
                running.close()

        return self.wait_for(to_its_end())


@contextmanager
def probe_host(
    program: Sequence[str] = PROGRAM, loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> Iterator[ProbeHost]:
    """A zygote that lives as long as the block, and a directory with a path short enough for unix sockets."""
    exits: list[Exited] = []
    with (
        tempfile.TemporaryDirectory(prefix="probe-") as directory,
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        death: asyncio.Future[str] = runner.get_loop().create_future()
        zygote = runner.run(Zygote.start(on_exit=exits.append, on_death=death.set_result, program=program))
        host = ProbeHost(zygote, runner, Path(directory), exits, death)
        try:
            yield host
        finally:
            runner.run(zygote.stop())
            assert death.done() == host.is_death_expected, death


def outside(code: str) -> list[str]:
    """The lines that the same probe prints without a sandbox."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import asyncio; loop = asyncio.new_event_loop()" + program(code)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def program(code: str) -> str:
    """The probe with its prelude."""
    return PRELUDE + textwrap.dedent(code)


def wait_until_readable(fd: int) -> None:
    """For a pidfd: until the process has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(DEADLINE_S * 1000), "nothing happened on the descriptor"


async def _read(fd: int, until: bytes | None = None) -> str:
    """What comes out of a pipe, to its end or to the first `until`."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    data = bytearray()

    def take() -> None:
        try:
            piece = os.read(fd, 1 if until else 65_536)
        except BlockingIOError:
            return
        data.extend(piece)
        if (not piece or (until and data.endswith(until))) and not done.done():
            done.set_result(None)

    loop.add_reader(fd, take)
    try:
        await done
    finally:
        loop.remove_reader(fd)
    return data.decode(errors="replace").rstrip("\n") if until else data.decode(errors="replace")


def _no_flood() -> None:
    raise AssertionError("the probe made more denied calls than any probe should")

"""A birthplace of workers that are only puppets: no process, but real pipes, a real (dead) link, and an end on demand.

For the order of events around a host on virtual time. What a puppet "says" is handed to the worker's message handler,
as its link would; killing one ends it at once, unless its end is held back.
"""

import asyncio
import os
import signal
from dataclasses import dataclass, field

from protocol.messages import FromWorker, Hello
from protocol.triggers import Trigger
from protocol.zygote import Exited, Spawn
from runnerd.supervisor.birth import BornWorker
from runnerd.supervisor.host import PluginHost

DIGEST = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Puppet(BornWorker):
    """What the nursery gives birth to. Its `pidfd` is a pipe's end: signals come to `kill` only."""

    nursery: "Nursery"
    stderr_write_fd: int
    link_frames: list[bytes] = field(default_factory=list)

    def kill(self, number: signal.Signals) -> None:
        self.nursery.signals.append((self.id, number.name))
        if not self.nursery.holds_ends:
            self.end(-number)

    def end(self, status: int) -> None:
        """Report its end, as the zygote does: once."""
        if not self.exited.done():
            self.nursery.leave(self)
            self.exited.set_result(Exited(worker=self.id, status=status, max_rss_bytes=0, cpu_s=0.0))

    def lose(self) -> None:
        """The zygote dies, and this worker with it."""
        if not self.exited.done():
            self.nursery.leave(self)
            self.exited.cancel()


class Nursery:
    """`supervisor.worker.Birthplace`. `gate` lets births happen; `failure` is raised instead of one, or all."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.fails_always = False
        self.holds_ends = False
        self.asked: list[Spawn] = []
        self.alive: dict[str, Puppet] = {}
        self.most_alive = 0
        self.signals: list[tuple[str, str]] = []

    async def spawn(self, request: Spawn, deadline_s: float) -> BornWorker:
        self.asked.append(request)
        await self.gate.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, self.failure if self.fails_always else None
            raise failure
        stdout_fd, stdout_write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(stdout_write_fd)
        stderr_fd, stderr_write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        puppet = Puppet(
            id=request.worker,
            pid=0,
            pidfd=os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC),
            stdout_fd=stdout_fd,
            stderr_fd=stderr_fd,
            notify_fd=None,
            layers=(),
            digest=DIGEST,
            link_address=request.link_address,
            exited=asyncio.get_running_loop().create_future(),
            nursery=self,
            stderr_write_fd=stderr_write_fd,
        )
        self.alive[puppet.id] = puppet
        self.most_alive = max(self.most_alive, len(self.alive))
        return puppet

    def leave(self, puppet: Puppet) -> None:
        """It is not alive any more."""
        del self.alive[puppet.id]
        os.close(puppet.stderr_write_fd)

    @property
    def only(self) -> Puppet:
        """The one that lives."""
        (puppet,) = self.alive.values()
        return puppet

    def close(self) -> None:
        """End all that live."""
        self.holds_ends = False
        for puppet in list(self.alive.values()):
            puppet.end(0)


def say(host: PluginHost, *messages: FromWorker) -> None:
    """The host's worker sends messages, in one turn of the loop."""
    worker = host.worker
    assert worker is not None
    for message in messages:
        worker._on_message(message)


def hello(
    host: PluginHost,
    *,
    generation: int | None = None,
    plugin: str = "alpha",
    vault: str = "",
    triggers: tuple[Trigger, ...] = (),
) -> Hello:
    """A Hello of the host's present worker."""
    return Hello(
        version=2,
        generation=generation or host.state.generation,
        plugin=plugin,
        vault=vault,
        triggers=triggers,
        reads=(),
        digest=DIGEST,
    )

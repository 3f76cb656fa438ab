"""The worker's end of a link: order, bound and end of what waits, over a real pair of ZeroMQ sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.support.aio import run_async
from tests.support.worker_process import KEEP_WHAT_CAME
from workers import channel
from workers.channel import Channel

DEADLINE_MS = 5_000


@dataclass
class Ends:
    """A channel on a bound socket, and a supervisor that may dial it."""

    context: "zmq.Context[zmq.Socket[bytes]]"
    address: str
    channel: Channel
    heard: list[bytes] = field(default_factory=list)
    rings: asyncio.Event = field(default_factory=asyncio.Event)
    dialled: list["zmq.Socket[bytes]"] = field(default_factory=list)

    def dial(self, **options: int) -> "zmq.Socket[bytes]":
        """The supervisor's socket."""
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.setsockopt(zmq.RECONNECT_IVL, KEEP_WHAT_CAME)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        socket.connect(self.address)
        self.dialled.append(socket)
        return socket

    async def wait_heard(self, count: int) -> list[bytes]:
        """The first `count` frames that reached the channel."""
        async with asyncio.timeout(DEADLINE_MS / 1000):
            while len(self.heard) < count:
                self.rings.clear()
                await self.rings.wait()
        return self.heard


@asynccontextmanager
async def open_ends(directory: Path, **options: int) -> AsyncIterator[Ends]:
    """A channel as a worker has it; both contexts end with it."""
    supervisor: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    worker: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = worker.socket(zmq.DEALER)
    socket.linger = 0
    for name, value in options.items():
        socket.setsockopt(getattr(zmq, name), value)
    address = f"ipc://{directory}/link"
    socket.bind(address)

    def on_frame(frame: bytes) -> None:
        ends.heard.append(frame)
        ends.rings.set()

    ends = Ends(supervisor, address, Channel(socket, asyncio.get_running_loop(), on_frame))
    ends.channel.open()
    try:
        yield ends
    finally:
        for dialled in ends.dialled:
            dialled.close()
        supervisor.term()
        await ends.channel.close(0)
        (directory / "link").unlink()  # the supervisor's affair, with the directory of the generation


async def receive(socket: "zmq.Socket[bytes]", count: int) -> list[bytes]:
    """The next `count` frames, while the channel's loop goes on."""

    def block() -> list[bytes]:
        frames: list[bytes] = []
        for _ in range(count):
            assert socket.poll(DEADLINE_MS), f"only {len(frames)} of {count} frames came"
            frames.append(socket.recv())
        return frames

    return await asyncio.to_thread(block)


@pytest.fixture
def scenario(short_dir: Path) -> Callable[..., None]:
    """Runs `test(ends)` with both ends open."""

    def run(test: Callable[[Ends], Any], **options: int) -> None:
        async def opened() -> None:
            async with open_ends(short_dir, **options) as ends:
                await test(ends)

        run_async(opened())

    return run


def test_frames_go_both_ways_in_order(scenario: Callable[..., None]) -> None:
    """A thousand each way, one after the other."""

    async def test(ends: Ends) -> None:
        supervisor = ends.dial()
        frames = [f"frame {number}".encode() for number in range(1_000)]
        for frame in frames:
            supervisor.send(frame)
            assert ends.channel.send(frame)
        assert await ends.wait_heard(1_000) == frames
        assert await receive(supervisor, 1_000) == frames

    scenario(test)


def test_what_is_sent_before_the_supervisor_dials_waits_for_it(scenario: Callable[..., None]) -> None:
    """A worker says Hello when it is ready, not when somebody listens."""

    async def test(ends: Ends) -> None:
        for number in range(3):
            assert ends.channel.send(b"%d" % number)
        assert await receive(ends.dial(), 3) == [b"0", b"1", b"2"]

    scenario(test)


def test_sending_hides_no_frame_that_came_meanwhile(scenario: Callable[..., None]) -> None:
    """ZeroMQ's descriptor rings once: a send may swallow the ring for a frame that is already there."""

    async def test(ends: Ends) -> None:
        supervisor = ends.dial()
        supervisor.send(b"first")
        await ends.wait_heard(1)
        for number in range(200):
            supervisor.send(b"call")
            ends.channel.send(b"answer")
            await ends.wait_heard(number + 2)

    scenario(test)


def test_beyond_its_bound_it_drops_what_may_be_dropped(
    scenario: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log records give way and say so by False; answers always have a place, and the order stays."""
    monkeypatch.setattr(channel, "MAX_WAITING", 5)

    async def test(ends: Ends) -> None:
        sent = [ends.channel.send(b"log %d" % number, is_droppable=True) for number in range(8)]
        assert sent == [True] * 5 + [False] * 3
        assert ends.channel.send(b"answer")
        assert await receive(ends.dial(), 6) == [b"log 0", b"log 1", b"log 2", b"log 3", b"log 4", b"answer"]

    scenario(test)


def test_closing_writes_what_waits(scenario: Callable[..., None]) -> None:
    """The process may exit right after it: nothing may be left in ZeroMQ's hands."""

    async def test(ends: Ends) -> None:
        frames = [b"%d" % number * 1_000 for number in range(500)]
        supervisor = ends.dial()
        for frame in frames:
            ends.channel.send(frame)
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(receive(supervisor, 500), name="test:receive")
            await ends.channel.close(5)
        assert receiving.result() == frames

    scenario(test)


def test_closing_does_not_wait_for_a_supervisor_for_ever(scenario: Callable[..., None]) -> None:
    """Nobody dials: the deadline passes, the frames are given up."""

    async def test(ends: Ends) -> None:
        loop = asyncio.get_running_loop()
        ends.channel.send(b"nobody reads this")
        began = loop.time()
        await ends.channel.close(0.05)
        assert 0.05 <= loop.time() - began < 2

    scenario(test)


def test_a_closed_channel_takes_nothing(scenario: Callable[..., None]) -> None:
    """Calls that outlived the grace may still try to answer, and a second close is harmless."""

    async def test(ends: Ends) -> None:
        await ends.channel.close(0)
        assert ends.channel.send(b"late") is False
        await ends.channel.close(0)

    scenario(test)

"""The supervisor's end of a link, on real ZeroMQ sockets: whatever a worker does wrong, `on_broken` is called once."""

import asyncio
import select
import socket
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop
import zmq

from protocol.actions import Noop
from protocol.codec import decode_from_supervisor, encode
from protocol.limits import LINK_HWM, MAX_FRAME_BYTES
from protocol.messages import Decision, FromWorker, LogLevel, LogRecord, Ping, Pong, StateReply
from runnerd.supervisor.link import MAX_FRAMES_AT_END, MAX_FRAMES_PER_TURN, Link
from runnerd.supervisor.rate import RateLimit
from runnerd.supervisor.zmtp import GREETING, READY
from tests.support.aio import run_async
from tests.support.until import until

DEADLINE_S = 10.0


class LinkBench:
    """A link and the worker's bound socket. `received` and `broken` are what the link reported."""

    def __init__(self, directory: Path) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self.worker = self.context.socket(zmq.DEALER)
        self.worker.setsockopt(zmq.LINGER, 0)
        self.worker.setsockopt(zmq.SNDHWM, 0)
        self.worker.setsockopt(zmq.RCVHWM, LINK_HWM)
        self._path = directory / "link"
        address = f"ipc://{self._path}"
        self.worker.bind(address)
        self.received: list[FromWorker] = []
        self.heard: list[Any] = []
        self.broken: list[str] = []
        self.on_message: Callable[[FromWorker], None] = lambda _: None
        self.link = Link(address, self._on_message, self.broken.append)

    def _on_message(self, message: FromWorker) -> None:
        self.received.append(message)
        self.on_message(message)

    def has_heard(self, count: int) -> bool:
        """Read what has come to the worker into `heard`; whether it is `count` messages now."""
        while self.worker.poll(0):
            frame = self.worker.recv()
            assert isinstance(frame, bytes)
            self.heard.append(decode_from_supervisor(frame))
        return len(self.heard) == count

    def close(self) -> None:
        self.link.close()
        self.context.destroy(linger=0)
        self._path.unlink()  # ZeroMQ leaves it; in production the whole directory of the generation goes


Scenario = Callable[[LinkBench], Coroutine[Any, Any, None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, short_dir: Path) -> Callable[[Scenario], None]:
    """Runs a scenario on both loops: production's, and the standard one."""

    def runner(scenario: Scenario) -> None:
        async def whole() -> None:
            bench = LinkBench(short_dir)
            try:
                await scenario(bench)
            finally:
                bench.close()

        run_async(whole(), loop_factory=request.param)

    return runner


def decision(call_id: int) -> Decision:
    """A small answer."""
    return Decision(call_id=call_id, attempt=1, outcome=Noop("quiet"))


def test_messages_go_both_ways_in_order(run: Callable[[Scenario], None]) -> None:
    """More than one turn of the loop takes at once, and nothing is left behind when the descriptor is silent."""

    async def scenario(bench: LinkBench) -> None:
        count = MAX_FRAMES_PER_TURN * 5 + 1
        for number in range(1, count + 1):
            bench.worker.send(encode(Pong(nonce=number)))
            bench.link.send(Ping(nonce=number))
        await until(lambda: len(bench.received) == count)
        assert bench.received == [Pong(nonce=number) for number in range(1, count + 1)]
        await until(lambda: bench.has_heard(count))
        assert bench.heard == [Ping(nonce=number) for number in range(1, count + 1)]
        assert bench.broken == []

    run(scenario)


def test_answer_sent_from_within_a_message_is_not_the_end_of_reading(run: Callable[[Scenario], None]) -> None:
    """Sending consumes the edge that announced the next frame: the link looks once more."""

    async def scenario(bench: LinkBench) -> None:
        bench.on_message = lambda _: bench.link.send(Ping(nonce=1))
        for number in range(1, 301):
            bench.worker.send(encode(Pong(nonce=number)))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(bench.received) == 300)

    run(scenario)


def test_frame_that_came_just_before_a_send_is_read(run: Callable[[Scenario], None]) -> None:
    """Sending takes the signal that announced the frame: nothing on the descriptor would ever tell of it again."""

    async def scenario(bench: LinkBench) -> None:
        await asyncio.sleep(0.01)  # ZeroMQ looks at its commands when it is asked to send, once in a millisecond
        bench.worker.send(encode(Pong(nonce=1)))
        select.select([bench.link._socket], [], [], DEADLINE_S)  # it is here, and the loop has not had a turn
        bench.link.send(Ping(nonce=1))
        await until(lambda: bench.received == [Pong(nonce=1)], 2.0)

    run(scenario)


def test_flood_leaves_the_loop_to_others(run: Callable[[Scenario], None]) -> None:
    """At most so many frames a turn: a timer of somebody else fires in between."""

    async def scenario(bench: LinkBench) -> None:
        turns: list[int] = []

        async def somebody_else() -> None:
            while len(bench.received) < 2_000:
                turns.append(len(bench.received))
                await asyncio.sleep(0)

        for number in range(1, 2_001):
            bench.worker.send(encode(Pong(nonce=number)))
        async with asyncio.timeout(DEADLINE_S):
            await somebody_else()
        steps = [after - before for before, after in pairwise(turns)]
        assert max(steps) <= MAX_FRAMES_PER_TURN * 2

    run(scenario)


@pytest.mark.parametrize(
    "frame, rests", [(encode(Pong(nonce=1)), True), (encode(decision(1)), False)], ids=["unasked", "answers"]
)
def test_who_sends_without_being_asked_is_not_heard_for_a_moment(
    run: Callable[[Scenario], None], frame: bytes, *, rests: bool
) -> None:
    """Whatever waits: most turns are the others'. Answers are as many as the calls, and nobody has to wait for them."""

    async def scenario(bench: LinkBench) -> None:
        for _ in range(1_000):
            bench.worker.send(frame)
        has_rested = False
        async with asyncio.timeout(DEADLINE_S):
            while len(bench.received) < 1_000:
                # A timer knows when it is due; what only waits for the next turn does not.
                has_rested = has_rested or hasattr(bench.link._pump_due, "when")
                await asyncio.sleep(0)
        assert has_rested == rests

    run(scenario)


def test_link_that_is_closed_while_it_rests_stays_silent(run: Callable[[Scenario], None]) -> None:
    """What waited is nobody's any more."""

    async def scenario(bench: LinkBench) -> None:
        for _ in range(1_000):
            bench.worker.send(encode(Pong(nonce=1)))
        await until(lambda: len(bench.received) > 0)
        bench.link.close()
        heard = len(bench.received)
        await asyncio.sleep(0.1)  # longer than it would rest: nothing may come
        assert len(bench.received) == heard

    run(scenario)


def test_costly_frames_come_one_a_turn(run: Callable[[Scenario], None]) -> None:
    """A frame of 1 MiB may be white space for the most part, and is lawful: its price is paid turn by turn."""

    async def scenario(bench: LinkBench) -> None:
        turns: list[int] = []
        padded = encode(Pong(nonce=1)) + b" " * (MAX_FRAME_BYTES - 100)
        for _ in range(40):
            bench.worker.send(padded)
        async with asyncio.timeout(DEADLINE_S):
            while len(bench.received) < 40:
                turns.append(len(bench.received))
                await asyncio.sleep(0)
        assert max(after - before for before, after in pairwise(turns)) == 1

    run(scenario)


@pytest.mark.parametrize(
    "frames, room, reason",
    [(12, 1e9, "more than 10000 frames a second"), (1e9, 12 * 26, "more than 8388608 bytes a second")],
    ids=["frames", "bytes"],
)
def test_frames_that_nobody_asked_for_are_bounded(
    run: Callable[[Scenario], None], frames: float, room: float, reason: str
) -> None:
    """Log records, pongs and state requests: each is lawful, and each costs. Answers do not count."""

    async def scenario(bench: LinkBench) -> None:
        bench.link._frames = RateLimit(0.001, frames)
        bench.link._bytes = RateLimit(0.001, room)
        for number in range(1, 51):
            bench.worker.send(encode(decision(number)))
        await until(lambda: len(bench.received) == 50)
        for number in range(10, 60):
            bench.worker.send(encode(Pong(nonce=number)))
        await until(lambda: bool(bench.broken))
        assert bench.received[50:] == [Pong(nonce=number) for number in range(10, 22)]
        (broken,) = bench.broken
        assert reason in broken

    run(scenario)


@pytest.mark.parametrize(
    "frame, reason",
    [
        (b"\x80\x04pickle", "not a message of this protocol"),
        (b"", "not a message of this protocol"),
        (b'{"type":"hello","version":99}', "the worker speaks protocol 99, this runnerd speaks 3"),
        (b'{"type":"decide"}', "not a message of this protocol"),
        (b"[" * 60_000, "not a message of this protocol"),
    ],
    ids=["garbage", "empty", "version", "the supervisor's own", "deep"],
)
def test_bad_frame_breaks_the_link_once(run: Callable[[Scenario], None], frame: bytes, reason: str) -> None:
    """What comes after it is not looked at."""

    async def scenario(bench: LinkBench) -> None:
        bench.worker.send_multipart([encode(Pong(nonce=1))])
        bench.worker.send(frame)
        bench.worker.send(frame)
        bench.worker.send(encode(Pong(nonce=2)))
        await until(lambda: bool(bench.broken))
        await asyncio.sleep(0.02)
        assert bench.received == [Pong(nonce=1)]
        assert len(bench.broken) == 1
        assert reason in bench.broken[0]
        bench.link.send(Ping(nonce=1))  # says nothing, harms nothing

    run(scenario)


def test_message_of_several_frames_breaks_the_link(run: Callable[[Scenario], None]) -> None:
    """The protocol has one frame per message."""

    async def scenario(bench: LinkBench) -> None:
        bench.worker.send_multipart([encode(Pong(nonce=1)), encode(Pong(nonce=2))])
        await until(lambda: bool(bench.broken))
        assert bench.received == []
        assert "several frames" in bench.broken[0]

    run(scenario)


def test_largest_frame_passes_and_a_larger_one_breaks_the_link(run: Callable[[Scenario], None]) -> None:
    """From its header: nothing of the giant is held."""

    async def scenario(bench: LinkBench) -> None:
        empty = encode(LogRecord(level=LogLevel.INFO, message=""))
        padding = b" " * (MAX_FRAME_BYTES - len(empty))
        bench.worker.send(empty + padding)
        await until(lambda: len(bench.received) == 1)
        assert bench.broken == []
        bench.worker.send(empty + padding + b" ")
        await until(lambda: bool(bench.broken))
        assert bench.broken == [f"it sent a frame of {MAX_FRAME_BYTES + 1} bytes, the limit is {MAX_FRAME_BYTES}"]
        assert len(bench.received) == 1

    run(scenario)


def test_hanging_up_at_the_end_is_no_offence(run: Callable[[Scenario], None]) -> None:
    """The connection goes a moment before the exit is reported; that must not look like a broken protocol."""

    async def scenario(bench: LinkBench) -> None:
        bench.worker.send(encode(Pong(nonce=1)))
        await until(lambda: len(bench.received) == 1)
        bench.worker.close(linger=0)
        await until(lambda: bench.link._is_hung_up)
        assert bench.broken == []

    run(scenario)


def test_worker_that_does_not_read_breaks_its_link(run: Callable[[Scenario], None]) -> None:
    """What waits for it is bounded in our memory as well."""

    async def scenario(bench: LinkBench) -> None:
        big = "x" * 3_900
        for number in range(1, 100 * LINK_HWM):
            bench.link.send(StateReply(request_id=number, value=big))
            if bench.broken:
                break
            if number % 500 == 0:
                await asyncio.sleep(0)
        assert bench.broken == [f"it does not read its link: {LINK_HWM + 1} messages wait"]

    run(scenario)


def test_frames_that_wait_go_out_when_the_worker_reads_again(run: Callable[[Scenario], None]) -> None:
    """In order, none lost."""

    async def scenario(bench: LinkBench) -> None:
        sent = 0
        while not bench.link._waiting:
            sent += 1
            bench.link.send(StateReply(request_id=sent, value="x" * 3_900))
        for _ in range(50):
            sent += 1
            bench.link.send(StateReply(request_id=sent, value=""))
        await until(lambda: bench.has_heard(sent))
        assert [message.request_id for message in bench.heard] == list(range(1, sent + 1))

    run(scenario)


def has_hung_up(fd: int) -> bool:
    """Whether the other end is closed, whatever there is to be read still."""
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))


def test_finish_takes_what_was_sent_before_the_end(
    run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's exit is heard of on another way, and may be the faster one."""
    monkeypatch.setattr("runnerd.supervisor.link.AT_END_S", 10.0)  # a busy host may take a pause in the middle of it

    async def scenario(bench: LinkBench) -> None:
        bench.worker.send(encode(Pong(nonce=1)))
        await until(lambda: len(bench.received) == 1)
        for call_id in range(1, 201):
            bench.worker.send(encode(decision(call_id)))
        bench.link._loop.remove_reader(bench.link._socket.fileno())  # the loop has not come to reading it
        await until(lambda: select.select([bench.link._socket], [], [], 0)[0])
        bench.worker.close(linger=1_000)
        await until(lambda: has_hung_up(bench.link._socket.fileno()))
        bench.link.finish()
        assert bench.received[1:] == [decision(call_id) for call_id in range(1, 201)]
        bench.link.finish()

    run(scenario)


def test_finish_does_not_take_all_that_a_flood_has_left(run: Callable[[Scenario], None]) -> None:
    """It holds the loop: what is not taken within bounds is not taken."""

    async def scenario(bench: LinkBench) -> None:
        bench.worker.send(encode(Pong(nonce=1)))
        await until(lambda: len(bench.received) == 1)
        bench.link._loop.remove_reader(bench.link._socket.fileno())
        for number in range(10_000):
            bench.worker.send(encode(Pong(nonce=number + 1)))
        await until(lambda: select.select([bench.link._socket], [], [], 0)[0])
        bench.link.finish()
        assert 1 < len(bench.received) <= 1 + MAX_FRAMES_AT_END
        assert bench.link._is_closed

    run(scenario)


def test_link_that_cannot_be_dialled_leaves_no_socket(run: Callable[[Scenario], None]) -> None:
    """Its worker is ended then, and another one is tried: a descriptor each would be many."""

    async def scenario(bench: LinkBench) -> None:
        bench.worker.send(encode(Pong(nonce=1)))
        await until(lambda: len(bench.received) == 1)  # or the bench's own connection would be counted
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(OSError, match="too long"):
            Link("ipc://" + "x" * 200, bench.received.append, bench.broken.append)
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    run(scenario)


def test_worker_that_died_before_it_was_dialled_is_no_offence(run: Callable[[Scenario], None]) -> None:
    """Its exit is reported in a moment; what is sent to it meanwhile goes nowhere."""

    async def scenario(bench: LinkBench) -> None:
        link = Link("ipc:///no/such/socket", bench.received.append, bench.broken.append)
        link.send(Ping(nonce=1))
        link.finish()
        assert bench.broken == []

    run(scenario)


def test_message_without_end_is_refused_at_its_first_part(run: Callable[[Scenario], None], short_dir: Path) -> None:
    """libzmq would keep all its parts, whatever its limits: 2 GiB in four seconds."""

    async def scenario(bench: LinkBench) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(short_dir / "raw"))
            listener.listen()
            Link(f"ipc://{short_dir}/raw", bench.received.append, bench.broken.append)
            hostile, _ = listener.accept()
            with hostile:
                hostile.sendall(GREETING + READY + b"\x03" + (65_536).to_bytes(8))
                await until(lambda: bool(bench.broken))
                assert "several frames" in bench.broken[0]
                with pytest.raises(OSError, match=r"Broken pipe|reset"):
                    hostile.sendall(b"x" * 65_536)
            (short_dir / "raw").unlink()

    run(scenario)


def test_link_closed_by_a_message_takes_no_more(run: Callable[[Scenario], None]) -> None:
    """Whoever hears may hang up."""

    async def scenario(bench: LinkBench) -> None:
        bench.on_message = lambda _: bench.link.close()
        for number in (1, 2, 3):
            bench.worker.send(encode(Pong(nonce=number)))
        await until(lambda: bool(bench.received))
        await asyncio.sleep(0.02)
        assert bench.received == [Pong(nonce=1)]
        assert bench.broken == []

    run(scenario)

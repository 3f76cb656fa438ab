"""A real worker process without its sandbox, and a test as its supervisor: dials, sends, and takes what comes.

Everything waits with a deadline. Log records are kept apart, so a test can wait for the message that it means.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
import zmq

from protocol.codec import decode_from_worker, encode
from protocol.messages import (
    BlockRef,
    Call,
    Decide,
    FromWorker,
    Hello,
    LogRecord,
    Message,
    Origin,
    TriggerKind,
    VaultRef,
    Welcome,
)
from protocol.trigger import DEFAULT_JOB
from protocol.values import Value
from tests.support.worker_harness import BOUND

M = TypeVar("M", bound=Message)

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 20.0
KEEP_WHAT_CAME = 3_600_000
"""RECONNECT_IVL: never within a test. Not -1, with which ZeroMQ throws away unread frames when the peer hangs up."""
NOW = datetime(2026, 11, 21, tzinfo=UTC)


class WorkerProcess:
    """The running worker; made by `start_worker`."""

    def __init__(self, process: "subprocess.Popen[bytes]", link: "zmq.Socket[bytes]", stderr: Path) -> None:
        self.process = process
        self.directory = stderr.parent
        self.logs: list[LogRecord] = []
        self._link = link
        self._stderr = stderr

    def send(self, *messages: Message) -> Self:
        """Send messages, in this order."""
        for message in messages:
            self.send_frame(encode(message))
        return self

    def send_frame(self, frame: bytes) -> None:
        """Send bytes as they are."""
        self._link.send(frame)

    def receive(self, kind: type[M]) -> M:
        """The next message that is no log record; it must be a `kind`."""
        while True:
            message = self.receive_any()
            if isinstance(message, LogRecord) and kind is not LogRecord:
                self.logs.append(message)
                continue
            assert isinstance(message, kind), f"{message}; stderr: {self.stderr}"
            return message

    def receive_any(self) -> FromWorker:
        """The next message."""
        assert self._link.poll(int(DEADLINE_S * 1000)), f"nothing came in {DEADLINE_S} s; stderr: {self.stderr}"
        return decode_from_worker(self._link.recv())

    def receive_frame(self) -> bytes:
        """The next frame as it is, message or not."""
        assert self._link.poll(int(DEADLINE_S * 1000)), f"nothing came in {DEADLINE_S} s; stderr: {self.stderr}"
        return self._link.recv()

    def has_frame_within(self, wait_s: float) -> bool:
        """Whether something comes in time."""
        return bool(self._link.poll(int(wait_s * 1000)))

    def open(self, **params: Any) -> Hello:
        """Take the Hello and send the Welcome."""
        hello = self.receive(Hello)
        self.send(Welcome(params=params))
        return hello

    def wait(self) -> int:
        """The exit code."""
        return self.process.wait(DEADLINE_S)

    def take_rest(self) -> list[FromWorker]:
        """All that comes until the worker has exited."""
        deadline = time.monotonic() + DEADLINE_S
        rest: list[FromWorker] = []
        while True:
            has_exited = self.process.poll() is not None
            # What it wrote last is in the kernel or in ZeroMQ's thread, which needs a moment to hand it over.
            if self._link.poll(100 if has_exited else 10):
                rest.append(decode_from_worker(self._link.recv()))
            elif has_exited:
                return rest
            assert time.monotonic() < deadline, f"it did not exit; stderr: {self.stderr}"

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self._stderr.read_text("utf-8", errors="replace")

    def wait_for_file(self, path: Path) -> None:
        """Until the plugin has made `path`: a fact outside the link."""
        deadline = time.monotonic() + DEADLINE_S
        while not path.exists():
            assert time.monotonic() < deadline, f"{path} was not made; stderr: {self.stderr}"
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"exit code {self.process.wait(0.005)} before {path} was made; stderr: {self.stderr}")


@contextmanager
def start_worker(
    directory: Path, value: str, *, kind: str = "path", generation: int = 1, queue: int = 0
) -> Iterator[WorkerProcess]:
    """A worker for the plugin `value`, with its link in `directory` (a short path). Killed at the end if it lives.

    `queue`: how many messages may wait for the test, beside those in the kernel. 0: no bound, for a full ZeroMQ queue
    loses what is still in the kernel when its peer hangs up.
    """
    address, stderr = f"ipc://{directory}/link", directory / "stderr"
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    argv = [sys.executable, "-m", "tests.support.worker_harness", address, kind, value, str(generation)]
    with (
        stderr.open("wb") as errors,
        subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode().strip()
            assert line == BOUND, f"the harness did not start: {stderr.read_text('utf-8')}"
            link = context.socket(zmq.DEALER)
            link.setsockopt(zmq.RECONNECT_IVL, KEEP_WHAT_CAME)
            link.setsockopt(zmq.RCVHWM, queue)
            link.connect(address)
            yield WorkerProcess(process, link, stderr)
        finally:
            process.kill()
            context.destroy(linger=0)
    (directory / "link").unlink(missing_ok=True)


def decide(
    call_id: int = 1,
    *,
    attempt: int = 1,
    payload: str = "",
    job: str = DEFAULT_JOB,
    reads: dict[str, Value] | None = None,
) -> Decide:
    """A call with nothing special about it."""
    return Decide(
        call=Call(
            id=call_id,
            attempt=attempt,
            trigger=TriggerKind.MANUAL,
            topic=None,
            payload=payload,
            due_at=NOW,
            fired_at=NOW,
            origin=Origin(source="test", id="test 1", principal="test"),
            job=job,
        ),
        now=NOW,
        block=BlockRef(number=1, hash="0x01", timestamp=1),
        vault=VaultRef(name="demo", address="0x02", chain_id=31337, actions=("mint",)),
        reads=reads or {},
    )

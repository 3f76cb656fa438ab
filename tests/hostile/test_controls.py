"""The controls of floods and forgeries: in a worker without sandbox and supervisor the same deeds come through.

The worker is the real one (`tests.support.worker_harness`), the test reads its link and believes everything.
"""

import json
import os
from collections.abc import Iterator

import pytest

from protocol.limits import MAX_FRAME_BYTES
from protocol.messages import Decision, LogRecord
from tests.hostile.conftest import MEMORY_MIB, PLUGINS
from tests.hostile.plugins.forger import FRAMES, costly_frame, decision, keys_twice
from tests.hostile.test_floods import MANY, MAX_LINES
from tests.support.short_dir import make_short_dir
from tests.support.worker_process import WorkerProcess, decide, start_worker

pytestmark = pytest.mark.hostile


@pytest.fixture(scope="module")
def anarchist() -> Iterator[WorkerProcess]:
    """At large."""
    yield from _at_large("anarchist")


@pytest.fixture(scope="module")
def forger() -> Iterator[WorkerProcess]:
    """At large."""
    yield from _at_large("forger")


def _at_large(name: str) -> Iterator[WorkerProcess]:
    with make_short_dir() as directory, start_worker(directory, str(PLUGINS[name]["path"])) as worker:
        worker.open()
        yield worker


@pytest.mark.parametrize(
    "deed, asked",
    [
        ("hoard_memory", {"most": 2 * MEMORY_MIB}),
        ("hoard_memory_in_c", {"most": 2 * MEMORY_MIB}),
        ("hoard_threads", {"most": MANY}),
        ("hoard_descriptors", {"most": MANY}),
        ("flood_with_denials", {"calls": 5_000}),
    ],
)
def test_outside_a_hoarder_gets_all_that_it_wants(anarchist: WorkerProcess, deed: str, asked: dict[str, int]) -> None:
    """More than a worker's limit, and it lives to say so."""
    anarchist.send(decide(payload=json.dumps({"do": deed, **asked})))

    answer = anarchist.receive(Decision)
    assert answer.outcome.reason == "did it"  # type: ignore[union-attr]


def test_outside_a_spinning_worker_competes_with_everybody(anarchist: WorkerProcess) -> None:
    """With the priority of everybody else."""
    assert os.sched_getscheduler(anarchist.process.pid) == os.SCHED_OTHER


def test_outside_every_line_of_a_flood_arrives(anarchist: WorkerProcess) -> None:
    """Many more than the supervisor would log."""
    lines = 2 * MAX_LINES
    anarchist.send(decide(payload=json.dumps({"do": "flood_the_log", "lines": lines})))

    anarchist.logs.clear()
    anarchist.receive(Decision)
    while len(anarchist.logs) < lines:
        anarchist.logs.append(anarchist.receive(LogRecord))
    assert anarchist.logs[-1].message.startswith(f"flood {lines - 1} ")


def test_outside_every_byte_of_stdout_arrives(anarchist: WorkerProcess) -> None:
    """A line without an end, and lines without number: somebody has to take all of it."""
    lines = 2 * MAX_LINES
    anarchist.send(decide(payload=json.dumps({"do": "flood_stdout", "bytes": 1 << 20, "lines": lines})))

    assert anarchist.process.stdout is not None
    assert anarchist.process.stdout.read(1 << 20) == b"y" * (1 << 20)
    assert [anarchist.process.stdout.readline() for _ in range(lines)][-1] == b"flood %d\n" % (lines - 1)
    anarchist.receive(Decision)


@pytest.mark.parametrize("frame", FRAMES)
def test_outside_a_forged_frame_is_on_the_wire(forger: WorkerProcess, frame: str) -> None:
    """As it was written, before the worker's own answer: a reader that believes it would have it."""
    forger.send(decide(7, payload=json.dumps({"do": "forge", "frame": frame})))

    for expected in FRAMES[frame](7):
        assert forger.receive_frame() == expected
    assert isinstance(forger.receive_any(), Decision)


@pytest.mark.parametrize(
    "deed, sizes",
    [
        ("send_several_frames", [len(decision(7)), len(b"more")]),
        ("send_a_giant_frame", [MAX_FRAME_BYTES + 1]),
        ("send_keys_twice", [len(keys_twice(7))]),
    ],
)
def test_outside_frames_of_every_shape_are_on_the_wire(forger: WorkerProcess, deed: str, sizes: list[int]) -> None:
    """Larger than a frame may be, or more than one to a message."""
    forger.send(decide(7, payload=json.dumps({"do": deed})))

    assert [len(forger.receive_frame()) for _ in sizes] == sizes
    assert isinstance(forger.receive_any(), Decision)


def test_outside_frames_come_without_end(forger: WorkerProcess) -> None:
    """Each as large as a frame may be."""
    forger.send(decide(7, payload=json.dumps({"do": "flood_with_frames", "kind": "pong", "frames": 200})))

    for _ in range(200):
        assert len(forger.receive_frame()) == MAX_FRAME_BYTES
    assert isinstance(forger.receive_any(), Decision)
    assert len(costly_frame("integers")) <= MAX_FRAME_BYTES

"""What becomes of calls of one trigger that overlap: the desk against a model that looks at every call, each time."""

from dataclasses import dataclass, field, replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.trigger import Overlap
from runnerd.store.calls import JobCall
from runnerd.supervisor.desk import Desk
from tests.support.calls import job_call

PARALLEL = 3
QUEUE = 4


def call_of(call_id: int, overlap: Overlap, source: str = "every 1 s", attempts: int = 0) -> JobCall:
    return job_call(call_id, attempts=attempts, source=source, overlap=overlap)


def taken(desk: Desk) -> list[int]:
    """Take all that may start."""
    ids = []
    while (call := desk.take(0.0)) is not None:
        ids.append(call.id)
    return ids


@dataclass
class Model:
    """The rules, in as few words as they can be said."""

    waiting: dict[int, JobCall] = field(default_factory=dict)
    running: dict[int, JobCall] = field(default_factory=dict)
    superseded: dict[int, int] = field(default_factory=dict)

    def older(self, call: JobCall, among: dict[int, JobCall]) -> list[int]:
        return [other.id for other in among.values() if other.source == call.source and other.id < call.id]

    def superseded_by(self, call: JobCall) -> list[int]:
        coalescing = {other.id: other for other in self.waiting.values() if other.overlap == "coalesce"}
        return self.older(call, coalescing)

    def put(self, call: JobCall) -> bool:
        freed = self.superseded_by(call) if call.overlap == "coalesce" else []
        if len(self.waiting) - len(freed) >= QUEUE:
            return False
        self.put_back(call)
        return True

    def put_back(self, call: JobCall) -> None:
        self.waiting[call.id] = call
        for newest in sorted(self.waiting):
            if self.waiting[newest].overlap == "coalesce":
                for older in self.superseded_by(self.waiting[newest]):
                    self.superseded[older] = newest
        for older in self.superseded:
            self.waiting.pop(older, None)

    def take(self) -> int | None:
        for call in sorted(self.waiting.values(), key=lambda call: call.id):
            is_beside = any(other.source == call.source for other in self.running.values())
            if call.overlap == "parallel" or not (is_beside or self.older(call, self.waiting)):
                suspects = [other for other in self.running.values() if other.attempts]
                if len(self.running) == PARALLEL or suspects or (call.attempts and self.running):
                    return None
                self.running[call.id] = self.waiting.pop(call.id)
                return call.id
        return None


class Pair:
    """The desk and the model through the same steps; they must agree after each."""

    def __init__(self) -> None:
        self.desk, self.model = Desk(PARALLEL, QUEUE), Model()
        self.count = 0
        self.superseded: dict[int, int] = {}
        self.gone: set[int] = set()

    def step(self, step: str) -> None:
        kind, _, rest = step.partition(" ")
        match kind:
            case "put":
                source, _, overlap = rest.partition(" ")
                self.count += 1
                call = call_of(self.count, overlap, source)  # type: ignore[arg-type]  # one of them
                is_taken = self.desk.put(call)
                assert is_taken == self.model.put(call)
                if not is_taken:
                    self.gone.add(call.id)
            case "take":
                call_id = self.model.take()
                got = self.desk.take(0.0)
                assert (got.id if got is not None else None) == call_id
            case "end" if self.model.running:
                oldest = min(self.model.running)
                del self.model.running[oldest]
                assert self.desk.end(oldest) is not None
                self.gone.add(oldest)
            case "crash":
                running = [replace(call, attempts=call.attempts + 1) for call in self.model.running.values()]
                self.model.running.clear()
                for call in running:
                    self.desk.end(call.id)
                self.desk.put_back(*running)
                for call in running:
                    self.model.put_back(call)
            case _:
                pass  # nothing runs that could end
        self.superseded |= {superseded.call.id: superseded.by for superseded in self.desk.take_superseded()}
        self.check()

    def check(self) -> None:
        assert self.superseded.keys() == self.model.superseded.keys()
        assert all(by > call_id for call_id, by in self.superseded.items())
        assert self.desk.waiting == len(self.model.waiting)
        assert self.desk.running.keys() == self.model.running.keys()
        for source in "ab":
            is_open = any(call.source == source for call in (self.model.waiting | self.model.running).values())
            assert self.desk.is_open(source, "decide") is is_open
        everywhere = [*self.model.waiting, *self.model.running, *self.superseded, *self.gone]
        assert sorted(everywhere) == list(range(1, self.count + 1)), "each call is in exactly one place"


def test_every_short_sequence_of_one_trigger_is_as_the_model_has_it() -> None:
    """All 46,656 sequences of six steps."""
    steps = ("put a parallel", "put a queue", "put a coalesce", "take", "end", "crash")
    for sequence in product(steps, repeat=6):
        pair = Pair()
        for step in sequence:
            pair.step(step)


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.builds(
                "put {} {}".format, st.sampled_from("ab"), st.sampled_from(["parallel", "queue", "coalesce", "skip"])
            ),
            st.sampled_from(["take", "take", "end", "crash"]),
        ),
        max_size=80,
    )
)
def test_long_sequences_of_two_triggers_are_as_the_model_has_it(sequence: list[str]) -> None:
    """Also of a trigger whose policy was changed while calls waited."""
    pair = Pair()
    for step in sequence:
        pair.step(step)
    for _ in range(pair.count):  # and all that wait come to their turn
        pair.step("take")
        pair.step("end")
    assert pair.desk.waiting == 0


def test_queued_calls_of_one_trigger_are_decided_one_by_one_and_hold_up_no_other_trigger() -> None:
    """In order; the places beside are for others."""
    desk = Desk(parallel=3, queue=10)
    for call_id in (1, 2, 3):
        desk.put(call_of(call_id, "queue"))
    desk.put(call_of(4, "queue", "other"))
    assert taken(desk) == [1, 4]
    desk.end(1)
    assert taken(desk) == [2]
    desk.end(4)
    assert taken(desk) == []
    desk.end(2)
    assert taken(desk) == [3]


def test_of_coalescing_calls_that_wait_the_newest_is_decided() -> None:
    """What runs ends in peace; what waits is superseded, and says by which."""
    desk = Desk(parallel=3, queue=10)
    desk.put(call_of(1, "coalesce"))
    assert taken(desk) == [1]
    for call_id in (2, 3, 4):
        desk.put(call_of(call_id, "coalesce"))
    assert [(one.call.id, one.by) for one in desk.take_superseded()] == [(2, 3), (3, 4)]
    assert taken(desk) == []
    desk.end(1)
    assert taken(desk) == [4]
    assert desk.take_superseded() == []


@pytest.mark.parametrize("overlap", ["queue", "coalesce"])
def test_call_whose_worker_ended_is_not_decided_beside_a_newer_one(overlap: Overlap) -> None:
    """It is taken back: it goes first, or the newer one is decided in its place."""
    desk = Desk(parallel=3, queue=10)
    desk.put(call_of(1, overlap))
    assert taken(desk) == [1]
    desk.put(call_of(2, overlap))
    ended = desk.end(1)
    assert ended is not None
    desk.put_back(call_of(1, overlap, attempts=1))
    assert taken(desk) == ([1] if overlap == "queue" else [2])
    assert [one.call.id for one in desk.take_superseded()] == ([] if overlap == "queue" else [1])


def test_coalescing_call_finds_the_place_of_the_one_it_supersedes() -> None:
    """A full queue is full of others' calls, or of older ones: only the first refuses."""
    desk = Desk(parallel=1, queue=2)
    for call_id in (1, 2):
        assert desk.put(call_of(call_id, "parallel", "other"))
    assert not desk.put(call_of(3, "coalesce"))
    assert taken(desk) == [1]
    assert desk.put(call_of(4, "coalesce"))
    assert desk.waiting_beside("every 1 s", "decide", "coalesce") == 1
    assert desk.put(call_of(5, "coalesce"))
    assert [(one.call.id, one.by) for one in desk.take_superseded()] == [(4, 5)]


def test_jobs_of_one_source_do_not_wait_for_each_other() -> None:
    """A trigger is named by both."""
    desk = Desk(parallel=3, queue=10)
    desk.put(call_of(1, "queue"))
    desk.put(replace(call_of(2, "queue"), job="settle"))
    assert taken(desk) == [1, 2]


def test_expired_call_lets_the_next_of_its_trigger_start() -> None:
    """It was the one that they waited for."""
    desk = Desk(parallel=3, queue=10)
    desk.put(replace(call_of(1, "queue"), deadline_at=job_call(1).fired_at))
    desk.put(call_of(2, "queue"))
    assert [call.id for call in desk.take_expired(job_call(1).fired_at)] == [1]
    assert taken(desk) == [2]


@pytest.mark.parametrize("overlap", ["parallel", "queue", "coalesce"])
def test_desk_of_a_plugin_that_never_rests_does_not_grow(overlap: Overlap) -> None:
    """Neither its heap nor what it knows of triggers."""
    desk = Desk(parallel=2, queue=50)
    for call_id in range(1, 20_000):
        desk.put(call_of(call_id, overlap, f"source {call_id % 3}"))
        while desk.take(0.0) is not None:
            pass
        if call_id % 5:
            desk.end(min(desk.running))
        desk.take_superseded()
    assert len(desk._next) <= 200
    assert len(desk._lanes) <= 3
